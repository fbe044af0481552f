//! What the model APIs do differently: which headers pass, which calls cost nothing, how a refusal looks, and which error means the key.
//!
//! Pure, no I/O. How they count tokens is in [`super::metering`], how a request says what it may cost in [`super::asked`].

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::config::ApiForm;

/// Headers of a request that pass, beside those every API has.
pub(super) const fn request_headers(form: ApiForm) -> &'static [&'static str] {
    match form {
        ApiForm::Gemini => &["x-goog-api-client"],
        ApiForm::Anthropic => &["anthropic-version", "anthropic-beta"],
        ApiForm::Openai => &["openai-beta", "openai-organization", "openai-project"],
    }
}

/// Whether this part of a query passes. A key has no business there, and `fields` or `alt=proto` would hide the token counts from us.
pub(super) fn passes_in_query(form: ApiForm, pair: &str) -> bool {
    match form {
        ApiForm::Gemini => matches!(pair, "alt=sse" | "alt=json"),
        ApiForm::Anthropic => pair == "beta=true",
        ApiForm::Openai => false,
    }
}

/// Whether a call of this path costs tokens.
pub(super) fn costs(form: ApiForm, path: &str) -> bool {
    match form {
        ApiForm::Gemini => !path.ends_with(":countTokens"),
        ApiForm::Anthropic => !path.ends_with("/count_tokens"),
        ApiForm::Openai => true,
    }
}

/// A refusal of ours, as the API would put it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words<'a> {
    /// The status.
    pub code: StatusCode,
    /// Its name in the Gemini API.
    pub status: &'a str,
    /// What people read.
    pub message: &'a str,
    /// No repetition of the call has any hope: the agent should end its turn, not wait and try again.
    pub hopeless: bool,
}

/// The whole answer.
pub(super) fn refusal(form: ApiForm, words: Words<'_>) -> Response<Bytes> {
    let Words { code, status, message, hopeless } = words;
    // Gemini CLI takes any 429 for a crowd at the door and comes again for minutes. One that names a quota of a day it believes, but from then on it
    // holds the model for gone, and its next turn asks for another one without end, twenty times a second. A 403 ends its turn at once, each time.
    let (code, status) = match form {
        ApiForm::Gemini if hopeless => (StatusCode::FORBIDDEN, "PERMISSION_DENIED"),
        _ => (code, status),
    };
    let error = match form {
        ApiForm::Gemini => {
            let mut error = json!({"error": {"code": code.as_u16(), "message": message, "status": status}});
            if hopeless {
                let kind = "type.googleapis.com/google.rpc.ErrorInfo";
                error["error"]["details"] =
                    json!([{"@type": kind, "reason": "BUDGET_EXHAUSTED", "domain": "greenroom"}]);
            }
            error
        }
        ApiForm::Anthropic => {
            let kind = match code {
                StatusCode::UNAUTHORIZED => "authentication_error",
                StatusCode::FORBIDDEN => "permission_error",
                StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
                StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
                code if code.is_server_error() => "api_error",
                _ => "invalid_request_error",
            };
            json!({"type": "error", "error": {"type": kind, "message": message}})
        }
        ApiForm::Openai => {
            let (kind, name) = match code {
                StatusCode::UNAUTHORIZED => ("invalid_request_error", json!("invalid_api_key")),
                StatusCode::FORBIDDEN => ("invalid_request_error", json!("forbidden")),
                StatusCode::TOO_MANY_REQUESTS if hopeless => ("insufficient_quota", json!("insufficient_quota")),
                StatusCode::TOO_MANY_REQUESTS => ("requests", json!("rate_limit_exceeded")),
                code if code.is_server_error() => ("server_error", Value::Null),
                _ => ("invalid_request_error", Value::Null),
            };
            json!({"error": {"message": message, "type": kind, "param": null, "code": name}})
        }
    };
    let mut answer = Response::new(Bytes::from(error.to_string()));
    *answer.status_mut() = code;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=UTF-8"));
    if hopeless && form != ApiForm::Gemini {
        // The clients of both houses ask for this before they look at the status.
        answer.headers_mut().insert("x-should-retry", HeaderValue::from_static("false"));
    }
    answer
}

/// Whether a model's error says that the key is no good, now and for any call.
pub(super) fn refuses_key(form: ApiForm, status: StatusCode, text: &[u8]) -> bool {
    match (form, status) {
        (_, StatusCode::UNAUTHORIZED) => true,
        (ApiForm::Gemini, StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN) => gemini_refuses_key(text),
        _ => false,
    }
}

/// Reasons that aren't about one model or one place.
fn gemini_refuses_key(text: &[u8]) -> bool {
    let Ok(error) = serde_json::from_slice::<Value>(text) else { return false };
    // A stream that isn't server-sent events answers with a list, also where it fails.
    let error = &error.get(0).unwrap_or(&error)["error"];
    let reasons = error["details"].as_array().into_iter().flatten().filter_map(|detail| detail["reason"].as_str());
    let about_the_key = |reason: &str| reason.starts_with("API_KEY_") || reason.starts_with("CONSUMER_");
    let said = error["message"].as_str().unwrap_or_default().to_ascii_lowercase();
    let unregistered = error["status"] == "PERMISSION_DENIED"
        && ["api key", "unregistered callers", "has been suspended"].iter().any(|words| said.contains(words));
    reasons.into_iter().any(about_the_key) || unregistered
}

#[cfg(test)]
mod tests;
