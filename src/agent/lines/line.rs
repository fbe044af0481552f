//! What one line of a line-oriented program means. Pure.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::agent::framing::shorten;

/// Longest text of a program's error that is passed on, in bytes.
const ERROR_TEXT_LIMIT: usize = 512;

/// The meaning of one line.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Meaning {
    /// A piece of the answer: a content block.
    Message(Value),
    /// A piece of its thinking: a content block.
    Thought(Value),
    /// Anything else with a `type`, raw.
    Update(Value),
    /// The turn is over; perhaps with a last piece of the answer.
    Result(Option<Value>),
    /// The turn failed; why, shortened.
    Error(String),
}

/// Reads one line.
pub(super) fn meaning(line: &[u8]) -> Meaning {
    let plain = || Meaning::Message(text(&format!("{}\n", String::from_utf8_lossy(line))));
    let Ok(object @ Value::Object(_)) = serde_json::from_slice::<Value>(line) else { return plain() };
    let Some(kind) = object["type"].as_str() else { return plain() };
    match (kind, block(&object["content"])) {
        ("message" | "text", Some(block)) => Meaning::Message(block),
        ("thought", Some(block)) => Meaning::Thought(block),
        ("result", block) => Meaning::Result(block),
        ("error", _) => {
            let content = &object["content"];
            let reason = content.as_str().or_else(|| content["message"].as_str()).unwrap_or("it gave no reason");
            Meaning::Error(shorten(reason, ERROR_TEXT_LIMIT, false))
        }
        _ => Meaning::Update(object),
    }
}

/// The prompt as one line; none if there is no text in it.
pub(super) fn prompt(content: &[Value]) -> Option<Bytes> {
    let texts: Vec<&str> = content.iter().filter_map(|block| block["text"].as_str()).collect();
    let joined = texts.join(" ");
    let words = joined.trim();
    if words.is_empty() {
        return None;
    }
    let mut line = words.replace("\r\n", " ").replace(['\n', '\r'], " ");
    line.push('\n');
    Some(Bytes::from(line))
}

/// A content block: an object as it is, a text as a text block.
fn block(content: &Value) -> Option<Value> {
    match content {
        Value::Object(_) => Some(content.clone()),
        Value::String(words) => Some(text(words)),
        _ => None,
    }
}

fn text(words: &str) -> Value {
    json!({ "type": "text", "text": words })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::{Meaning, meaning, prompt, text};

    #[test]
    fn plain_lines_are_pieces_of_the_answer() {
        for line in ["hello", "42", "[1]", "{\"no\":\"type\"}", "{\"type\":1}", "{\"type\":\"message\""] {
            assert_eq!(meaning(line.as_bytes()), Meaning::Message(text(&format!("{line}\n"))), "{line}");
        }
        assert_eq!(meaning(b"\xff"), Meaning::Message(text("\u{fffd}\n")));
        let deep = "[".repeat(10_000);
        assert_eq!(meaning(deep.as_bytes()), Meaning::Message(text(&format!("{deep}\n"))));
    }

    #[test]
    fn objects_with_a_type_say_what_they_are() {
        let image = json!({"type": "image", "data": ""});
        let cases = [
            (json!({"type": "message", "content": "a"}), Meaning::Message(text("a"))),
            (json!({"type": "text", "content": "a\n"}), Meaning::Message(text("a\n"))),
            (json!({"type": "message", "content": image}), Meaning::Message(image.clone())),
            (json!({"type": "thought", "content": "hm"}), Meaning::Thought(text("hm"))),
            (json!({"type": "result"}), Meaning::Result(None)),
            (json!({"type": "result", "content": "done"}), Meaning::Result(Some(text("done")))),
            (json!({"type": "error", "content": "no"}), Meaning::Error("no".to_owned())),
            (json!({"type": "error", "content": {"message": "no"}}), Meaning::Error("no".to_owned())),
            (json!({"type": "error"}), Meaning::Error("it gave no reason".to_owned())),
        ];
        for (line, wanted) in cases {
            assert_eq!(meaning(line.to_string().as_bytes()), wanted, "{line}");
        }
        for raw in [json!({"type": "tool_use", "content": {"a": 1}}), json!({"type": "message"})] {
            assert_eq!(meaning(raw.to_string().as_bytes()), Meaning::Update(raw));
        }
    }

    #[test]
    fn a_prompt_is_one_line_of_its_text() {
        let content =
            [json!({"type": "text", "text": "one\r\ntwo\n"}), json!({"type": "image"}), json!({"text": "three"})];
        assert_eq!(prompt(&content).as_deref(), Some(&b"one two  three\n"[..]));
        assert_eq!(prompt(&[json!({"type": "image"}), json!({"type": "text", "text": " \n"})]), None);
    }

    proptest! {
        #[test]
        fn any_prompt_is_at_most_one_line(words in prop::collection::vec(any::<String>(), 0..4)) {
            let content: Vec<_> = words.iter().map(|word| text(word)).collect();
            if let Some(line) = prompt(&content) {
                prop_assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
                prop_assert!(!line.contains(&b'\r'));
            }
        }

        #[test]
        fn any_line_means_something(line in prop::collection::vec(any::<u8>(), 0..200)) {
            meaning(&line);
        }
    }
}
