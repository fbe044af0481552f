//! The key out of a stream, as it passes. What it covers keeps its length, so that a body is as long as was said.
//!
//! Held back are only bytes that may be the beginning of a key whose rest hasn't come: fewer than the key has, and none at the end of an event.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use zeroize::Zeroizing;

/// What stands in place of each byte of the key.
const COVER: u8 = b'*';

/// Shortest spelling that is looked for: shorter ones are in every text by chance.
const SHORTEST: usize = 8;

/// The ways to write one key, longest first.
pub(in crate::gateway) struct Spellings {
    texts: Zeroizing<Vec<Vec<u8>>>,
    /// Whether one of them begins with this byte.
    begins: [bool; 256],
}

impl std::fmt::Debug for Spellings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Spellings(hidden)")
    }
}

impl Spellings {
    /// Of this key; without one there is nothing to find.
    pub fn of(key: Option<&str>) -> Self {
        let mut texts = Zeroizing::new(key.map(super::spellings).unwrap_or_default());
        texts.retain(|text| text.len() >= SHORTEST);
        let mut begins = [false; 256];
        texts.iter().filter_map(|text| text.first()).for_each(|byte| begins[usize::from(*byte)] = true);
        Self { texts, begins }
    }

    /// The next place where one of them is, or might be if there were more: its begin, and its length; none if it isn't whole.
    fn find(&self, text: &[u8], from: usize) -> Option<(usize, Option<usize>)> {
        let mut at = from;
        loop {
            at += text[at..].iter().position(|byte| self.begins[usize::from(*byte)])?;
            let rest = &text[at..];
            if let Some(whole) = self.texts.iter().find(|spelling| rest.starts_with(spelling)) {
                return Some((at, Some(whole.len())));
            }
            if self.texts.iter().any(|spelling| spelling.starts_with(rest)) {
                return Some((at, None));
            }
            at += 1;
        }
    }
}

/// Covers the key in one body.
#[derive(Debug)]
pub(in crate::gateway) struct Veil {
    spellings: Arc<Spellings>,
    held: BytesMut,
}

impl Veil {
    /// For one body.
    pub fn new(spellings: Arc<Spellings>) -> Self {
        Self { spellings, held: BytesMut::new() }
    }

    /// Bytes that are held back.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Takes the next bytes and gives what may pass: all but the beginning of what may become a key.
    pub fn pass(&mut self, data: Bytes) -> Bytes {
        if self.held.is_empty() && self.spellings.find(&data, 0).is_none() {
            return data;
        }
        self.held.extend_from_slice(&data);
        let mut from = 0;
        while let Some((at, length)) = self.spellings.find(&self.held, from) {
            let Some(length) = length else { return self.held.split_to(at).freeze() };
            self.held[at..at + length].fill(COVER);
            from = at + length;
        }
        self.held.split().freeze()
    }

    /// The end: what was held back is no key.
    pub fn rest(&mut self) -> Option<Bytes> {
        (!self.held.is_empty()).then(|| self.held.split().freeze())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "AIzaCanary_0-1~2";

    fn veiled<'a>(key: &str, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut veil = Veil::new(Arc::new(Spellings::of(Some(key))));
        let mut passed = Vec::new();
        for piece in pieces {
            passed.extend_from_slice(&veil.pass(Bytes::copy_from_slice(piece)));
            assert!(veil.held() < key.len() * 3, "too much is held back");
        }
        passed.extend_from_slice(&veil.rest().unwrap_or_default());
        passed
    }

    #[test]
    fn a_key_is_covered_wherever_the_stream_is_cut() {
        let text = format!("data: {{\"error\":\"'api_key:{KEY}' AIzaCan {KEY}{KEY}\"}}\n\n");
        let expected = text.replace(KEY, &"*".repeat(KEY.len()));
        for cut in 0..=text.len() {
            let (one, other) = text.as_bytes().split_at(cut);
            assert_eq!(veiled(KEY, [one, other]), expected.as_bytes(), "cut at {cut}");
        }
        assert_eq!(veiled(KEY, text.as_bytes().chunks(1)), expected.as_bytes());
    }

    #[test]
    fn an_event_that_is_whole_passes_whole() {
        let mut veil = Veil::new(Arc::new(Spellings::of(Some(KEY))));
        let event = Bytes::from_static(b"data: {\"text\":\"A AIza AIzaCan\"}\n\n");
        assert_eq!(veil.pass(event.clone()), event);
        assert_eq!((veil.held(), veil.rest()), (0, None));
    }

    #[test]
    fn without_a_key_or_with_a_tiny_one_everything_passes() {
        for key in [None, Some(""), Some("abc")] {
            let mut veil = Veil::new(Arc::new(Spellings::of(key)));
            assert_eq!(veil.pass(Bytes::from_static(b"abcabc")), "abcabc");
        }
    }

    proptest! {
        #[test]
        fn no_cut_lets_a_key_through_and_nothing_else_changes(
            parts in proptest::collection::vec("[AIza_0-2\n]{0,6}", 0..12), size in 1_usize..20,
        ) {
            let text = parts.join(KEY);
            let passed = veiled(KEY, text.as_bytes().chunks(size));
            prop_assert_eq!(String::from_utf8(passed).expect("text"), text.replace(KEY, &"*".repeat(KEY.len())));
        }
    }
}
