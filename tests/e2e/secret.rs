//! A made-up key that must be found nowhere, however it is written.

use std::io::BufRead as _;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use sha2::{Digest as _, Sha256};

/// A key of its own for each test run.
#[derive(Debug)]
pub struct Canary {
    /// The key as a user would send it.
    pub key: String,
    needles: Vec<(&'static str, Vec<u8>)>,
}

impl Canary {
    /// A key that nobody has had before. Letters and digits only, so that no URL or JSON encoding changes it.
    pub fn new() -> Self {
        let mut seed = Sha256::new();
        seed.update(std::process::id().to_le_bytes());
        seed.update(format!("{:?}", std::time::SystemTime::now()));
        let key = format!("AIzaCanary{}", hex(&seed.finalize()[..16]));
        // What stands before the key decides which of three forms it takes in base64; the edges depend on the neighbours.
        let base64 = (0..3).map(|shift| {
            let text = STANDARD_NO_PAD.encode([&b"\0\0"[..shift], key.as_bytes()].concat());
            text[4..text.len() - 4].to_owned()
        });
        let base64 = base64.flat_map(|text| [text.replace('+', "-").replace('/', "_"), text]).map(String::into_bytes);
        let upper = hex(key.as_bytes()).to_uppercase();
        let needles = [("plain", key.clone().into_bytes()), ("hex", hex(key.as_bytes()).into_bytes())];
        let mut needles = needles.into_iter().chain(base64.map(|text| ("base64", text))).collect::<Vec<_>>();
        needles.push(("upper-case hex", upper.into_bytes()));
        needles.push(("backwards", key.bytes().rev().collect()));
        let each = |write: fn(u8) -> String| key.bytes().map(write).collect::<String>().into_bytes();
        needles.push(("URL-encoded", each(|byte| format!("%{byte:02X}"))));
        needles.push(("URL-encoded", each(|byte| format!("%{byte:02x}"))));
        needles.push(("JSON escapes", each(|byte| format!("\\u{byte:04x}"))));
        needles.push((
            "a list of numbers",
            key.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ").into_bytes(),
        ));
        Self { key, needles }
    }

    /// Panics if the key is in `haystack`, in whatever form.
    #[track_caller]
    pub fn assert_not_in(&self, place: &str, haystack: &[u8]) {
        if let Some(form) = self.found_in(haystack) {
            panic!("the key is in {place}, {form}");
        }
    }

    /// The form in which the key is in `haystack`.
    pub fn found_in(&self, haystack: &[u8]) -> Option<&'static str> {
        self.needles.iter().find(|(_, needle)| contains(haystack, needle)).map(|(form, _)| *form)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether `needle` is in `haystack`. The standard library's own search for a byte is quick even in an unoptimised build.
pub fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    let mut rest = haystack;
    while rest.skip_until(needle[0]).is_ok_and(|skipped| skipped > 0) {
        let candidate = &haystack[haystack.len() - rest.len() - 1..];
        if candidate.starts_with(needle) {
            return true;
        }
    }
    false
}

#[test]
fn the_hunter_finds_a_key_in_all_its_forms() {
    let canary = Canary::new();
    let shifted = |before: &str| base64::engine::general_purpose::STANDARD.encode(format!("{before}{}!", canary.key));
    for hidden in
        [canary.key.clone(), hex(canary.key.as_bytes()), shifted(""), shifted("a"), shifted("ab"), shifted("abc")]
    {
        assert!(canary.found_in(format!("something {hidden} else").as_bytes()).is_some(), "{hidden}");
    }
    for hidden in [
        canary.key.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>(),
        canary.key.bytes().map(|byte| format!("\\u{byte:04x}")).collect::<String>(),
        format!("{:?}", canary.key.as_bytes()),
        base64::engine::general_purpose::URL_SAFE.encode(format!("ab{}!", canary.key)),
    ] {
        assert!(canary.found_in(hidden.as_bytes()).is_some(), "{hidden}");
    }
    assert_eq!(canary.found_in(b"AIzaCanary of somebody else"), None);
    assert_eq!(canary.found_in(b""), None);
    assert!(contains(b"xAAB", b"AB") && contains(b"AB", b"AB") && contains(b"AAB", b"B") && !contains(b"xAA", b"AB"));
}
