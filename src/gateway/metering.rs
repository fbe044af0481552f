//! Reads token counts out of answers as they pass.
//!
//! [`UsageScanner`] is a small state machine over the bytes of JSON, whether bare or as server-sent events: it follows strings and braces,
//! and keeps bytes only inside the object of counts: one of the outermost object (or of the outermost array's objects), or of that one object
//! below it in which the API puts its counts ([`Places`]). So its memory is bounded whatever passes, its time is linear, it doesn't matter how
//! the bytes are cut, and a text or a tool's arguments that spell out an object of counts count for nothing.

mod counts;

use self::counts::Sum;
pub(super) use self::counts::{Counts, run_along};
use crate::config::ApiForm;

/// Largest object of counts that is kept, in bytes; the real ones have about 300.
const WINDOW: usize = 16 * 1024;

/// Longest name of a model that is kept, in bytes.
const MODEL_MAX: usize = 128;

/// Where an API says what it counted.
#[derive(Debug, Clone, Copy)]
struct Places {
    /// The key of the object of counts.
    counts: &'static [u8],
    /// The key of the object below which counts and model may stand, too.
    below: &'static [u8],
    /// The key of the model's name.
    model: &'static [u8],
}

impl Places {
    /// A name that no key has where an API has no such place.
    const NONE: &'static [u8] = b"\"";

    const fn of(form: ApiForm) -> Self {
        match form {
            // The model is part of the path.
            ApiForm::Gemini => Self { counts: b"usageMetadata", below: Self::NONE, model: Self::NONE },
            // A stream begins with the message's beginning, and ends with what it came to.
            ApiForm::Anthropic => Self { counts: b"usage", below: b"message", model: b"model" },
            // Responses are streamed as events that carry the response.
            ApiForm::Openai => Self { counts: b"usage", below: b"response", model: b"model" },
        }
    }

    const fn name(&self, key: Key) -> &'static [u8] {
        match key {
            Key::Counts => self.counts,
            Key::Below => self.below,
            Key::Model => self.model,
        }
    }
}

/// The keys it looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Counts,
    Below,
    Model,
}

impl Key {
    const ALL: [Self; 3] = [Self::Counts, Self::Below, Self::Model];
}

/// How far a key and its value have been seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Key,
    Colon(Key),
    Value(Key),
}

/// The keys that a string may still become.
#[derive(Debug, Clone, Copy, Default)]
struct Candidates {
    /// Bytes of the string so far.
    length: usize,
    alive: [bool; 3],
}

impl Candidates {
    const fn all() -> Self {
        Self { length: 0, alive: [true; 3] }
    }

    fn none_left(self) -> bool {
        self.alive == [false; 3]
    }

    fn take(&mut self, places: &Places, byte: u8) {
        for (key, alive) in Key::ALL.into_iter().zip(&mut self.alive) {
            *alive &= places.name(key).get(self.length) == Some(&byte);
        }
        self.length += 1;
    }

    fn found(self, places: &Places) -> Option<Key> {
        let whole = |(key, alive): &(Key, bool)| *alive && places.name(*key).len() == self.length;
        Key::ALL.into_iter().zip(self.alive).find(whole).map(|(key, _)| key)
    }
}

/// Finds the last counts of an answer.
#[derive(Debug)]
pub(super) struct UsageScanner {
    form: ApiForm,
    places: Places,
    events: bool,
    blank_line: bool,
    depth: u32,
    array: bool,
    /// Inside the object below which counts may stand.
    below: bool,
    in_string: bool,
    escaped: bool,
    candidates: Candidates,
    expect: Expect,
    /// The object being kept and the depth it was opened at.
    kept: Option<(Vec<u8>, u32)>,
    /// The model's name while it passes.
    name: Option<Vec<u8>>,
    model: Option<String>,
    last: Option<Sum>,
    skipped: u32,
}

impl UsageScanner {
    /// A scanner for one answer; `events` for server-sent events, where a blank line begins a new document.
    pub fn new(form: ApiForm, events: bool) -> Self {
        Self {
            form,
            places: Places::of(form),
            events,
            blank_line: false,
            depth: 0,
            array: false,
            below: false,
            in_string: false,
            escaped: false,
            candidates: Candidates::default(),
            expect: Expect::Key,
            kept: None,
            name: None,
            model: None,
            last: None,
            skipped: 0,
        }
    }

    /// The last complete counts so far.
    pub fn counts(&self) -> Option<Counts> {
        self.last.map(Sum::counts)
    }

    /// The model, if the answer named it.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Count objects that were too long or not understood.
    pub fn skipped(&self) -> u32 {
        self.skipped
    }

    /// Takes the next bytes.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            // Most bytes are inside strings, and most of those are plain.
            let nothing_kept = self.kept.is_none() && self.name.is_none();
            if self.in_string && !self.escaped && self.candidates.none_left() && nothing_kept {
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
        let fresh = Self::new(self.form, self.events);
        *self = Self { last: self.last, skipped: self.skipped, model: self.model.take(), ..fresh };
    }

    /// The depth of the keys that are looked for.
    fn top(&self) -> u32 {
        1 + u32::from(self.array)
    }

    fn take_in_string(&mut self, byte: u8) {
        if self.escaped {
            self.escaped = false;
        } else if byte == b'\\' {
            self.escaped = true;
            self.candidates = Candidates::default();
            self.name = None;
        } else if byte == b'"' {
            self.in_string = false;
            self.end_name();
            let here = self.depth == self.top() || (self.below && self.depth == self.top() + 1);
            let found = self.candidates.found(&self.places).filter(|_| here);
            self.expect = found.map_or(Expect::Key, Expect::Colon);
        } else {
            self.candidates.take(&self.places, byte);
            self.name = self.name.take().filter(|name| name.len() < MODEL_MAX);
            if let Some(name) = &mut self.name {
                name.push(byte);
            }
        }
    }

    fn end_name(&mut self) {
        let good = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._:/@".contains(byte);
        if let Some(name) = self.name.take().filter(|name| !name.is_empty() && name.iter().all(good)) {
            self.model = String::from_utf8(name).ok();
        }
    }

    fn take_structure(&mut self, byte: u8) {
        let expect = self.expect;
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => return,
            b'"' => {
                self.in_string = true;
                self.candidates = Candidates::all();
                if expect == Expect::Value(Key::Model) {
                    self.name = Some(Vec::new());
                    // A value is no key.
                    self.candidates = Candidates::default();
                }
            }
            b'{' | b'[' => {
                if self.depth == 0 {
                    self.array = byte == b'[';
                }
                if byte == b'{' && expect == Expect::Value(Key::Below) && self.depth == self.top() {
                    self.below = true;
                }
                self.depth = self.depth.saturating_add(1);
                if byte == b'{' && expect == Expect::Value(Key::Counts) {
                    self.kept = Some((vec![b'{'], self.depth));
                }
            }
            b'}' | b']' => {
                if self.kept.as_ref().is_some_and(|(_, depth)| *depth == self.depth) {
                    self.read_kept();
                }
                self.depth = self.depth.saturating_sub(1);
                self.below &= self.depth > self.top();
            }
            _ => {}
        }
        self.expect = match expect {
            Expect::Colon(key) if byte == b':' => Expect::Value(key),
            _ => Expect::Key,
        };
    }

    fn read_kept(&mut self) {
        let Some((kept, _)) = self.kept.take() else { return };
        match Sum::read(self.form, &kept, self.last) {
            Some(sum) => self.last = Some(sum),
            None => self.skipped = self.skipped.saturating_add(1),
        }
    }
}

#[cfg(test)]
mod tests;
