//! Settings before they are typed: a tree in which every node remembers its key and where it was written.
//!
//! Owned by [`super::load`] while it reads. Has no `Debug`: a node may hold a secret.

use std::{collections::BTreeMap, rc::Rc};

use super::fault::Fault;

/// One setting, list or section.
#[derive(Clone)]
pub(super) struct Node {
    /// Its whole key, such as `templates.gemini.image` or `auth.tokens[0]`.
    pub key: String,
    /// Where it was written.
    pub origin: Rc<str>,
    /// What was written.
    pub value: Value,
}

/// What was written.
#[derive(Clone)]
pub(super) enum Value {
    /// A text of the file.
    Text(String),
    /// A text whose type is decided by who reads it: variables and flags have no types.
    Loose(String),
    /// A whole number.
    Whole(i64),
    /// A number with a fraction.
    Number(f64),
    /// `true` or `false`.
    Switch(bool),
    /// A list.
    List(Vec<Node>),
    /// A section.
    Section(BTreeMap<String, Node>),
}

impl Value {
    /// For messages: what kind of value it is, never the value.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::Loose(_) => "a text",
            Self::Whole(_) => "a whole number",
            Self::Number(_) => "a number",
            Self::Switch(_) => "true or false",
            Self::List(_) => "a list",
            Self::Section(_) => "a section",
        }
    }
}

/// The key of `name` in the section `parent`.
pub(super) fn join(parent: &str, name: &str) -> String {
    let plain = !name.is_empty() && name.chars().all(|char| char.is_ascii_alphanumeric() || "_-".contains(char));
    let quoted = if plain { name.to_owned() } else { format!("{name:?}") };
    if parent.is_empty() { quoted } else { format!("{parent}.{quoted}") }
}

impl Node {
    pub fn section(key: &str, origin: &Rc<str>) -> Self {
        Self { key: key.to_owned(), origin: Rc::clone(origin), value: Value::Section(BTreeMap::new()) }
    }

    /// A tree that holds nothing but one setting, to be merged.
    pub fn single(path: &[&str], origin: &Rc<str>, make: impl FnOnce(&str) -> Value) -> Self {
        fn below(key: String, path: &[&str], origin: &Rc<str>, make: impl FnOnce(&str) -> Value) -> Node {
            let value = match path.split_first() {
                None => make(&key),
                Some((name, rest)) => {
                    let child = below(join(&key, name), rest, origin, make);
                    Value::Section(BTreeMap::from([((*name).to_owned(), child)]))
                }
            };
            Node { key, origin: Rc::clone(origin), value }
        }
        below(String::new(), path, origin, make)
    }

    /// Lays `later` over this tree: sections are joined, anything else is replaced.
    pub fn merge(&mut self, later: Self, faults: &mut Vec<Fault>) {
        match (&mut self.value, later.value) {
            (Value::Section(here), Value::Section(there)) => {
                for (name, child) in there {
                    match here.get_mut(&name) {
                        Some(present) => present.merge(child, faults),
                        None => drop(here.insert(name, child)),
                    }
                }
            }
            (Value::Section(_), other) => faults.push(Fault::new(
                &self.key,
                &*later.origin,
                format!("is a section, not {}; it has settings at {}", other.kind(), self.origin),
            )),
            (other, Value::Section(_)) => faults.push(Fault::new(
                &self.key,
                &*later.origin,
                format!("is used as a section, but is {} at {}", other.kind(), self.origin),
            )),
            (_, value) => (self.value, self.origin) = (value, later.origin),
        }
    }

    /// Adds what this section doesn't have and `other` does, as it was written there: key and place stay those of the other.
    pub fn inherit(&mut self, other: &Self) {
        let (Value::Section(own), Value::Section(others)) = (&mut self.value, &other.value) else { return };
        for (name, node) in others {
            own.entry(name.clone()).or_insert_with(|| node.clone());
        }
    }

    fn children(&self) -> Box<dyn Iterator<Item = &Self> + '_> {
        match &self.value {
            Value::List(items) => Box::new(items.iter()),
            Value::Section(names) => Box::new(names.values()),
            _ => Box::new(std::iter::empty()),
        }
    }

    /// Where the setting was written, or none when no source mentions it.
    pub fn origin_of(&self, key: &str) -> Option<&str> {
        if self.key == key {
            return Some(&self.origin);
        }
        self.children().find_map(|child| child.origin_of(key))
    }

    /// Takes a setting out, so that the rest can be read. False: there is no such setting.
    pub fn remove(&mut self, key: &str) -> bool {
        match &mut self.value {
            Value::List(items) => {
                let before = items.len();
                items.retain(|item| item.key != key);
                items.len() < before || items.iter_mut().any(|item| item.remove(key))
            }
            Value::Section(names) => {
                let before = names.len();
                names.retain(|_, child| child.key != key);
                names.len() < before || names.values_mut().any(|child| child.remove(key))
            }
            _ => false,
        }
    }
}
