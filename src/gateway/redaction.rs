//! Takes the key out of what a model says about it. Real APIs repeat it in their refusals: "Consumer 'api_key:…' has been suspended."
//!
//! Found are the key as it is, as part of a URL, and as part of anything in base64. Other spellings (hex, letters as escapes) are not:
//! no API is known to use them. Pure, no I/O.
//!
//! Errors are gathered and searched as a whole ([`hide`]). A success is searched as it passes ([`Veil`]): an error may come in the middle of it.

mod veil;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use bytes::Bytes;

pub(super) use self::veil::{Spellings, Veil};

/// What stands in the key's place.
const HIDDEN: &[u8] = b"(hidden)";

/// Shortest piece of base64 that is taken for a key's.
const BASE64_MIN: usize = 8;

/// The text without the key; as it was if the key isn't in it.
pub(super) fn hide(text: Bytes, key: &str) -> Bytes {
    let spellings = spellings(key);
    let at = |rest: &[u8]| spellings.iter().find(|spelling| rest.starts_with(spelling)).map(Vec::len);
    let mut kept = Vec::new();
    let (mut taken, mut here) = (0, 0);
    while here < text.len() {
        match at(&text[here..]) {
            Some(length) => {
                kept.extend_from_slice(&text[taken..here]);
                kept.extend_from_slice(HIDDEN);
                here += length;
                taken = here;
            }
            None => here += 1,
        }
    }
    if taken == 0 {
        return text;
    }
    kept.extend_from_slice(&text[taken..]);
    kept.into()
}

/// The ways to write the key, longest first.
fn spellings(key: &str) -> Vec<Vec<u8>> {
    let mut spellings = vec![key.to_owned(), in_a_url(key, false), in_a_url(key, true)];
    for shift in 0..3 {
        let standard = in_base64(key, shift);
        let url_safe = standard.replace('+', "-").replace('/', "_");
        spellings.extend([standard, url_safe].into_iter().filter(|text| text.len() >= BASE64_MIN));
    }
    spellings.retain(|spelling| !spelling.is_empty());
    spellings.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
    spellings.dedup();
    spellings.into_iter().map(String::into_bytes).collect()
}

fn in_a_url(key: &str, lower_case: bool) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ if lower_case => format!("%{byte:02x}"),
        _ => format!("%{byte:02X}"),
    };
    key.bytes().map(byte).collect()
}

/// The characters of base64 that are the key's alone when `shift` bytes, up to a multiple of three, stand before it.
fn in_base64(key: &str, shift: usize) -> String {
    let text = STANDARD_NO_PAD.encode([&[0; 3][..shift], key.as_bytes()].concat());
    let (first, last) = ((shift * 8).div_ceil(6), (shift + key.len()) * 8 / 6);
    // A key of one byte may have no character to itself.
    text.get(first..last).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "AIzaCanary_0-1~2?>";

    fn hidden(text: &str) -> String {
        String::from_utf8(hide(Bytes::from(text.to_owned()), KEY).to_vec()).expect("text stays text")
    }

    #[test]
    fn every_occurrence_goes_and_the_rest_stays() {
        assert_eq!(hidden(&format!("'api_key:{KEY}' and {KEY}{KEY}.")), "'api_key:(hidden)' and (hidden)(hidden).");
        for harmless in ["", "no key here", "AIzaCanary_0-1 of somebody else", "AIzaCanary_0-1~2?"] {
            assert_eq!(hidden(harmless), harmless);
        }
    }

    #[test]
    fn a_key_in_a_url_or_in_base64_is_found() {
        assert_eq!(hidden("GET /?key=AIzaCanary_0-1~2%3F%3E&a=b"), "GET /?key=(hidden)&a=b");
        assert_eq!(hidden("GET /?key=AIzaCanary_0-1~2%3f%3e"), "GET /?key=(hidden)");
        for before in ["", "a", "ab", "abc"] {
            for engine in [STANDARD, URL_SAFE] {
                let text = engine.encode(format!("{before}{KEY}, and more"));
                assert!(hidden(&text).contains("(hidden)"), "{text}");
            }
        }
    }

    #[test]
    fn an_empty_or_tiny_key_does_no_harm() {
        let text = Bytes::from_static(b"abcabc");
        assert_eq!(hide(text.clone(), ""), text);
        assert_eq!(hide(text, "b"), "a(hidden)ca(hidden)c");
    }

    proptest! {
        #[test]
        fn no_key_survives_in_any_text(before in any::<String>(), key in "[!-~]{12,40}", after in any::<String>()) {
            for text in [format!("{before}{key}{after}"), format!("{key}{key}{after}")] {
                let text = hide(Bytes::from(text), &key);
                prop_assert!(!text.windows(key.len()).any(|part| part == key.as_bytes()));
            }
        }
    }
}
