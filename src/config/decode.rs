//! Reads the typed settings out of a tree, and finds all that is wrong on the way.
//!
//! serde stops at the first error. So the value at fault is noted, taken out of the tree, and the rest is read again, until nothing
//! is wrong any more. Texts are made here and say what is expected, never what was found: it may be a secret.

use std::{cell::RefCell, collections::BTreeSet, fmt};

use serde::{
    de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor, value::StrDeserializer},
    forward_to_deserialize_any,
};

use super::{
    fault::Fault,
    tree::{Node, Value, join},
};

/// What was found while reading.
#[derive(Default)]
pub(super) struct Findings {
    /// Everything wrong so far.
    pub faults: BTreeSet<Fault>,
    /// Every key that could have been written in the sections that were read.
    pub known: BTreeSet<String>,
}

/// Reads as much as can be read. None: even the defaults don'de fit, which the tests exclude.
pub(super) fn decode<T: DeserializeOwned>(tree: &mut Node, findings: &RefCell<Findings>) -> Option<T> {
    loop {
        match T::deserialize(Reader { node: tree, findings }) {
            Ok(value) => return Some(value),
            Err(trouble) => {
                let key = trouble.key.unwrap_or_default();
                let origin = tree.origin_of(&key).unwrap_or("default").to_owned();
                findings.borrow_mut().faults.insert(Fault::new(&key, origin, trouble.text));
                if !tree.remove(&key) {
                    return None;
                }
            }
        }
    }
}

/// Why a value was refused; the key is filled in by the innermost reader.
#[derive(Debug)]
pub(super) struct Trouble {
    key: Option<String>,
    text: String,
}

impl Trouble {
    fn at(mut self, node: &Node) -> Self {
        self.key.get_or_insert_with(|| node.key.clone());
        self
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl std::error::Error for Trouble {}

impl de::Error for Trouble {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { key: None, text: message.to_string() }
    }

    fn invalid_type(_found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::custom(format_args!("must be {expected}"))
    }

    fn invalid_value(_found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::custom(format_args!("must be {expected}"))
    }

    fn unknown_variant(_found: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format_args!("must be one of: {}", expected.join(", ")))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::custom(format_args!("must have `{field}`"))
    }
}

struct Reader<'de> {
    node: &'de Node,
    findings: &'de RefCell<Findings>,
}

impl<'de> Reader<'de> {
    fn of(&self, node: &'de Node) -> Self {
        Self { node, findings: self.findings }
    }

    fn wrong(&self, expected: &str) -> Trouble {
        let found = self.node.value.kind();
        let text = match self.node.value {
            // Its kind is right or not known; its value is what doesn't fit.
            Value::Loose(_) | Value::Whole(_) => format!("must be {expected}"),
            _ => format!("must be {expected}, but is {found}"),
        };
        Trouble { key: Some(self.node.key.clone()), text }
    }

    fn text(&self) -> Result<&'de str, Trouble> {
        match &self.node.value {
            Value::Text(text) | Value::Loose(text) => Ok(text),
            _ => Err(self.wrong("a text")),
        }
    }

    fn whole(&self, max: u64) -> Result<u64, Trouble> {
        let found = match &self.node.value {
            Value::Whole(number) => Some(*number),
            Value::Loose(text) => text.trim().replace('_', "").parse().ok(),
            _ => return Err(self.wrong("a whole number")),
        };
        let fits = found.and_then(|number| u64::try_from(number).ok()).filter(|number| *number <= max);
        fits.ok_or_else(|| self.wrong("a whole number, 0 or more, that is not too large"))
    }

    /// Notes the names that may stand in this section, and those that stand there and may not.
    fn compare(&self, fields: &'static [&'static str]) {
        let Value::Section(names) = &self.node.value else { return };
        let mut findings = self.findings.borrow_mut();
        findings.known.extend(fields.iter().map(|field| join(&self.node.key, field)));
        let strangers = names.iter().filter(|(name, _)| !fields.contains(&name.as_str()));
        findings.faults.extend(strangers.map(|(_, child)| {
            let text = format!("is no setting; known here: {}", fields.join(", "));
            Fault::new(&child.key, &*child.origin, text)
        }));
    }
}

macro_rules! whole_numbers {
    ($($method:ident $max:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Trouble> {
            self.whole($max).and_then(|number| visitor.visit_u64(number)).map_err(|trouble: Trouble| trouble.at(self.node))
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Reader<'de> {
    type Error = Trouble;

    whole_numbers! {
        deserialize_u16 u16::MAX.into();
        deserialize_u32 u32::MAX.into();
        deserialize_u64 i64::MAX as u64;
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Trouble> {
        match &self.node.value {
            Value::Text(_) | Value::Loose(_) => self.deserialize_str(visitor),
            Value::Whole(number) => visitor.visit_i64(*number),
            Value::Number(number) => visitor.visit_f64(*number),
            Value::Switch(switch) => visitor.visit_bool(*switch),
            Value::List(_) => self.deserialize_seq(visitor),
            Value::Section(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Trouble> {
        self.text().and_then(|text| visitor.visit_str(text)).map_err(|trouble: Trouble| trouble.at(self.node))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Trouble> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Trouble> {
        match &self.node.value {
            Value::Switch(switch) => visitor.visit_bool(*switch),
            Value::Loose(text) if text == "true" => visitor.visit_bool(true),
            Value::Loose(text) if text == "false" => visitor.visit_bool(false),
            _ => Err(self.wrong("true or false")),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Trouble> {
        let number = match &self.node.value {
            Value::Number(number) => Some(*number),
            #[expect(clippy::cast_precision_loss, reason = "settings are far below 2^53")]
            Value::Whole(number) => Some(*number as f64),
            Value::Loose(text) => text.trim().parse().ok(),
            _ => None,
        };
        number.map_or_else(|| Err(self.wrong("a number")), |number| visitor.visit_f64(number))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Trouble> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &str, visitor: V) -> Result<V::Value, Trouble> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Trouble> {
        let text: StrDeserializer<'_, Trouble> = self.text()?.into_deserializer();
        visitor.visit_enum(text).map_err(|trouble| trouble.at(self.node))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Trouble> {
        match &self.node.value {
            Value::List(items) => {
                visitor.visit_seq(Items { reader: &self, rest: items.iter() }).map_err(|trouble| trouble.at(self.node))
            }
            Value::Loose(text) => {
                let items = text.split(',').map(|item| item.trim().to_owned());
                visitor
                    .visit_seq(de::value::SeqDeserializer::<_, Trouble>::new(items))
                    .map_err(|trouble| trouble.at(self.node))
            }
            _ => Err(self.wrong("a list")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Trouble> {
        let Value::Section(names) = &self.node.value else { return Err(self.wrong("a section")) };
        let entries = Entries { reader: &self, fields: None, rest: names.iter(), value: None };
        visitor.visit_map(entries).map_err(|trouble| trouble.at(self.node))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Trouble> {
        let Value::Section(names) = &self.node.value else { return Err(self.wrong("a section")) };
        self.compare(fields);
        let entries = Entries { reader: &self, fields: Some(fields), rest: names.iter(), value: None };
        visitor.visit_map(entries).map_err(|trouble| trouble.at(self.node))
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u128 f32 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

/// A list being read.
struct Items<'r, 'de> {
    reader: &'r Reader<'de>,
    rest: std::slice::Iter<'de, Node>,
}

impl<'de> de::SeqAccess<'de> for Items<'_, 'de> {
    type Error = Trouble;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Trouble> {
        let item = |node| seed.deserialize(self.reader.of(node)).map_err(|trouble| trouble.at(node));
        self.rest.next().map(item).transpose()
    }
}

/// A section being read; with `fields`, only those.
struct Entries<'r, 'de> {
    reader: &'r Reader<'de>,
    fields: Option<&'static [&'static str]>,
    rest: std::collections::btree_map::Iter<'de, String, Node>,
    value: Option<&'de Node>,
}

impl<'de> de::MapAccess<'de> for Entries<'_, 'de> {
    type Error = Trouble;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Trouble> {
        let fields = self.fields;
        let Some((name, node)) =
            self.rest.find(|(name, _)| fields.is_none_or(|fields| fields.contains(&name.as_str())))
        else {
            return Ok(None);
        };
        self.value = Some(node);
        let name: StrDeserializer<'_, Trouble> = name.as_str().into_deserializer();
        seed.deserialize(name).map(Some).map_err(|trouble| trouble.at(node))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Trouble> {
        let node = self.value.take().expect("serde asks for a value only after its key");
        seed.deserialize(self.reader.of(node))
    }
}
