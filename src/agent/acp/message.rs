//! JSON-RPC 2.0, one message a line: what a line of the agent means, and how ours are written.
//!
//! Reading is lenient: fields nobody knows are passed over, and a line that is no message is [`Message::Other`], for people to
//! read and never to be answered. `serde_json` gives up at 128 levels of nesting, so no line can exhaust the stack.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::agent::framing::shorten;

/// JSON-RPC's code for a method that isn't offered.
pub(crate) const METHOD_NOT_FOUND: i64 = -32601;
/// Longest text of an agent's error that is passed on, in bytes.
const ERROR_TEXT_LIMIT: usize = 512;

/// Longest id of a request of the agent, in bytes. It goes back in the answer, and an answer has to fit into one piece of input: a server that
/// dies must not leave half of one behind.
const ID_LIMIT: usize = 1024;

/// One line of the agent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Message {
    /// It asks for something and waits for an answer.
    Request {
        /// Its own id for the request, to be sent back as it is.
        id: Value,
        /// What it asks.
        method: String,
        /// With which arguments.
        params: Value,
    },
    /// It tells something.
    Notification {
        /// What it tells.
        method: String,
        /// The details.
        params: Value,
    },
    /// It answers one of our requests. An error is its text, shortened.
    Answer {
        /// Our id of the request, if it is a number.
        id: Option<u64>,
        /// The answer.
        result: Result<Value, String>,
    },
    /// It isn't a message at all.
    Other,
}

#[derive(Deserialize)]
struct Envelope {
    id: Option<Value>,
    method: Option<String>,
    #[serde(default)]
    params: Value,
    #[serde(default)]
    result: Value,
    error: Option<Value>,
}

impl Message {
    /// Reads one line.
    pub(crate) fn parse(line: &[u8]) -> Self {
        let Ok(envelope) = serde_json::from_slice::<Envelope>(line) else { return Self::Other };
        let is_id = |id: &Value| id.is_number() || id.as_str().is_some_and(|id| id.len() <= ID_LIMIT);
        match (envelope.method, envelope.id) {
            (_, Some(id)) if !is_id(&id) => Self::Other,
            (Some(method), Some(id)) => Self::Request { id, method, params: envelope.params },
            (Some(method), None) => Self::Notification { method, params: envelope.params },
            (None, Some(id)) => {
                let result = envelope.error.map_or(Ok(envelope.result), |error| Err(error_text(&error)));
                Self::Answer { id: id.as_u64(), result }
            }
            (None, None) => Self::Other,
        }
    }
}

/// What an agent says about its error: the message, and the details that some hide in `data`.
fn error_text(error: &Value) -> String {
    let message = plain(error["message"].as_str().unwrap_or("it gave no reason"));
    let details = error["data"]["details"].as_str().or_else(|| error["data"].as_str());
    match details {
        Some(details) => shorten(&format!("{message}: {details}"), ERROR_TEXT_LIMIT, false),
        None => shorten(&message, ERROR_TEXT_LIMIT, false),
    }
}

/// Agents quote their model's answer whole, as JSON: what it says to people is inside.
fn plain(message: &str) -> Cow<'_, str> {
    let quoted: Option<Value> =
        message.trim_start().starts_with('{').then(|| serde_json::from_str(message).ok()).flatten();
    match quoted.as_ref().and_then(|quoted| quoted["error"]["message"].as_str()) {
        Some(said) => Cow::Owned(said.to_owned()),
        None => Cow::Borrowed(message),
    }
}

/// What we write, in the order of its fields. A prompt may be many megabytes: it goes from its content to the line without a copy between.
#[derive(Serialize)]
struct Ours<'a, Params> {
    jsonrpc: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    params: Option<&'a Params>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a Params>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a Params>,
}

impl<Params> Default for Ours<'_, Params> {
    fn default() -> Self {
        Self { jsonrpc: "2.0", id: None, method: None, params: None, result: None, error: None }
    }
}

impl<Params: Serialize> Ours<'_, Params> {
    fn line(&self) -> Bytes {
        let mut line = serde_json::to_vec(self).expect("our fields have texts for names and fail at nothing");
        line.push(b'\n');
        Bytes::from(line)
    }
}

/// A request of ours.
pub(crate) fn request(id: u64, method: &str, params: &impl Serialize) -> Bytes {
    Ours { id: Some(&id.into()), method: Some(method), params: Some(params), ..Ours::default() }.line()
}

/// A notification of ours.
pub(crate) fn notification(method: &str, params: &impl Serialize) -> Bytes {
    Ours { method: Some(method), params: Some(params), ..Ours::default() }.line()
}

/// Our answer to a request of the agent.
pub(crate) fn answer(id: &Value, result: &impl Serialize) -> Bytes {
    Ours { id: Some(id), result: Some(result), ..Ours::default() }.line()
}

/// Our refusal of a request for something we didn't offer.
pub(crate) fn refusal(id: &Value, method: &str) -> Bytes {
    let error =
        json!({ "code": METHOD_NOT_FOUND, "message": format!("{} is not offered", shorten(method, 64, false)) });
    Ours { id: Some(id), error: Some(&error), ..Ours::default() }.line()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{Message, answer, notification, refusal, request};

    fn parse(text: &str) -> Message {
        Message::parse(text.as_bytes())
    }

    #[test]
    fn the_four_kinds_of_lines_are_told_apart() {
        assert_eq!(
            parse(r#"{"jsonrpc":"2.0","id":"a","method":"fs/read_text_file","params":{"path":"x"},"more":1}"#),
            Message::Request { id: json!("a"), method: "fs/read_text_file".to_owned(), params: json!({"path": "x"}) }
        );
        assert_eq!(
            parse(r#"{"method":"session/update"}"#),
            Message::Notification { method: "session/update".to_owned(), params: Value::Null }
        );
        assert_eq!(parse(r#"{"id":7,"result":null}"#), Message::Answer { id: Some(7), result: Ok(Value::Null) });
        assert_eq!(parse(r#"{"id":7.5,"result":1}"#), Message::Answer { id: None, result: Ok(json!(1)) });
        for other in
            ["", "{}", "[]", "42", "null", "Loaded 3 tools", r#"{"id":null,"result":1}"#, r#"{"jsonrpc":"2.0""#]
        {
            assert_eq!(parse(other), Message::Other, "{other}");
        }
        for id in [json!([1]), json!({}), json!(true), json!("x".repeat(1025))] {
            assert_eq!(parse(&json!({"id": id, "method": "m"}).to_string()), Message::Other, "{id}");
        }
    }

    #[test]
    fn an_error_is_told_with_the_details_that_agents_hide() {
        let hidden = r#"{"id":1,"error":{"code":-32603,"message":"Internal error","data":{"details":"No such mode"}}}"#;
        let Message::Answer { result: Err(text), .. } = parse(hidden) else { panic!("an answer") };
        assert_eq!(text, "Internal error: No such mode");
        let quoting =
            json!({"id": 1, "error": {"message": r#"{"error":{"code":429,"message":"Too many"}}"#}}).to_string();
        let Message::Answer { result: Err(text), .. } = parse(&quoting) else { panic!("an answer") };
        assert_eq!(text, "Too many");
        let strange = r#"{"id":1,"error":"boom"}"#;
        assert!(matches!(parse(strange), Message::Answer { result: Err(_), .. }));
        let endless = format!(r#"{{"id":1,"error":{{"message":"{}"}}}}"#, "ä".repeat(5000));
        let Message::Answer { result: Err(text), .. } = parse(&endless) else { panic!("an answer") };
        assert!(text.len() < 600);
    }

    #[test]
    fn nasty_lines_are_only_other_lines() {
        let deep = "[".repeat(10_000);
        let deep_message = format!(r#"{{"method":"m","params":{}1{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
        let nasty: [&[u8]; 8] = [
            deep.as_bytes(),
            deep_message.as_bytes(),
            b"\xff\xfe{\"method\":\"x\"}",
            b"{\"method\":\"\xff\"}",
            b"{\"method\":1}",
            b"{\"id\":1,\"id\":2}",
            b"{\"method\":\"a\",\"params\":1e999}",
            b"\0\0\0",
        ];
        for line in nasty {
            assert_eq!(Message::parse(line), Message::Other);
        }
    }

    #[test]
    fn what_we_write_is_one_line_that_reads_back() {
        for line in [
            request(3, "session/prompt", &json!({"text": "one\ntwo"})),
            notification("session/cancel", &json!({})),
            answer(&json!("id\n"), &json!({})),
            refusal(&json!(4), "terminal/create"),
        ] {
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            assert_ne!(Message::parse(&line), Message::Other);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_some_message(line in prop::collection::vec(any::<u8>(), 0..200)) {
            Message::parse(&line);
        }

        #[test]
        fn any_json_like_text_is_some_message(
            line in r#"\{("(id|method|params|result|error)":(1|null|"x"|\{\}|\[1,\{"message":2\}\]),?){0,4}\}?"#
        ) {
            Message::parse(line.as_bytes());
        }
    }
}
