//! Keys that seal keys: AES-256-GCM, each entry with a nonce of its own by chance.
//!
//! A master key is 32 random bytes that an operator keeps. Two values are derived from it (HKDF-SHA256): the key that seals, and an id of eight
//! bytes. The id stands beside what was sealed: it says which master key opens it, so a wrong one is told by name and nothing is tried with it. What is
//! sealed is bound to the words beside it, here the owner and the name: an entry that was moved elsewhere can't be opened.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    hkdf,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use crate::ids::{hex, random_bytes};

/// Bytes of a master key.
const KEY_BYTES: usize = 32;
/// Bytes of a master key's id.
const ID_BYTES: usize = 8;
/// Keeps our derivations apart from everybody else's with the same key.
const SALT: &[u8] = b"greenroom credentials 1";

/// Why there are no master keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MasterKeyError {
    /// One isn't what it should be.
    #[error("must be 32 bytes in base64, or several such keys; `greenroom credentials generate-key` makes one")]
    Malformed,
    /// There is none.
    #[error("has no key; `greenroom credentials generate-key` makes one")]
    Missing,
}

/// Why something can't be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnsealError {
    /// None of the given master keys has sealed it.
    #[error("it was sealed with a key that isn't given")]
    UnknownKey,
    /// It isn't as it was sealed, or not where.
    #[error("it was changed or moved since it was sealed")]
    Tampered,
}

/// Names a master key and gives nothing of it away.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct MasterKeyId(String);

impl fmt::Display for MasterKeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Something sealed, as it is written down.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// The master key that opens it.
    pub key: MasterKeyId,
    /// Its nonce, in base64.
    nonce: String,
    /// Its bytes and their tag, in base64.
    text: String,
}

struct MasterKey {
    id: MasterKeyId,
    key: RandomizedNonceKey,
}

/// The master keys: the first seals, all open.
pub struct MasterKeys {
    first: MasterKey,
    others: Vec<MasterKey>,
}

impl fmt::Debug for MasterKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.all().map(|key| &key.id)).finish()
    }
}

impl MasterKeys {
    /// Reads keys in base64, apart by blanks, commas or line ends.
    ///
    /// # Errors
    /// There is none, or one isn't a key.
    pub fn parse(text: &SecretString) -> Result<Self, MasterKeyError> {
        let words = text.expose_secret().split(|char: char| char.is_whitespace() || char == ',');
        let mut keys = words.filter(|word| !word.is_empty()).map(MasterKey::parse);
        let first = keys.next().ok_or(MasterKeyError::Missing)??;
        Ok(Self { first, others: keys.collect::<Result<_, _>>()? })
    }

    /// A new key as text, from the kernel's random source.
    #[must_use]
    pub fn generate() -> SecretString {
        let bytes = Zeroizing::new(random_bytes::<KEY_BYTES>());
        // Base64 of a known length: there is room for all of it at once, so it is written in one place.
        let mut text = Zeroizing::new(String::with_capacity(KEY_BYTES * 2));
        STANDARD.encode_string(*bytes, &mut text);
        SecretString::from(text.as_str())
    }

    /// The id of the one that seals.
    #[must_use]
    pub const fn sealing(&self) -> &MasterKeyId {
        &self.first.id
    }

    /// The ids of all.
    pub fn ids(&self) -> impl Iterator<Item = &MasterKeyId> {
        self.all().map(|key| &key.id)
    }

    /// Seals a secret, bound to what stands beside it.
    ///
    /// # Panics
    /// The system has no random numbers.
    #[must_use]
    pub fn seal(&self, secret: &str, beside: &[u8]) -> Sealed {
        // With room for the tag: a text that grew elsewhere would leave a copy of the secret behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(secret.len() + AES_256_GCM.tag_len()));
        bytes.extend_from_slice(secret.as_bytes());
        let nonce = self.first.key.seal_in_place_append_tag(Aad::from(beside), &mut *bytes);
        let nonce = nonce.expect("a short text can be sealed, and the kernel has random numbers");
        Sealed { key: self.first.id.clone(), nonce: STANDARD.encode(nonce.as_ref()), text: STANDARD.encode(&*bytes) }
    }

    /// Opens what was sealed, beside the same words.
    ///
    /// # Errors
    /// [`UnsealError`].
    pub fn open(&self, sealed: &Sealed, beside: &[u8]) -> Result<SecretString, UnsealError> {
        let key = self.all().find(|key| key.id == sealed.key).ok_or(UnsealError::UnknownKey)?;
        let nonce: [u8; NONCE_LEN] =
            STANDARD.decode(&sealed.nonce).ok().and_then(|nonce| nonce.try_into().ok()).ok_or(UnsealError::Tampered)?;
        let bytes = STANDARD.decode(&sealed.text).map_err(|_| UnsealError::Tampered)?;
        let mut bytes = Zeroizing::new(bytes);
        let opened = key.key.open_in_place(Nonce::from(&nonce), Aad::from(beside), &mut bytes);
        let opened = opened.map_err(|_| UnsealError::Tampered)?;
        std::str::from_utf8(opened).map(SecretString::from).map_err(|_| UnsealError::Tampered)
    }

    fn all(&self) -> impl Iterator<Item = &MasterKey> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

impl MasterKey {
    fn parse(text: &str) -> Result<Self, MasterKeyError> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES + 4]);
        let length = STANDARD.decode_slice(text, &mut *bytes).map_err(|_| MasterKeyError::Malformed)?;
        if length != KEY_BYTES {
            return Err(MasterKeyError::Malformed);
        }
        let master = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(&bytes[..KEY_BYTES]);
        let mut sealing = Zeroizing::new([0; KEY_BYTES]);
        let mut id = [0; ID_BYTES];
        derive(&master, b"seal", &mut *sealing);
        derive(&master, b"id", &mut id);
        let key = RandomizedNonceKey::new(&AES_256_GCM, &*sealing).map_err(|_| MasterKeyError::Malformed)?;
        Ok(Self { id: MasterKeyId(hex(&id)), key })
    }
}

fn derive(master: &hkdf::Prk, purpose: &[u8], into: &mut [u8]) {
    struct Length(usize);
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let purpose = [purpose];
    let derived = master.expand(&purpose, Length(into.len())).and_then(|derived| derived.fill(into));
    derived.expect("far less than 255 hashes' worth is derived");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(texts: &[&SecretString]) -> MasterKeys {
        let text = texts.iter().map(|text| text.expose_secret()).collect::<Vec<_>>().join("\n");
        MasterKeys::parse(&text.into()).expect("good keys")
    }

    #[test]
    fn what_was_sealed_is_opened_beside_the_same_words_only() {
        let keys = keys(&[&MasterKeys::generate()]);
        let sealed = keys.seal("canary", b"ada\0work");
        assert_eq!(keys.open(&sealed, b"ada\0work").expect("it opens").expose_secret(), "canary");
        assert_eq!(keys.open(&sealed, b"bob\0work").err(), Some(UnsealError::Tampered));
        assert!(!format!("{sealed:?}{keys:?}").contains("canary"));
    }

    #[test]
    fn no_two_seals_are_alike() {
        let keys = keys(&[&MasterKeys::generate()]);
        let (one, other) = (keys.seal("canary", b""), keys.seal("canary", b""));
        assert!(one.nonce != other.nonce && one.text != other.text);
    }

    #[test]
    fn the_first_key_seals_and_all_open() {
        let (old, new) = (MasterKeys::generate(), MasterKeys::generate());
        let sealed = keys(&[&old]).seal("canary", b"");
        let both = keys(&[&new, &old]);
        assert_eq!(both.open(&sealed, b"").expect("it opens").expose_secret(), "canary");
        assert_eq!(both.seal("x", b"").key, *keys(&[&new]).sealing());
        assert_eq!(keys(&[&new]).open(&sealed, b"").err(), Some(UnsealError::UnknownKey));
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_repeated() {
        let parse = |text: &str| MasterKeys::parse(&text.into()).map(|_| ());
        for bad in ["canary", &STANDARD.encode([0; 31]), &STANDARD.encode([0; 33]), &STANDARD.encode([0; 64])] {
            assert_eq!(parse(bad), Err(MasterKeyError::Malformed), "{bad}");
        }
        assert_eq!(parse(" \n,"), Err(MasterKeyError::Missing));
        assert_eq!(parse(&format!("{}\n", STANDARD.encode([7; 32]))), Ok(()));
    }

    /// Held by files that are there already: the derivation must never change.
    #[test]
    fn a_master_key_has_the_same_id_for_ever() {
        assert_eq!(keys(&[&STANDARD.encode([7; 32]).into()]).sealing().to_string(), "8659a15e59900e45");
    }

    proptest! {
        #[test]
        fn any_change_is_found_out(secret in "[!-~]{1,80}", at in 0_usize..1000, bit in 0_u8..8) {
            let keys = keys(&[&STANDARD.encode([1; 32]).into()]);
            let sealed = keys.seal(&secret, b"beside");
            let mut bytes = STANDARD.decode(&sealed.text).expect("base64");
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            let changed = Sealed { text: STANDARD.encode(bytes), ..sealed };
            prop_assert_eq!(keys.open(&changed, b"beside").err(), Some(UnsealError::Tampered));
        }
    }
}
