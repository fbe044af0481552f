//! A template's model API: which house it is of, and what follows from that.

use serde::{Deserialize, Serialize};

/// Tokens a model writes at most in one call where neither the request nor the template says so.
const MAX_OUTPUT_TOKENS: u64 = 65_536;

/// Whose API it is: its paths, its headers, its errors and how it counts tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ApiForm {
    /// The Gemini API.
    #[default]
    Gemini,
    /// Anthropic's Messages API.
    Anthropic,
    /// OpenAI's APIs, Chat Completions and Responses, and those that are like them.
    Openai,
}

impl ApiForm {
    const fn base_url(self) -> &'static str {
        match self {
            Self::Gemini => "https://generativelanguage.googleapis.com",
            Self::Anthropic => "https://api.anthropic.com",
            Self::Openai => "https://api.openai.com",
        }
    }

    /// The calls that agents make.
    fn paths(self) -> Vec<String> {
        let own = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
        match self {
            Self::Gemini => ["v1beta", "v1beta1", "v1"]
                .iter()
                .flat_map(|version| {
                    ["streamGenerateContent", "generateContent", "countTokens"]
                        .map(|call| format!("/{version}/models/*:{call}"))
                })
                .collect(),
            Self::Anthropic => own(&["/v1/messages", "/v1/messages/count_tokens"]),
            Self::Openai => own(&["/v1/chat/completions", "/v1/responses"]),
        }
    }

    const fn key_header(self) -> &'static str {
        match self {
            Self::Gemini => "x-goog-api-key",
            Self::Anthropic => "x-api-key",
            Self::Openai => "authorization",
        }
    }
}

/// The model API an agent may reach through the gateway.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(from = "Written")]
pub struct ModelApi {
    /// `gemini`, `anthropic` or `openai`: decides what the other settings are where they aren't set. Default `gemini`.
    pub api: ApiForm,
    /// Scheme and host, such as `https://generativelanguage.googleapis.com`.
    pub base_url: String,
    /// Paths that are let through: a prefix up to `*`, then a suffix. Default: the calls that agents make of this API.
    pub paths: Vec<String>,
    /// The header that carries the key; in `authorization` behind `Bearer`.
    pub key_header: String,
    /// Tokens the model writes at most in one call that doesn't say so itself: what is reserved of a budget. Default 65536.
    pub max_output_tokens: u64,
}

impl Default for ModelApi {
    fn default() -> Self {
        Self::of(ApiForm::default())
    }
}

impl ModelApi {
    /// The API of this house, as it is by default.
    #[must_use]
    pub fn of(api: ApiForm) -> Self {
        Self {
            api,
            base_url: api.base_url().to_owned(),
            paths: api.paths(),
            key_header: api.key_header().to_owned(),
            max_output_tokens: MAX_OUTPUT_TOKENS,
        }
    }
}

/// What is written down of a [`ModelApi`].
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Written {
    api: ApiForm,
    base_url: Option<String>,
    paths: Option<Vec<String>>,
    key_header: Option<String>,
    max_output_tokens: Option<u64>,
}

impl From<Written> for ModelApi {
    fn from(written: Written) -> Self {
        let Written { api, base_url, paths, key_header, max_output_tokens } = written;
        let usual = Self::of(api);
        Self {
            api,
            base_url: base_url.unwrap_or(usual.base_url),
            paths: paths.unwrap_or(usual.paths),
            key_header: key_header.unwrap_or(usual.key_header),
            max_output_tokens: max_output_tokens.unwrap_or(usual.max_output_tokens),
        }
    }
}
