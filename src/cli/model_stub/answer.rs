//! Writes answers in the Gemini API's form. Pure.

use serde_json::{Map, Value, json};

use super::script::ToolCall;

/// Deepest schema that is followed.
const DEPTH: usize = 16;

/// What an answer's pieces have in common.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    /// The model that was called.
    pub model: String,
    /// Tokens of the request.
    pub input: u64,
}

impl Answer {
    /// One piece: `part`, the tokens written so far, and whether it is the last.
    fn piece(&self, part: Value, written: u64, last: bool) -> Value {
        let mut candidate = json!({"content": {"role": "model", "parts": [part]}, "index": 0});
        if last {
            candidate["finishReason"] = "STOP".into();
        }
        json!({
            "candidates": [candidate],
            "usageMetadata": {
                "promptTokenCount": self.input,
                "candidatesTokenCount": written,
                "totalTokenCount": self.input + written,
            },
            "modelVersion": self.model,
            "responseId": "stub",
        })
    }

    /// A piece of text.
    pub fn text(&self, text: &str, written: u64, last: bool) -> Value {
        self.piece(json!({"text": text}), written, last)
    }

    /// A thought.
    pub fn thought(&self, text: &str) -> Value {
        self.piece(json!({"text": text, "thought": true}), 0, false)
    }

    /// A wish for a tool; the end of an answer.
    pub fn call(&self, call: &ToolCall) -> Value {
        self.piece(json!({"functionCall": {"name": call.name, "args": call.args}}), 8, true)
    }
}

/// A failure.
pub(super) fn error(code: u16, message: &str) -> Value {
    let status = match code {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        _ => "INTERNAL",
    };
    json!({"error": {"code": code, "message": message, "status": status}})
}

/// What the API says to a wrong key.
pub(super) fn wrong_key() -> Value {
    let mut error = error(400, "API key not valid. Please pass a valid API key.");
    error["error"]["details"] = json!([{
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "API_KEY_INVALID",
        "domain": "googleapis.com",
    }]);
    error
}

/// What the API says to a suspended key: with the key, in two places.
pub(super) fn suspended_key(key: &str) -> Value {
    let consumer = format!("api_key:{key}");
    let mut error = error(403, &format!("Permission denied: Consumer '{consumer}' has been suspended."));
    error["error"]["details"] = json!([{
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "CONSUMER_SUSPENDED",
        "domain": "googleapis.com",
        "metadata": {"service": "generativelanguage.googleapis.com", "containerInfo": consumer},
    }]);
    error
}

/// The smallest value that fits a JSON schema: what an agent's side questions (which model, who speaks next) are answered with.
pub(super) fn fitting(schema: &Value) -> Value {
    fit(schema, DEPTH)
}

fn fit(schema: &Value, depth: usize) -> Value {
    if depth == 0 {
        return Value::Null;
    }
    if let Some(value) = schema.get("const").or_else(|| schema.get("enum")?.get(0)) {
        return value.clone();
    }
    if let Some(one) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(|all| all.get(0)) {
        return fit(one, depth - 1);
    }
    let kind = schema.get("type").map(|kind| kind.get(0).unwrap_or(kind)).and_then(Value::as_str).unwrap_or("object");
    match kind.to_ascii_lowercase().as_str() {
        "string" => "as scripted".into(),
        // Scores count from 1, confidences from 0.
        "integer" => schema.get("minimum").cloned().unwrap_or_else(|| 1.into()),
        "number" => schema.get("minimum").cloned().unwrap_or_else(|| 0.into()),
        "boolean" => false.into(),
        "array" => Value::Array(Vec::new()),
        "null" => Value::Null,
        _ => {
            let required =
                schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
            let fields = required.map(|name| {
                let field = schema.get("properties").and_then(|fields| fields.get(name));
                (name.to_owned(), field.map_or(Value::Null, |field| fit(field, depth - 1)))
            });
            Value::Object(fields.collect::<Map<_, _>>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn side_questions_get_an_answer_that_fits() {
        let schema = json!({
            "type": "OBJECT",
            "properties": {
                "reasoning": {"type": "STRING"},
                "model_choice": {"type": "STRING", "enum": ["flash", "pro"]},
                "complexity_score": {"type": "INTEGER"},
                "confidence": {"type": "number"},
                "optional": {"type": "string"},
            },
            "required": ["reasoning", "model_choice", "complexity_score", "confidence"],
        });
        let answer =
            json!({"reasoning": "as scripted", "model_choice": "flash", "complexity_score": 1, "confidence": 0});
        assert_eq!(fitting(&schema), answer);
        assert_eq!(fitting(&json!({})), json!({}));
    }
}
