//! Texts of a fixed form: times, and codes of a fixed set.

use std::borrow::Cow;

use jiff::Timestamp;
use poem_openapi::{
    registry::{MetaSchema, MetaSchemaRef},
    types::{ParseError, ParseFromJSON, ParseResult, ToJSON, Type},
};
use serde_json::Value;

use crate::problem::Code;

/// A moment, RFC 3339 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub Timestamp);

/// A problem's stable code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeText(pub Code);

impl Time {
    fn to_text(self) -> String {
        self.0.to_string()
    }

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }

    fn schema() -> MetaSchema {
        MetaSchema {
            example: Some("2026-11-20T09:30:00.25Z".into()),
            ..MetaSchema::new_with_format("string", "date-time")
        }
    }
}

impl CodeText {
    fn to_text(self) -> String {
        self.0.as_str().to_owned()
    }

    fn from_text(text: &str) -> Option<Self> {
        Code::ALL.iter().copied().find(|code| code.as_str() == text).map(Self)
    }

    fn schema() -> MetaSchema {
        MetaSchema {
            enum_items: Code::ALL.iter().map(|code| code.as_str().into()).collect(),
            ..MetaSchema::new("string")
        }
    }
}

macro_rules! text_type {
    ($name:ident, $text:literal) => {
        impl Type for $name {
            const IS_REQUIRED: bool = true;
            type RawValueType = Self;
            type RawElementValueType = Self;

            fn name() -> Cow<'static, str> {
                $text.into()
            }

            fn schema_ref() -> MetaSchemaRef {
                MetaSchemaRef::Inline(Box::new(Self::schema()))
            }

            fn as_raw_value(&self) -> Option<&Self> {
                Some(self)
            }

            fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
                Box::new(std::iter::once(self))
            }
        }

        impl ToJSON for $name {
            fn to_json(&self) -> Option<Value> {
                Some(Value::String(self.to_text()))
            }
        }

        impl ParseFromJSON for $name {
            fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
                let value = value.unwrap_or_default();
                value.as_str().and_then(Self::from_text).ok_or_else(|| ParseError::expected_type(value))
            }
        }
    };
}

text_type!(Time, "time");
text_type!(CodeText, "code");
