//! JSON bodies with a secret in them: read within the limits, wiped when they were read, never repeated.
//!
//! What the connection's own buffers hold of them is the HTTP library's; see docs/security.md.

use bytes::Bytes;
use poem::{Request, RequestBody, Result};
use poem_openapi::{
    error::ParseRequestPayloadError,
    impl_apirequest_for_payload,
    payload::{Json, ParsePayload, Payload},
    registry::{MetaSchemaRef, Registry},
    types::{ParseFromJSON, Type},
};
use serde_json::Value;
use zeroize::Zeroize as _;

use super::body::bounded;

/// Before the parser's words for what it found instead.
const FOUND: &str = ", found ";

/// A JSON payload of which nothing is repeated.
pub(in crate::doors) struct Confidential<T>(pub(in crate::doors) T);

impl<T: Type> Payload for Confidential<T> {
    const CONTENT_TYPE: &'static str = Json::<T>::CONTENT_TYPE;

    fn check_content_type(content_type: &str) -> bool {
        Json::<T>::check_content_type(content_type)
    }

    fn schema_ref() -> MetaSchemaRef {
        Json::<T>::schema_ref()
    }

    fn register(registry: &mut Registry) {
        Json::<T>::register(registry);
    }
}

impl<T: ParseFromJSON> ParsePayload for Confidential<T> {
    const IS_REQUIRED: bool = T::IS_REQUIRED;

    async fn from_request(request: &Request, body: &mut RequestBody) -> Result<Self> {
        let bytes = bounded::<Json<T>>(request, body).await?;
        let read = read(&bytes);
        wipe(bytes);
        read.map(Self)
    }
}

impl_apirequest_for_payload!(Confidential<T>, T: ParseFromJSON);

/// Reads a JSON text. Says where and what is wrong, not what is there.
fn read<T: ParseFromJSON>(bytes: &Bytes) -> Result<T> {
    let wrong = |reason: String| poem::Error::from(ParseRequestPayloadError { reason });
    let value = if bytes.is_empty() {
        Value::Null
    } else {
        let place = |fault: serde_json::Error| format!("no JSON at line {} column {}", fault.line(), fault.column());
        serde_json::from_slice(bytes).map_err(|fault| wrong(place(fault)))?
    };
    T::parse_from_json(Some(value)).map_err(|fault| wrong(without_quotes(&fault.into_message())))
}

/// The parser's words up to where it begins to quote.
fn without_quotes(text: &str) -> String {
    text.split(FOUND).next().unwrap_or_default().to_owned()
}

/// Wipes a body, if nobody else holds it.
fn wipe(bytes: Bytes) {
    if let Ok(mut bytes) = bytes.try_into_mut() {
        bytes.zeroize();
    }
}

/// Wipes every text in it.
pub(super) fn wipe_value(value: Value) {
    match value {
        Value::String(mut text) => text.zeroize(),
        Value::Array(items) => items.into_iter().for_each(wipe_value),
        Value::Object(fields) => fields.into_iter().for_each(|(_, field)| wipe_value(field)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::refusal::Refusal, *};
    use crate::doors::dto::{credential::PutCredential, open::OpenSession};

    const CANARY: &str = "canary-3f9c";

    fn refusal<T: ParseFromJSON>(text: &str) -> Option<String> {
        let fault = read::<T>(&Bytes::from(text.to_owned())).err()?;
        Some(Refusal::from_poem(fault).0.detail)
    }

    #[test]
    fn whatever_is_wrong_nothing_of_the_body_is_repeated() {
        let whole = [
            json!(CANARY),
            json!([CANARY]),
            json!(null),
            json!({"api_key": [CANARY]}),
            json!({"api_key": {"x": CANARY}}),
        ];
        for body in &whole {
            let detail = refusal::<PutCredential>(&body.to_string()).expect("no key");
            assert!(!detail.contains(CANARY), "{detail}");
        }
        for field in ["template", "workspace", "credential", "mode", "labels", "idle_timeout_s", "permissions"] {
            for value in
                [json!([CANARY]), json!({"api_key": [CANARY]}), json!({"name": CANARY.to_uppercase()}), json!(CANARY)]
            {
                let detail = refusal::<OpenSession>(&json!({ field: value }).to_string()).unwrap_or_default();
                assert!(!detail.to_lowercase().contains(CANARY), "{detail}");
            }
        }
        for broken in [format!("{{\"api_key\": \"{CANARY}"), format!("{{{CANARY}}}"), format!("\"{CANARY}\\x\"")] {
            let detail = refusal::<PutCredential>(&broken).expect("no JSON");
            assert!(detail.contains("line 1 column") && !detail.contains(CANARY), "{detail}");
        }
    }
}
