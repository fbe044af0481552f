//! Prompts: a text, or content blocks as the agent protocol knows them.

use std::{borrow::Cow, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use poem_openapi::{
    Object,
    registry::{MetaSchema, MetaSchemaRef, Registry},
    types::{Example, ParseError, ParseFromJSON, ParseResult, ToJSON, Type},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    problem::{Code, Problem},
    service::view,
};

/// The content blocks ACP knows.
const KINDS: [&str; 5] = ["text", "image", "audio", "resource_link", "resource"];

/// A request to start a turn.
#[derive(Object)]
#[oai(deny_unknown_fields, example)]
pub struct StartTurn {
    /// A text, or content blocks.
    pub prompt: PromptInput,
}

impl Example for StartTurn {
    fn example() -> Self {
        Self { prompt: PromptInput(Value::from("What is in this folder?")) }
    }
}

/// A prompt as a form sends it.
#[derive(Object, Deserialize)]
#[oai(deny_unknown_fields)]
#[serde(deny_unknown_fields)]
pub struct ChatForm {
    /// A text.
    pub prompt: String,
}

impl From<ChatForm> for PromptInput {
    fn from(form: ChatForm) -> Self {
        Self(Value::String(form.prompt))
    }
}

/// A text or content blocks, not checked yet.
pub struct PromptInput(Value);

impl TryFrom<PromptInput> for view::Prompt {
    type Error = Problem;

    fn try_from(PromptInput(input): PromptInput) -> Result<Self, Problem> {
        let invalid = |detail: String| Problem::new(Code::InvalidRequest, detail);
        let blocks = match input {
            Value::String(text) => vec![json!({"type": "text", "text": text})],
            Value::Array(blocks) => blocks,
            _ => return Err(invalid("prompt must be a text or a list of content blocks".to_owned())),
        };
        if blocks.is_empty() {
            return Err(invalid("prompt must not be empty".to_owned()));
        }
        for (place, block) in blocks.iter().enumerate() {
            check(block).map_err(|fault| invalid(format!("prompt, block {place}: {fault}")))?;
        }
        let says_something =
            |block: &Value| block.get("text").and_then(Value::as_str).is_none_or(|text| !text.trim().is_empty());
        if !blocks.iter().any(says_something) {
            return Err(invalid("prompt must not be empty".to_owned()));
        }
        Ok(Self { content: Arc::from(blocks) })
    }
}

/// What ACP demands of each kind: an agent that is sent less fails the turn in words of its own, if at all. The rest is passed on as it is.
fn check(block: &Value) -> Result<(), String> {
    let known = || format!("type must be one of {}", KINDS.join(", "));
    match block.get("type").and_then(Value::as_str).ok_or_else(known)? {
        "text" => text(block, "text").map(drop),
        kind @ ("image" | "audio") => {
            base64(block, "data")?;
            media_type(block, kind)
        }
        "resource_link" => {
            uri(block)?;
            text(block, "name").map(drop)
        }
        "resource" => {
            let resource = block.get("resource").filter(|resource| resource.is_object());
            let resource = resource.ok_or("resource must be an object")?;
            let content = match (resource.get("text"), resource.get("blob")) {
                (Some(_), None) => text(resource, "text").map(drop),
                (None, Some(_)) => base64(resource, "blob"),
                _ => Err("it must have either text or blob".to_owned()),
            };
            uri(resource).and(content).map_err(|fault| format!("resource: {fault}"))
        }
        _ => Err(known()),
    }
}

fn text<'a>(fields: &'a Value, name: &str) -> Result<&'a str, String> {
    fields.get(name).and_then(Value::as_str).ok_or_else(|| format!("{name} must be a text"))
}

fn base64(fields: &Value, name: &str) -> Result<(), String> {
    let data = text(fields, name)?;
    let bytes = BASE64_STANDARD.decode(data).map_err(|_| format!("{name} must be base64, with padding"))?;
    if bytes.is_empty() { Err(format!("{name} must not be empty")) } else { Ok(()) }
}

fn media_type(fields: &Value, kind: &str) -> Result<(), String> {
    let subtype = text(fields, "mimeType")?.strip_prefix(kind).and_then(|rest| rest.strip_prefix('/'));
    let good =
        subtype.is_some_and(|subtype| !subtype.is_empty() && subtype.bytes().all(|byte| byte.is_ascii_graphic()));
    if good { Ok(()) } else { Err(format!("mimeType must be one of {kind}/…")) }
}

fn uri(fields: &Value) -> Result<(), String> {
    let uri = text(fields, "uri")?;
    let scheme = uri.split_once(':').map_or("", |(scheme, _)| scheme);
    let good = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        && !uri.contains(|char: char| char.is_whitespace() || char.is_control());
    if good { Ok(()) } else { Err("uri must be a URI with its scheme, such as file:///workspace/notes.md".to_owned()) }
}

fn block_schema() -> MetaSchema {
    let text = |description| {
        MetaSchemaRef::Inline(Box::new(MetaSchema { description: Some(description), ..MetaSchema::new("string") }))
    };
    let any_object = MetaSchema {
        description: Some("For `resource`: the resource itself, with `uri` and `text` or `blob`."),
        additional_properties: Some(Box::new(MetaSchemaRef::Inline(Box::new(MetaSchema::ANY)))),
        ..MetaSchema::new("object")
    };
    let kind = MetaSchema {
        enum_items: KINDS.map(Into::into).to_vec(),
        description: Some("What kind of block."),
        ..MetaSchema::new("string")
    };
    MetaSchema {
        title: Some("ContentBlock".to_owned()),
        description: Some(
            "A content block of the Agent Client Protocol. Fields not named here are passed on to the agent.",
        ),
        required: vec!["type"],
        properties: vec![
            ("type", MetaSchemaRef::Inline(Box::new(kind))),
            ("text", text("For `text`: the text.")),
            ("data", text("For `image` and `audio`: the bytes, base64 with padding.")),
            ("mimeType", text("For `image` and `audio`: the media type, such as `image/png`.")),
            (
                "uri",
                text(
                    "For `resource_link`: where the resource is, with its scheme, such as `file:///workspace/notes.md`.",
                ),
            ),
            ("name", text("For `resource_link`: its name.")),
            ("resource", MetaSchemaRef::Inline(Box::new(any_object))),
        ],
        additional_properties: Some(Box::new(MetaSchemaRef::Inline(Box::new(MetaSchema::ANY)))),
        ..MetaSchema::new("object")
    }
}

impl Type for PromptInput {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        "Prompt".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Reference(Self::name().into_owned())
    }

    fn register(registry: &mut Registry) {
        registry.create_schema::<Self, _>("ContentBlock".to_owned(), |_| block_schema());
        registry.create_schema::<Self, _>(Self::name().into_owned(), |_| {
            let text = MetaSchema { min_length: Some(1), ..MetaSchema::new("string") };
            let blocks = MetaSchema {
                items: Some(Box::new(MetaSchemaRef::Reference("ContentBlock".to_owned()))),
                min_items: Some(1),
                ..MetaSchema::new("array")
            };
            MetaSchema {
                description: Some("A text, or content blocks."),
                one_of: vec![MetaSchemaRef::Inline(Box::new(text)), MetaSchemaRef::Inline(Box::new(blocks))],
                ..MetaSchema::ANY
            }
        });
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl ParseFromJSON for PromptInput {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        match value {
            None | Some(Value::Null) => Err(ParseError::custom("prompt is missing")),
            Some(value) => Ok(Self(value)),
        }
    }
}

impl ToJSON for PromptInput {
    fn to_json(&self) -> Option<Value> {
        Some(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(input: Value) -> Result<view::Prompt, Problem> {
        PromptInput(input).try_into()
    }

    #[test]
    fn a_text_becomes_one_text_block() {
        let content = prompt(json!("hello")).unwrap().content;
        assert_eq!(*content, [json!({"type": "text", "text": "hello"})]);
    }

    #[test]
    fn known_blocks_are_passed_on_as_they_are() {
        let blocks = json!([
            {"type": "text", "text": "look"},
            {"type": "image", "data": "AAAA", "mimeType": "image/png"},
            {"type": "audio", "data": "AAAAAA==", "mimeType": "audio/wav", "annotations": {"priority": 1}},
            {"type": "resource_link", "uri": "file:///a", "name": "a", "_meta": {"x": 1}},
            {"type": "resource", "resource": {"uri": "file:///a", "text": ""}},
            {"type": "resource", "resource": {"uri": "file:///a", "blob": "AA==", "mimeType": "image/png"}},
        ]);
        assert_eq!(Value::from(prompt(blocks.clone()).unwrap().content.to_vec()), blocks);
    }

    #[test]
    fn empty_and_unknown_prompts_are_refused_with_the_place_named() {
        let bad = [
            (json!(""), "empty"),
            (json!(" \n"), "empty"),
            (json!([]), "empty"),
            (json!([{"type": "text", "text": " "}]), "empty"),
            (json!(7), "must be a text"),
            (json!(["x"]), "block 0: type"),
            (json!([{"type": "text", "text": "a"}, {"type": "video"}]), "block 1: type"),
            (json!([{"type": "image"}]), "block 0: data must be a text"),
            (json!([{"type": "image", "data": "AAAA"}]), "block 0: mimeType must be a text"),
            (json!([{"type": "image", "data": "AAA", "mimeType": "image/png"}]), "block 0: data must be base64"),
            (json!([{"type": "image", "data": "A A=", "mimeType": "image/png"}]), "block 0: data must be base64"),
            (json!([{"type": "image", "data": "", "mimeType": "image/png"}]), "block 0: data must not be empty"),
            (
                json!([{"type": "image", "data": "AAAA", "mimeType": "audio/wav"}]),
                "block 0: mimeType must be one of image/",
            ),
            (
                json!([{"type": "audio", "data": "AAAA", "mimeType": "audio/"}]),
                "block 0: mimeType must be one of audio/",
            ),
            (json!([{"type": "resource_link", "name": "a"}]), "block 0: uri must be a text"),
            (json!([{"type": "resource_link", "uri": "file:///a"}]), "block 0: name must be a text"),
            (json!([{"type": "resource_link", "uri": "notes.md", "name": "a"}]), "block 0: uri must be a URI"),
            (json!([{"type": "resource_link", "uri": "file:///a b", "name": "a"}]), "block 0: uri must be a URI"),
            (json!([{"type": "resource", "resource": "x"}]), "block 0: resource must be an object"),
            (json!([{"type": "resource", "resource": {"text": "x"}}]), "block 0: resource: uri must be a text"),
            (json!([{"type": "resource", "resource": {"uri": "a:b"}}]), "block 0: resource: it must have either"),
            (
                json!([{"type": "resource", "resource": {"uri": "a:b", "blob": "é"}}]),
                "block 0: resource: blob must be base64",
            ),
        ];
        for (input, words) in bad {
            let problem = prompt(input.clone()).unwrap_err();
            assert_eq!(problem.code, Code::InvalidRequest);
            assert!(problem.detail.contains(words), "{input}: {}", problem.detail);
        }
    }
}
