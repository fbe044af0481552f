//! Tokens and their hashes.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::ids::{hex, random_bytes};

/// What every token of ours begins with, so that scanners find leaked ones.
pub(super) const PREFIX: &str = "gr_";
/// Characters of a token that may be shown: enough to tell keys apart, far too few to guess the rest.
const SHOWN: usize = PREFIX.len() + 4;

/// What is kept of a token.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct TokenHash([u8; 32]);

impl TokenHash {
    pub(super) fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TokenHash(..)")
    }
}

impl From<TokenHash> for String {
    fn from(hash: TokenHash) -> Self {
        hex(&hash.0)
    }
}

impl TryFrom<String> for TokenHash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const FAULT: &str = "a hash must be 64 hexadecimal digits";
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(FAULT);
        }
        let mut bytes = [0; 32];
        for (byte, place) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[place..place + 2], 16).map_err(|_| FAULT)?;
        }
        Ok(Self(bytes))
    }
}

/// A new token: `gr_` and 256 random bits. Returns it with the part that may be shown.
pub(super) fn random() -> (SecretString, String) {
    let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random_bytes::<32>()));
    let shown = token[..SHOWN].to_owned();
    (token.into(), shown)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn a_token_is_gr_and_43_characters_of_which_four_are_shown() {
        let (token, shown) = random();
        assert_eq!(token.expose_secret().len(), 46);
        assert_eq!(shown.len(), 7);
        assert!(token.expose_secret().starts_with(&shown));
        assert_ne!(token.expose_secret(), random().0.expose_secret());
    }

    #[test]
    fn a_hash_survives_being_written_and_read() {
        let hash = TokenHash::of("abc");
        let text = String::from(hash);
        // FIPS 180-2, appendix B.1.
        assert_eq!(text, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(TokenHash::try_from(text).unwrap(), hash);
        for bad in ["", "zz", &"g".repeat(64), &"é".repeat(32)] {
            assert!(TokenHash::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_hash_is_not_printed() {
        assert_eq!(format!("{:?}", TokenHash::of("abc")), "TokenHash(..)");
    }
}
