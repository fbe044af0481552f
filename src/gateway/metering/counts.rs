//! What the objects of counts say.

use serde::{Deserialize, de::DeserializeOwned};

use crate::config::ApiForm;

/// The counts of one answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::gateway) struct Counts {
    /// Tokens read: prompt, tool results, and what was cached of them.
    pub input: u64,
    /// Tokens written: answer and thoughts.
    pub output: u64,
}

/// Whether an API counts what it has written as it goes; else the count comes with the end of a stream.
pub(in crate::gateway) const fn run_along(form: ApiForm) -> bool {
    matches!(form, ApiForm::Gemini)
}

/// As in the Gemini API's `UsageMetadata`; cached tokens are part of the prompt's.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Gemini {
    prompt_token_count: Option<u64>,
    tool_use_prompt_token_count: Option<u64>,
    candidates_token_count: Option<u64>,
    thoughts_token_count: Option<u64>,
}

/// As in Anthropic's `Usage`: cached tokens are counted beside those of the input.
#[derive(Deserialize)]
struct Anthropic {
    input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    output_tokens: Option<u64>,
}

/// As in OpenAI's Chat Completions and in its Responses; both have cached and reasoning tokens as parts of these.
#[derive(Deserialize)]
struct Openai {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
}

/// The parts that come to the counts.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum {
    input: [Option<u64>; 3],
    output: [Option<u64>; 2],
}

impl Sum {
    /// Reads an object of counts, which comes after the `former` one. None: it isn't one.
    pub fn read(form: ApiForm, text: &[u8], former: Option<Self>) -> Option<Self> {
        fn parse<T: DeserializeOwned>(text: &[u8]) -> Option<T> {
            serde_json::from_slice(text).ok()
        }
        let found = match form {
            ApiForm::Gemini => {
                let usage: Gemini = parse(text)?;
                // Each object has all of them.
                return Some(Self {
                    input: [usage.prompt_token_count, usage.tool_use_prompt_token_count, None],
                    output: [usage.candidates_token_count, usage.thoughts_token_count],
                });
            }
            ApiForm::Anthropic => {
                let usage: Anthropic = parse(text)?;
                let cached = [usage.cache_creation_input_tokens, usage.cache_read_input_tokens];
                Self { input: [usage.input_tokens, cached[0], cached[1]], output: [usage.output_tokens, None] }
            }
            ApiForm::Openai => {
                let usage: Openai = parse(text)?;
                let input = usage.prompt_tokens.or(usage.input_tokens);
                Self { input: [input, None, None], output: [usage.completion_tokens.or(usage.output_tokens), None] }
            }
        };
        // The end of a stream repeats only what has changed.
        let former = former.unwrap_or_default();
        let later = |now: Option<u64>, before: Option<u64>| now.or(before);
        Some(Self {
            input: std::array::from_fn(|at| later(found.input[at], former.input[at])),
            output: std::array::from_fn(|at| later(found.output[at], former.output[at])),
        })
    }

    pub fn counts(self) -> Counts {
        let sum = |parts: &[Option<u64>]| parts.iter().flatten().fold(0, |sum: u64, part| sum.saturating_add(*part));
        Counts { input: sum(&self.input), output: sum(&self.output) }
    }
}
