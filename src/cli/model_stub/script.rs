//! Decides what to answer: from the prompt's directives, else from the script's rules, else something friendly. Pure.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Options, prompt::Prompt};

/// Most pieces of one answer.
const PIECES: usize = 100_000;

/// How much of a prompt is repeated, in characters.
const ECHO: usize = 200;

/// Rules that come before the built-in answer.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// Tried in order; the first that fits is followed.
    pub rules: Vec<Rule>,
}

/// What to do with some prompts.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// Fits prompts that contain this; empty fits all.
    pub when: String,
    /// Tools to ask for, one after the other, before the answer.
    pub calls: Vec<ToolCall>,
    /// What to think before the answer.
    pub thought: Option<String>,
    /// The pieces of the answer.
    pub say: Vec<String>,
    /// Pause between the pieces, in milliseconds; none leaves it at the stub's own.
    pub delay_ms: Option<u64>,
    /// Fail with this status instead.
    pub error: Option<u16>,
}

/// A tool the model asks for.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolCall {
    /// The tool's name.
    pub name: String,
    /// Its arguments.
    #[serde(default)]
    pub args: Map<String, Value>,
}

/// How an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// As it should.
    Complete,
    /// Never.
    Stall,
}

/// What to do with one request.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Plan {
    /// Answer.
    Say { thought: Option<String>, pieces: Vec<String>, delay: Duration, ending: Ending },
    /// Ask for a tool.
    Call(ToolCall),
    /// Fail.
    Fail(u16),
    /// Never answer.
    Hang,
}

/// Decides.
pub(super) fn plan(prompt: &Prompt, options: &Options) -> Plan {
    let (directives, rest) = directives(&prompt.text);
    let mut wish =
        options.script.rules.iter().find(|rule| prompt.text.contains(&rule.when)).cloned().unwrap_or_default();
    let mut ending = Ending::Complete;
    for (name, value) in directives {
        match (name, value) {
            ("hang", _) => return Plan::Hang,
            ("stall", _) => ending = Ending::Stall,
            ("error", status) => wish.error = Some(status.trim().parse().unwrap_or(500)),
            ("delay", pause) => wish.delay_ms = pause.trim().parse().ok(),
            ("thought", text) => wish.thought = Some(text.to_owned()),
            ("words", text) => wish.say = text.split_inclusive(' ').map(str::to_owned).collect(),
            ("chunks", number) => {
                let number = number.trim().parse::<usize>().unwrap_or(1).clamp(1, PIECES);
                wish.say = (1..=number).map(|number| format!("chunk-{number} ")).collect();
            }
            ("tool", call) => wish.calls.extend(tool_call(call)),
            _ => {}
        }
    }
    if let Some(status) = wish.error {
        return Plan::Fail(status);
    }
    if let Some(call) = wish.calls.get(prompt.results) {
        return Plan::Call(call.clone());
    }
    let pieces = if wish.say.is_empty() { friendly(&rest, prompt.results) } else { wish.say };
    let delay = wish.delay_ms.map_or(options.delay, Duration::from_millis);
    Plan::Say { thought: wish.thought, pieces, delay, ending }
}

fn friendly(prompt: &str, results: usize) -> Vec<String> {
    let prompt: String = prompt.trim().chars().take(ECHO).collect();
    let done = if results > 0 { "The tool has answered. " } else { "" };
    let text = format!("Hello from the model stub. {done}You said: {prompt}");
    text.split_inclusive(' ').map(str::to_owned).collect()
}

/// Finds every `[name:value]` of a known name; returns them and the text without them.
fn directives(text: &str) -> (Vec<(&str, &str)>, String) {
    const NAMES: [&str; 8] = ["hang", "stall", "error", "delay", "thought", "words", "chunks", "tool"];
    let mut found = Vec::new();
    let mut rest = String::new();
    let mut left = text;
    while let Some(at) = left.find('[') {
        let inside = &left[at + 1..];
        let known = NAMES.into_iter().find_map(|name| {
            let value = inside.strip_prefix(name)?;
            if value.starts_with(']') { Some((name, "", value)) } else { Some((name, ":", value.strip_prefix(':')?)) }
        });
        let Some((name, _, value)) = known
            .and_then(|known| Some((known, end_of(known.2)?)))
            .map(|((name, colon, value), end)| (name, colon, value.split_at(end)))
        else {
            rest.push_str(&left[..=at]);
            left = inside;
            continue;
        };
        rest.push_str(&left[..at]);
        found.push((name, value.0));
        left = &value.1[1..];
    }
    rest.push_str(left);
    (found, rest)
}

/// Where a directive's `]` is: outside of double quotes.
fn end_of(value: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    let mut depth = 0_usize;
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' if !quoted => depth += 1,
            b']' if !quoted && depth == 0 => return Some(at),
            b']' if !quoted => depth -= 1,
            _ => {}
        }
    }
    // An odd quote is just a character.
    value.find(']')
}

/// `NAME {"json": …}` or `NAME key=value key="quoted value"`.
fn tool_call(text: &str) -> Option<ToolCall> {
    let text = text.trim();
    let (name, args) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    if name.is_empty() {
        return None;
    }
    let args = serde_json::from_str(args).unwrap_or_else(|_| pairs(name, args));
    Some(ToolCall { name: name.to_owned(), args })
}

fn pairs(tool: &str, mut text: &str) -> Map<String, Value> {
    let mut pairs = Map::new();
    while let Some((key, value)) = text.trim_start().split_once('=') {
        let (value, rest) = match quoted(value) {
            Some(found) => found,
            None => {
                let end = next_key(value).unwrap_or(value.len());
                (value[..end].trim_end().to_owned(), &value[end..])
            }
        };
        let key = match (tool, key) {
            ("write_file", "path") => "file_path",
            ("write_file", "text") => "content",
            _ => key,
        };
        pairs.insert(key.to_owned(), Value::String(value));
        text = rest;
    }
    pairs
}

/// A JSON string at the beginning, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut strings = serde_json::Deserializer::from_str(text).into_iter::<String>();
    let value = strings.next()?.ok()?;
    let rest = &text[strings.byte_offset()..];
    Some((value, rest))
}

/// Where the next ` key=` begins.
fn next_key(text: &str) -> Option<usize> {
    text.char_indices().filter(|(_, char)| char.is_whitespace()).map(|(at, _)| at).find(|&at| {
        let word = text[at..].trim_start();
        let key = word.split('=').next().unwrap_or_default();
        key.len() < word.len()
            && !key.is_empty()
            && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    })
}

#[cfg(test)]
mod tests;
