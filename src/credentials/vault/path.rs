//! Users and names as segments of a path.
//!
//! A server decodes what is percent-encoded, and a vault takes a path apart after that: an encoded slash would be a slash. So what is special is
//! written in characters that mean nothing to anybody on the way: letters, digits, `-`, `_`, `@` and dots stand for themselves, every other byte,
//! and a dot in the first place, is `~` and two hexadecimal digits. Two names are never written alike, and none is `.` or `..`.

use std::fmt::Write as _;

/// One segment, which holds nothing but letters, digits and `-_@.~`.
pub(super) fn encoded(name: &str) -> String {
    name.bytes().enumerate().fold(String::with_capacity(name.len()), |mut text, (at, byte)| {
        if byte.is_ascii_alphanumeric() || b"-_@".contains(&byte) || (byte == b'.' && at > 0) {
            text.push(char::from(byte));
        } else {
            write!(text, "~{byte:02X}").expect("text grows");
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_names_stay_as_they_are() {
        for name in ["ada", "ada@example.com", "a.b-c_d", "7"] {
            assert_eq!(encoded(name), name);
        }
        assert_eq!(encoded("auth0|5f7c+x"), "auth0~7C5f7c~2Bx");
    }

    #[test]
    fn no_name_leaves_its_segment() {
        for (name, written) in [
            ("..", "~2E."),
            (".", "~2E"),
            ("a/b", "a~2Fb"),
            ("../bob", "~2E.~2Fbob"),
            ("a%2fb", "a~252fb"),
            ("%2e%2e", "~252e~252e"),
            ("a?b#c", "a~3Fb~23c"),
            ("a\\b", "a~5Cb"),
            ("a;b", "a~3Bb"),
            ("*", "~2A"),
            ("+", "~2B"),
            ("~2E", "~7E2E"),
            ("{name}", "~7Bname~7D"),
        ] {
            assert_eq!(encoded(name), written);
        }
    }

    proptest! {
        #[test]
        fn two_names_are_never_written_alike(one in "[!-~]{1,6}", other in "[!-~]{1,6}") {
            prop_assert_eq!(one == other, encoded(&one) == encoded(&other));
        }

        #[test]
        fn what_is_written_survives_a_url(name in "[!-~]{1,128}") {
            let written = encoded(&name);
            let url: http::Uri = format!("https://vault.example/v1/secret/data/greenroom/{written}/work").parse().expect("an address");
            prop_assert_eq!(url.path().split('/').collect::<Vec<_>>(), ["", "v1", "secret", "data", "greenroom", &written, "work"]);
            prop_assert!(!written.contains('%') && written != ".." && written != ".");
        }
    }
}
