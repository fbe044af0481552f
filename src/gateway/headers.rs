//! Which headers cross the gateway. Both ways an allow-list: what isn't named here stays behind.
//!
//! From the sandbox that drops every key it may have (`x-goog-api-key`, `authorization`, `cookie`, `proxy-*`), everything
//! hop-by-hop, `accept-encoding` (the answer has to be readable for metering), and what would let an agent choose an answer without
//! token counts (`accept`, `x-goog-fieldmask`, `x-http-method-override`). Lengths are left to the bodies.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{self, InvalidHeaderValue},
};
use secrecy::ExposeSecret as _;

use super::{ModelKey, form};
use crate::config::ApiForm;

const TO_THE_MODEL: [HeaderName; 3] = [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::USER_AGENT];

const TO_THE_AGENT: [HeaderName; 5] =
    [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CONTENT_LANGUAGE, header::DATE, header::RETRY_AFTER];

/// The headers of a request as the model sees them, but for host and key.
pub(super) fn to_the_model(form: ApiForm, from: &HeaderMap) -> HeaderMap {
    let mut headers = pick(from, &TO_THE_MODEL);
    let own = form::request_headers(form).iter().copied().map(HeaderName::from_static);
    headers.extend(own.filter_map(|name| Some((from.get(&name)?.clone(), name))).map(|(value, name)| (name, value)));
    headers
}

/// The headers of an answer as the agent sees them.
pub(super) fn to_the_agent(from: &HeaderMap) -> HeaderMap {
    pick(from, &TO_THE_AGENT)
}

fn pick(from: &HeaderMap, names: &[HeaderName]) -> HeaderMap {
    names.iter().filter_map(|name| Some((name.clone(), from.get(name)?.clone()))).collect()
}

/// The key as the value of its header, marked so that no `Debug` prints it.
pub(super) fn key_value(header: &HeaderName, key: &ModelKey) -> Result<HeaderValue, InvalidHeaderValue> {
    let key = key.0.expose_secret();
    let mut value = match *header {
        header::AUTHORIZATION => HeaderValue::try_from(format!("Bearer {key}"))?,
        _ => HeaderValue::from_str(key)?,
    };
    value.set_sensitive(true);
    Ok(value)
}

/// Whether a request's body is JSON. Anything else might be answered in a form we can't read the token counts from.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(value)) = headers.get(header::CONTENT_TYPE).map(HeaderValue::to_str) else { return false };
    let media_type = value.split(';').next().unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn nothing_but_the_named_headers_crosses() {
        let mut from = HeaderMap::new();
        for name in [
            "x-goog-api-key",
            "authorization",
            "x-api-key",
            "cookie",
            "proxy-authorization",
            "connection",
            "transfer-encoding",
            "upgrade",
            "te",
            "host",
            "accept-encoding",
            "x-goog-fieldmask",
            "x-http-method-override",
            "forwarded",
            "set-cookie",
            "location",
        ] {
            from.insert(HeaderName::from_static(name), HeaderValue::from_static("canary"));
        }
        for form in [ApiForm::Gemini, ApiForm::Anthropic, ApiForm::Openai] {
            assert!(to_the_model(form, &from).is_empty() && to_the_agent(&from).is_empty());
        }
        from.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        assert_eq!(to_the_model(ApiForm::Gemini, &from).len(), 1);
        assert!(is_json(&from));
    }

    #[test]
    fn each_api_has_headers_of_its_own() {
        let mut from = HeaderMap::new();
        for name in ["x-goog-api-client", "anthropic-version", "anthropic-beta", "openai-organization"] {
            from.insert(HeaderName::from_static(name), HeaderValue::from_static("x"));
        }
        let passed = |form| to_the_model(form, &from).keys().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(passed(ApiForm::Gemini), ["x-goog-api-client"]);
        assert_eq!(passed(ApiForm::Anthropic).len(), 2);
        assert_eq!(passed(ApiForm::Openai), ["openai-organization"]);
    }

    #[test]
    fn a_key_is_never_printed() {
        let key = ModelKey(Arc::new("canary".to_owned().into()));
        let value = key_value(&HeaderName::from_static("x-goog-api-key"), &key).expect("plain text");
        assert_eq!(value, "canary");
        assert!(!format!("{value:?}{key:?}").contains("canary"));
        assert_eq!(key_value(&header::AUTHORIZATION, &key).expect("plain text"), "Bearer canary");
        assert!(key_value(&header::AUTHORIZATION, &ModelKey(Arc::new("a\nb".to_owned().into()))).is_err());
    }
}
