//! Secrets when settings are compared: each becomes a digest, so that two can be told apart and none can be read.

use std::fmt::Write as _;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Serializer;
use sha2::{Digest as _, Sha256};

/// A secret's digest.
pub(super) fn digest<S: Serializer>(secret: &SecretString, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&hex(secret))
}

/// The digest of a secret that may be missing.
#[expect(clippy::ref_option, reason = "serde hands the field over as it is")]
pub(super) fn digest_of_any<S: Serializer>(secret: &Option<SecretString>, to: S) -> Result<S::Ok, S::Error> {
    match secret {
        Some(secret) => digest(secret, to),
        None => to.serialize_none(),
    }
}

fn hex(secret: &SecretString) -> String {
    Sha256::digest(secret.expose_secret()).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("text grows");
        text
    })
}
