//! What a request says it may cost, and how it is told to cost less.
//!
//! Read is the limit of what the model writes, how many answers are wanted, and whether all that the model will read is in the request: media, files
//! and things the model looks up by itself cost what nobody can tell from the bytes. Any spelling that an API takes is found, also if it is
//! written twice or with escapes; of several limits the largest counts. Written is only the limit ([`lower`]); every other byte stays as it is.
//! Pure, no I/O.

mod place;

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

pub(super) use self::place::lower;
use crate::config::ApiForm;

/// What a request says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// The most tokens of one answer.
    pub limit: Option<u64>,
    /// How many answers; none: one.
    answers: Option<u64>,
    /// Not all that the model reads is in the request, or not in bytes that can be counted.
    pub boundless: bool,
}

/// The request isn't JSON with an object in it.
#[derive(Debug)]
pub(super) struct NotUnderstood;

impl Asked {
    /// Reads a request.
    pub fn read(form: ApiForm, body: &[u8]) -> Result<Self, NotUnderstood> {
        let mut asked = Self::default();
        let mut json = serde_json::Deserializer::from_slice(body);
        let look = Look { form, asked: &mut asked, level: Level::Request };
        look.deserialize(&mut json).and_then(|is_object| json.end().map(|()| is_object)).map_or(
            Err(NotUnderstood),
            |is_object| {
                if is_object { Ok(()) } else { Err(NotUnderstood) }
            },
        )?;
        Ok(asked)
    }

    /// How many answers are wanted.
    pub fn answers(&self) -> u64 {
        self.answers.unwrap_or(1).max(1)
    }

    fn note_limit(&mut self, limit: Option<u64>) {
        // None at all is what APIs take a zero for.
        self.limit = self.limit.max(limit.filter(|limit| *limit > 0));
    }
}

/// The keys that say how much may be written; what of them comes first is written where none is there.
pub(super) fn limit_keys(form: ApiForm, path: &str) -> &'static [&'static str] {
    match form {
        ApiForm::Gemini => &["maxOutputTokens", "max_output_tokens"],
        ApiForm::Anthropic => &["max_tokens"],
        ApiForm::Openai if path.ends_with("/responses") => {
            &["max_output_tokens", "max_completion_tokens", "max_tokens"]
        }
        ApiForm::Openai if path.ends_with("/chat/completions") => {
            &["max_completion_tokens", "max_tokens", "max_output_tokens"]
        }
        ApiForm::Openai => &["max_tokens", "max_completion_tokens", "max_output_tokens"],
    }
}

/// The object the limit is in, if it isn't the request itself.
pub(super) const fn limit_object(form: ApiForm) -> &'static [&'static str] {
    match form {
        ApiForm::Gemini => &["generationConfig", "generation_config"],
        ApiForm::Anthropic | ApiForm::Openai => &[],
    }
}

fn is_limit(form: ApiForm, key: &str) -> bool {
    limit_keys(form, "").contains(&key)
}

fn is_count_of_answers(form: ApiForm, key: &str) -> bool {
    match form {
        ApiForm::Gemini => matches!(key, "candidateCount" | "candidate_count"),
        ApiForm::Anthropic => false,
        ApiForm::Openai => matches!(key, "n" | "best_of"),
    }
}

/// Keys, wherever they are, of what isn't in the request or isn't counted by its bytes.
fn is_boundless(form: ApiForm, key: &str) -> bool {
    match form {
        ApiForm::Gemini => matches!(
            key,
            "fileData"
                | "file_data"
                | "inlineData"
                | "inline_data"
                | "cachedContent"
                | "cached_content"
                | "googleSearch"
                | "google_search"
                | "googleSearchRetrieval"
                | "google_search_retrieval"
                | "urlContext"
                | "url_context"
                | "codeExecution"
                | "code_execution"
                | "fileSearch"
                | "file_search"
                | "googleMaps"
                | "google_maps"
                | "computerUse"
                | "computer_use"
        ),
        // Images and documents have a source; other people's tools are called by the model itself.
        ApiForm::Anthropic => matches!(key, "source" | "mcp_servers" | "container"),
        ApiForm::Openai => matches!(
            key,
            "image_url"
                | "input_audio"
                | "file"
                | "file_id"
                | "file_data"
                | "file_url"
                | "audio"
                | "previous_response_id"
                | "conversation"
                | "web_search_options"
                | "server_url"
        ),
    }
}

/// Values of `type` that say the same.
fn is_boundless_type(form: ApiForm, kind: &str) -> bool {
    match form {
        ApiForm::Gemini => false,
        ApiForm::Anthropic => {
            ["image", "document", "web_", "code_execution", "mcp"].iter().any(|begin| kind.starts_with(begin))
        }
        ApiForm::Openai => [
            "input_image",
            "input_file",
            "input_audio",
            "web_search",
            "file_search",
            "code_interpreter",
            "mcp",
            "item_reference",
        ]
        .iter()
        .any(|begin| kind.starts_with(begin)),
    }
}

/// Where in a request we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    /// The request itself.
    Request,
    /// The object the limit is in.
    Settings,
    /// Anywhere else.
    Below,
}

/// Looks through a value without keeping it; says whether it is an object.
struct Look<'a> {
    form: ApiForm,
    asked: &'a mut Asked,
    level: Level,
}

impl<'de> DeserializeSeed<'de> for Look<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

macro_rules! plain_values {
    ($($method:ident $type:ty;)*) => {$(
        fn $method<E>(self, _value: $type) -> Result<bool, E> {
            Ok(false)
        }
    )*};
}

impl<'de> Visitor<'de> for Look<'_> {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    plain_values! {
        visit_bool bool;
        visit_i64 i64;
        visit_u64 u64;
        visit_f64 f64;
        visit_str &str;
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<bool, A::Error> {
        let Self { form, asked, .. } = self;
        while list.next_element_seed(Look { form, asked: &mut *asked, level: Level::Below })?.is_some() {}
        Ok(false)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let Self { form, asked, level } = self;
        let has_settings = !limit_object(form).is_empty();
        while let Some(Text(key)) = map.next_key()? {
            asked.boundless |= is_boundless(form, &key);
            let holds_limit = level == if has_settings { Level::Settings } else { Level::Request };
            if holds_limit && is_limit(form, &key) {
                asked.note_limit(map.next_value::<Number>()?.0);
            } else if holds_limit && is_count_of_answers(form, &key) {
                asked.answers = asked.answers.max(map.next_value::<Number>()?.0);
            } else if key == "type" && level == Level::Below {
                asked.boundless |= map.next_value::<Kind>()?.0.is_some_and(|kind| is_boundless_type(form, &kind));
            } else {
                let settings = level == Level::Request && limit_object(form).contains(&key.as_str());
                let level = if settings { Level::Settings } else { Level::Below };
                map.next_value_seed(Look { form, asked: &mut *asked, level })?;
            }
        }
        Ok(true)
    }
}

/// A key.
#[derive(serde::Deserialize)]
struct Text(String);

/// A whole number, in any way that an API takes one; none: something else, which the API will refuse or take for nothing.
struct Number(Option<u64>);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Number;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("JSON")
            }
            fn visit_bool<E>(self, _value: bool) -> Result<Number, E> {
                Ok(Number(None))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Number, E> {
                Ok(Number(u64::try_from(value).ok()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Number, E> {
                Ok(Number(Some(value)))
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "the cast goes to the nearest number there is"
            )]
            fn visit_f64<E>(self, value: f64) -> Result<Number, E> {
                Ok(Number((value > 0.0).then_some(value.ceil() as u64)))
            }
            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Number, E> {
                match value.trim().parse::<f64>() {
                    Ok(number) => self.visit_f64(number),
                    Err(_) => Ok(Number(None)),
                }
            }
            fn visit_unit<E>(self) -> Result<Number, E> {
                Ok(Number(None))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Number, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Number(None))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Number, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Number(None))
            }
        }
        deserializer.deserialize_any(Read)
    }
}

/// The value of `type`; none: it is no text.
struct Kind(Option<String>);

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde_json::Value::deserialize(deserializer).map(|value| match value {
            serde_json::Value::String(kind) => Self(Some(kind)),
            _ => Self(None),
        })
    }
}

#[cfg(test)]
mod tests;
