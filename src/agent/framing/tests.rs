//! Lines, however the bytes are cut into chunks.

use bytes::Bytes;
use proptest::prelude::*;

use super::{Line, Overlong, Splitter, readable, shorten};

const LIMIT: usize = 16;

/// Every line of the chunks, or the number of lines before the stream was refused.
fn split(chunks: &[&[u8]], overlong: Overlong) -> (Vec<Line>, bool) {
    let mut splitter = Splitter::new(LIMIT, overlong);
    let mut lines = Vec::new();
    for chunk in chunks {
        let mut chunk = Bytes::copy_from_slice(chunk);
        loop {
            match splitter.next(&mut chunk) {
                Ok(Some(line)) => lines.push(line),
                Ok(None) => break,
                Err(_) => return (lines, true),
            }
            assert!(splitter.partial.len() <= LIMIT);
        }
        assert!(chunk.is_empty(), "a chunk is used up");
    }
    lines.extend(splitter.finish());
    (lines, false)
}

fn line(text: &str) -> Line {
    Line { bytes: Bytes::copy_from_slice(text.as_bytes()), cut: false }
}

#[test]
fn a_chunk_of_three_lines_and_a_half_gives_four() {
    let (lines, refused) = split(&[b"one\r\n\ntwo\nhalf"], Overlong::Refuse);
    assert_eq!(lines, [line("one"), line(""), line("two"), line("half")]);
    assert!(!refused);
}

#[test]
fn a_line_of_exactly_the_limit_is_whole() {
    let (lines, refused) = split(&[b"0123456789", b"abcdef\n"], Overlong::Refuse);
    assert_eq!(lines, [line("0123456789abcdef")]);
    assert!(!refused);
}

#[test]
fn a_longer_line_is_refused_before_its_end_has_come() {
    let (lines, refused) = split(&[b"ok\n0123456789", b"abcdefg"], Overlong::Refuse);
    assert_eq!(lines, [line("ok")]);
    assert!(refused);
}

#[test]
fn a_longer_line_is_cut_and_the_next_one_is_whole() {
    let (lines, _) = split(&[b"0123456789", b"abcdefg", b"more\nnext\n"], Overlong::Cut);
    assert_eq!(lines, [Line { bytes: Bytes::from_static(b"0123456789abcdef"), cut: true }, line("next")]);
}

#[test]
fn readable_text_is_never_longer_than_promised_and_never_panics() {
    assert_eq!(readable(b"caf\xc3\xa9 \xff", 16), "café \u{fffd}");
    assert_eq!(shorten("ééé", 3, false), "é…");
    assert_eq!(shorten("abc", 3, false), "abc");
}

proptest! {
    #[test]
    fn how_the_bytes_are_cut_into_chunks_makes_no_difference(
        bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..200),
        cuts in prop::collection::vec(0usize..200, 0..20),
        refuse: bool,
    ) {
        let overlong = if refuse { Overlong::Refuse } else { Overlong::Cut };
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.push(0);
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        prop_assert_eq!(split(&pieces, overlong), split(&[&bytes], overlong));
    }

    #[test]
    fn lines_that_are_cut_are_the_beginnings_of_those_that_are_not(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (lines, _) = split(&[&bytes], Overlong::Cut);
        let mut plain: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
        if plain.last().is_some_and(|last| last.is_empty()) {
            plain.pop();
        }
        prop_assert_eq!(lines.len(), plain.len());
        for (line, plain) in lines.iter().zip(plain) {
            prop_assert!(plain.starts_with(&line.bytes));
            prop_assert!(line.cut == (plain.len() > LIMIT));
        }
    }

    #[test]
    fn any_bytes_become_readable_text(bytes in prop::collection::vec(any::<u8>(), 0..100), limit in 0usize..50) {
        // A byte that isn't UTF-8 is replaced by three, and cutting adds the three of `…`.
        prop_assert!(readable(&bytes, limit).len() <= limit + 3);
    }
}
