//! The places settings come from, each turned into a tree: a TOML file, variables, flags.
//!
//! Nothing is checked here but syntax. Texts about syntax name the place and never quote it: the line may hold a secret.

use std::{collections::BTreeMap, path::Path, rc::Rc};

use toml::de::{DeInteger, DeTable, DeValue};

use super::{
    fault::Fault,
    tree::{Node, Value, join},
};

/// The prefix of variables that name a setting by its path.
const PREFIX: &str = "GREENROOM__";
/// Settings are never nested deeper than this.
const DEPTH_MAX: usize = 6;
/// Variables known by other names, and the setting each stands for. `DOCKER_HOST` gives way to a set `runtime.host`.
pub(super) const WELL_KNOWN: [(&str, &[&str]); 4] = [
    ("GEMINI_API_KEY", &["model", "api_key"]),
    ("DOCKER_HOST", &["runtime", "host"]),
    ("POOL_SIZE", &["pool", "size"]),
    ("GEMINI_IMAGE", &["templates", "gemini", "image"]),
];

/// Reads a TOML file.
pub(super) fn file(path: &Path) -> Result<Node, Fault> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Fault::new("", &name, format!("can't be read: {}", error.kind())))?;
    toml_text(&text, &name)
}

pub(super) fn toml_text(text: &str, name: &str) -> Result<Node, Fault> {
    let table = DeTable::parse(text).map_err(|error| {
        let line = line_of(text, error.span().map_or(0, |span| span.start));
        Fault::new("", format!("{name} line {line}"), format!("isn't TOML: {}", syntax(error.message())))
    })?;
    let origin = |at: usize| format!("{name} line {}", line_of(text, at)).into();
    Ok(Node { key: String::new(), origin: name.into(), value: section("", table.get_ref(), &origin)? })
}

/// The parser's words without anything it quotes.
fn syntax(message: &str) -> &str {
    message.split(['`', '"', '\'']).next().map(str::trim).filter(|text| !text.is_empty()).unwrap_or("syntax error")
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1
}

fn section(key: &str, table: &DeTable<'_>, origin: &dyn Fn(usize) -> Rc<str>) -> Result<Value, Fault> {
    table
        .iter()
        .map(|(name, value)| {
            let name = name.get_ref();
            let node = node(join(key, name), value.get_ref(), origin(value.span().start), origin)?;
            Ok((name.to_string(), node))
        })
        .collect::<Result<_, _>>()
        .map(Value::Section)
}

fn node(key: String, value: &DeValue<'_>, at: Rc<str>, origin: &dyn Fn(usize) -> Rc<str>) -> Result<Node, Fault> {
    let wrong = |text: &str| Fault::new(&key, &*at, text);
    let value = match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => Value::Whole(whole(number).ok_or_else(|| wrong("is too large a number"))?),
        DeValue::Float(number) => Value::Number(number.as_str().parse().map_err(|_error| wrong("isn't a number"))?),
        DeValue::Boolean(switch) => Value::Switch(*switch),
        DeValue::Datetime(_) => return Err(wrong("is a date; no setting is one")),
        DeValue::Array(items) => items
            .iter()
            .enumerate()
            .map(|(index, item)| node(format!("{key}[{index}]"), item.get_ref(), origin(item.span().start), origin))
            .collect::<Result<_, _>>()
            .map(Value::List)?,
        DeValue::Table(table) => section(&key, table, origin)?,
    };
    Ok(Node { key, origin: at, value })
}

fn whole(number: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// Reads `GREENROOM__SECTION__KEY` variables. Names are put in lower case, but for what comes after a template's `ENV__`: those are
/// names of variables themselves. An empty variable counts as not set.
pub(super) fn variables(env: &BTreeMap<String, String>, tree: &mut Node, faults: &mut Vec<Fault>) {
    for (name, text) in env {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        if text.is_empty() {
            continue;
        }
        let mut path: Vec<String> = rest.split("__").map(str::to_lowercase).collect();
        if let [templates, _, env, ..] = path.as_slice()
            && (templates.as_str(), env.as_str()) == ("templates", "env")
        {
            path.truncate(3);
            path.push(rest.splitn(4, "__").nth(3).unwrap_or_default().to_owned());
        }
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let origin = Rc::from(name.as_str());
        if path.len() > DEPTH_MAX {
            faults.push(Fault::new(path[..DEPTH_MAX].join("."), &*origin, "is no setting: none is nested so deep"));
            continue;
        }
        let mut trouble = None;
        let node = Node::single(&path, &origin, |key| {
            loose(key, text, &origin).unwrap_or_else(|fault| {
                trouble = Some(fault);
                Value::List(Vec::new())
            })
        });
        match trouble {
            Some(fault) => faults.push(fault),
            None => tree.merge(node, faults),
        }
    }
}

/// Reads the variables known by other names.
pub(super) fn well_known(env: &BTreeMap<String, String>, tree: &mut Node, faults: &mut Vec<Fault>) {
    for (name, path) in WELL_KNOWN {
        let Some(text) = env.get(name).filter(|text| !text.is_empty()) else { continue };
        if name == "DOCKER_HOST" && tree.origin_of("runtime.host").is_some() {
            continue;
        }
        tree.merge(Node::single(path, &name.into(), |_key| Value::Loose(text.clone())), faults);
    }
}

/// A variable's text; one that begins with `[` is a list as TOML writes it.
fn loose(key: &str, text: &str, origin: &Rc<str>) -> Result<Value, Fault> {
    if !text.trim_start().starts_with('[') {
        return Ok(Value::Loose(text.to_owned()));
    }
    let value = DeValue::parse(text.trim())
        .map_err(|error| Fault::new(key, &**origin, format!("isn't a TOML list: {}", syntax(error.message()))))?;
    node(key.to_owned(), value.get_ref(), Rc::clone(origin), &|_at| Rc::clone(origin)).map(|node| node.value)
}
