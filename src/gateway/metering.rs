//! Reads token counts out of answers as they pass.
//!
//! [`UsageScanner`] is a small state machine over the bytes of JSON, whether bare or as server-sent events: it follows strings and braces,
//! and keeps bytes only inside a `usageMetadata` object of the outermost object (or of the outermost array's objects). So its
//! memory is bounded whatever passes, its time is linear, it doesn't matter how the bytes are cut, and a text or a tool's arguments
//! that spell out `usageMetadata` count for nothing.

use serde::Deserialize;

/// The key it looks for.
const KEY: &[u8] = b"usageMetadata";

/// Largest object of counts that is kept, in bytes; the real ones have about 300.
const WINDOW: usize = 16 * 1024;

/// The counts of one answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Tokens read: prompt and tool results.
    pub input: u64,
    /// Tokens written: answer and thoughts.
    pub output: u64,
}

/// As in the Gemini API's `UsageMetadata`; cached tokens are part of the prompt's.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UsageMetadata {
    prompt_token_count: Option<u64>,
    tool_use_prompt_token_count: Option<u64>,
    candidates_token_count: Option<u64>,
    thoughts_token_count: Option<u64>,
}

/// How far the key and its value have been seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Key,
    Colon,
    Value,
}

/// Finds the last counts of an answer.
#[derive(Debug)]
pub(super) struct UsageScanner {
    events: bool,
    blank_line: bool,
    depth: u32,
    array: bool,
    in_string: bool,
    escaped: bool,
    /// Bytes of [`KEY`] that the current string has matched; none once it differs.
    matched: Option<usize>,
    expect: Expect,
    /// The object being kept and the depth it was opened at.
    kept: Option<(Vec<u8>, u32)>,
    last: Option<Counts>,
    skipped: u32,
}

impl UsageScanner {
    /// A scanner for one answer; `events` for server-sent events, where a blank line begins a new document.
    pub fn new(events: bool) -> Self {
        Self {
            events,
            blank_line: false,
            depth: 0,
            array: false,
            in_string: false,
            escaped: false,
            matched: None,
            expect: Expect::Key,
            kept: None,
            last: None,
            skipped: 0,
        }
    }

    /// The last complete counts so far.
    pub fn counts(&self) -> Option<Counts> {
        self.last
    }

    /// Count objects that were too long or not understood.
    pub fn skipped(&self) -> u32 {
        self.skipped
    }

    /// Takes the next bytes.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            // Most bytes are inside strings, and most of those are plain.
            if self.in_string && !self.escaped && self.matched.is_none() && self.kept.is_none() {
                let plain = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\' | b'\n')).unwrap_or(bytes.len());
                if plain > 0 {
                    self.blank_line = false;
                    bytes = &bytes[plain..];
                    continue;
                }
            }
            self.take(byte);
            bytes = rest;
        }
    }

    fn take(&mut self, byte: u8) {
        if self.events && self.ends_event(byte) {
            return self.begin_document();
        }
        if let Some((kept, _)) = &mut self.kept {
            kept.push(byte);
            if kept.len() > WINDOW {
                self.kept = None;
                self.skipped = self.skipped.saturating_add(1);
            }
        }
        if self.in_string { self.take_in_string(byte) } else { self.take_structure(byte) }
    }

    fn ends_event(&mut self, byte: u8) -> bool {
        match byte {
            b'\n' if self.blank_line => true,
            b'\n' => {
                self.blank_line = true;
                false
            }
            b'\r' => false,
            _ => {
                self.blank_line = false;
                false
            }
        }
    }

    /// Forgets a document that was cut off, so that it can't hide those after it.
    fn begin_document(&mut self) {
        let fresh = Self::new(self.events);
        *self = Self { last: self.last, skipped: self.skipped, ..fresh };
    }

    fn take_in_string(&mut self, byte: u8) {
        if self.escaped {
            self.escaped = false;
        } else if byte == b'\\' {
            self.escaped = true;
            self.matched = None;
        } else if byte == b'"' {
            self.in_string = false;
            let is_key = self.matched == Some(KEY.len()) && self.depth == 1 + u32::from(self.array);
            self.expect = if is_key { Expect::Colon } else { Expect::Key };
        } else {
            self.matched = self.matched.filter(|&at| KEY.get(at) == Some(&byte)).map(|at| at + 1);
        }
    }

    fn take_structure(&mut self, byte: u8) {
        let expect = self.expect;
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => return,
            b'"' => {
                self.in_string = true;
                self.matched = Some(0);
            }
            b'{' | b'[' => {
                if self.depth == 0 {
                    self.array = byte == b'[';
                }
                self.depth = self.depth.saturating_add(1);
                if byte == b'{' && expect == Expect::Value {
                    self.kept = Some((vec![b'{'], self.depth));
                }
            }
            b'}' | b']' => {
                if self.kept.as_ref().is_some_and(|(_, depth)| *depth == self.depth) {
                    self.read_kept();
                }
                self.depth = self.depth.saturating_sub(1);
            }
            _ => {}
        }
        self.expect = if byte == b':' && expect == Expect::Colon { Expect::Value } else { Expect::Key };
    }

    fn read_kept(&mut self) {
        let Some((kept, _)) = self.kept.take() else { return };
        let Ok(usage) = serde_json::from_slice::<UsageMetadata>(&kept) else {
            self.skipped = self.skipped.saturating_add(1);
            return;
        };
        let sum = |one: Option<u64>, other: Option<u64>| one.unwrap_or(0).saturating_add(other.unwrap_or(0));
        self.last = Some(Counts {
            input: sum(usage.prompt_token_count, usage.tool_use_prompt_token_count),
            output: sum(usage.candidates_token_count, usage.thoughts_token_count),
        });
    }
}

#[cfg(test)]
mod tests;
