//! What a request asks for: the parts of a Gemini API request that the stub looks at.

use serde::Deserialize;
use serde_json::Value;

/// How the part begins that Gemini CLI puts before a session's first prompt.
const CONTEXT: &str = "<session_context>";

/// A request of `generateContent`, `streamGenerateContent` or `countTokens`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Request {
    contents: Vec<Content>,
    generation_config: GenerationConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Content {
    role: Option<String>,
    parts: Vec<Part>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Part {
    text: Option<String>,
    function_response: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct GenerationConfig {
    response_mime_type: Option<String>,
    response_json_schema: Option<Value>,
    response_schema: Option<Value>,
}

/// The user's last prompt and how many tool results have come since.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Prompt {
    /// All its text.
    pub text: String,
    /// Tool results that came after it.
    pub results: usize,
}

impl Request {
    /// The prompt this request is about: the last thing the user said that is not a tool's result.
    pub fn prompt(&self) -> Prompt {
        let mut results = 0;
        for content in self.contents.iter().rev().filter(|content| content.role.as_deref() != Some("model")) {
            let answered = content.parts.iter().filter(|part| part.function_response.is_some()).count();
            if answered == 0 {
                let texts = content.parts.iter().filter_map(|part| part.text.as_deref());
                let said: Vec<_> = texts.filter(|text| !text.trim_start().starts_with(CONTEXT)).collect();
                return Prompt { text: said.join("\n"), results };
            }
            results += answered;
        }
        Prompt { text: String::new(), results }
    }

    /// The schema of the JSON that is asked for; `{}` when any JSON will do; none when prose is.
    pub fn schema(&self) -> Option<Value> {
        let config = &self.generation_config;
        let schema = config.response_json_schema.as_ref().or(config.response_schema.as_ref());
        match (schema, config.response_mime_type.as_deref()) {
            (Some(schema), _) => Some(schema.clone()),
            (None, Some("application/json")) => Some(Value::Object(serde_json::Map::new())),
            _ => None,
        }
    }

    /// A number of tokens that grows with the text: about four bytes each.
    pub fn tokens(&self) -> u64 {
        let parts = self.contents.iter().flat_map(|content| &content.parts);
        let bytes: usize = parts.filter_map(|part| part.text.as_ref()).map(String::len).sum();
        (bytes as u64).div_ceil(4)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(value: Value) -> Request {
        serde_json::from_value(value).expect("a request")
    }

    #[test]
    fn the_prompt_is_what_the_user_said_last() {
        let request = request(json!({"contents": [
            {"role": "user", "parts": [{"text": "earlier"}]},
            {"role": "model", "parts": [{"text": "yes?"}]},
            {"role": "user", "parts": [{"text": "<session_context>a"}, {"text": "now"}, {"text": "this"}]},
            {"role": "model", "parts": [{"functionCall": {"name": "a"}}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "a"}}, {"text": "a note"}]},
        ]}));
        assert_eq!(request.prompt(), Prompt { text: "now\nthis".to_owned(), results: 1 });
        assert!(request.schema().is_none() && request.tokens() > 0);
    }

    #[test]
    fn a_wish_for_json_is_seen() {
        let config = json!({"generationConfig": {"responseMimeType": "application/json"}});
        assert_eq!(request(config).schema(), Some(json!({})));
        let config = json!({"generationConfig": {"responseJsonSchema": {"type": "object"}}});
        assert_eq!(request(config).schema(), Some(json!({"type": "object"})));
    }
}
