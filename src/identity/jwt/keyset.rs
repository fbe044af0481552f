//! An issuer's public keys (a JWK set, RFC 7517), those of them that can be used. Pure.
//!
//! A key says by its type, its curve and its own `alg` which algorithms it is for; no other is ever tried with it. Keys that are too weak,
//! malformed, secret or for something else than signatures are passed over, so that one of them doesn't cost the others.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Keys of one issuer that are kept; nobody has as many.
const KEYS_MAX: usize = 64;
/// The smallest RSA modulus, in bits (RFC 7518, 3.3), and the largest, which bounds what a signature costs to check.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Why a text is no key set.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// It isn't JSON with a list `keys`.
    #[error("it is not a key set")]
    Format(#[source] serde_json::Error),
}

/// Tells keys apart by what they are, not by what they are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::identity) struct KeyPrint([u8; 32]);

/// Some keys of one issuer.
#[derive(Debug, Default)]
pub(in crate::identity) struct KeySet {
    keys: Vec<PublicKey>,
}

/// One key, and the algorithms it is for.
#[derive(Clone)]
pub(in crate::identity) struct PublicKey {
    id: Option<String>,
    algorithms: &'static [Algorithm],
    /// The one algorithm it says it is for.
    only: Option<Algorithm>,
    pub(super) print: KeyPrint,
    pub(super) key: DecodingKey,
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PublicKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// How a token's key was looked for in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// No key is called so: there may be a newer set.
    Unknown,
    /// There is a key of that name, but it isn't for that algorithm; or the token names none and several would do.
    Unfit,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeySet {
    /// Reads a set, and leaves out what can't be used.
    pub(super) fn parse(text: &[u8]) -> Result<Self, KeySetError> {
        let document: Document = serde_json::from_slice(text).map_err(KeySetError::Format)?;
        let usable = |key| PublicKey::of(&serde_json::from_value::<Jwk>(key).ok()?);
        Ok(Self { keys: document.keys.into_iter().filter_map(usable).take(KEYS_MAX).collect() })
    }

    /// The key a token was signed with, by what its header says. A token that names no key can only have been signed with the only one that fits.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<&PublicKey, Missing> {
        let Some(id) = id else {
            let mut fitting = self.keys.iter().filter(|key| key.is_for(algorithm));
            return match (fitting.next(), fitting.next()) {
                (Some(key), None) => Ok(key),
                (None, _) => Err(Missing::Unknown),
                (Some(_), Some(_)) => Err(Missing::Unfit),
            };
        };
        let called = || self.keys.iter().filter(|key| key.id.as_deref() == Some(id));
        called().find(|key| key.is_for(algorithm)).ok_or_else(|| match called().next() {
            Some(_) => Missing::Unfit,
            None => Missing::Unknown,
        })
    }

    /// This key, if it is among them.
    pub(super) fn get(&self, print: &KeyPrint) -> Option<&PublicKey> {
        self.keys.iter().find(|key| key.print == *print)
    }

    /// Whether this key is among them.
    pub(in crate::identity) fn has(&self, print: &KeyPrint) -> bool {
        self.get(print).is_some()
    }

    /// Whether both are the same to whoever signs tokens.
    pub(super) fn same(&self, other: &Self) -> bool {
        let told = |set: &Self| {
            let keys = set.keys.iter().map(|key| (key.print, key.id.clone(), key.only.map(|only| format!("{only:?}"))));
            let mut keys = keys.collect::<Vec<_>>();
            keys.sort();
            keys
        };
        told(self) == told(other)
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}

impl PublicKey {
    fn is_for(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm) && self.only.is_none_or(|only| only == algorithm)
    }

    /// None: it can't be used.
    fn of(jwk: &Jwk) -> Option<Self> {
        let common = &jwk.common;
        let signs = common.public_key_use.as_ref().is_none_or(|purpose| *purpose == PublicKeyUse::Signature);
        let verifies =
            common.key_operations.as_ref().is_none_or(|operations| operations.contains(&KeyOperations::Verify));
        let (algorithms, parts) = material(&jwk.algorithm).filter(|_| signs && verifies)?;
        let only = match common.key_algorithm {
            None => None,
            Some(only) => Some(Algorithm::try_from(only).ok().filter(|only| algorithms.contains(only))?),
        };
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let key = DecodingKey::from_jwk(jwk).ok()?;
        Some(Self { id: common.key_id.clone(), algorithms, only, print: KeyPrint(hash.finalize().into()), key })
    }
}

/// The algorithms a key of this type is for, and what it is made of. None: it is of no type we take, or not good enough.
fn material(parameters: &AlgorithmParameters) -> Option<(&'static [Algorithm], Vec<Vec<u8>>)> {
    let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
    let of = |name: &str, parts: Vec<Vec<u8>>| [vec![name.as_bytes().to_vec()], parts].concat();
    match parameters {
        AlgorithmParameters::RSA(rsa) => {
            let (n, e) = (bytes(&rsa.n)?, bytes(&rsa.e)?);
            let fits = RSA_BITS.contains(&bits(&n)) && (2..=32).contains(&bits(&e)) && e.last()? % 2 == 1;
            fits.then(|| {
                let algorithms = &[
                    Algorithm::RS256,
                    Algorithm::RS384,
                    Algorithm::RS512,
                    Algorithm::PS256,
                    Algorithm::PS384,
                    Algorithm::PS512,
                ];
                (algorithms.as_slice(), of("RSA", vec![n, e]))
            })
        }
        AlgorithmParameters::EllipticCurve(curve) => {
            let (name, algorithms, size): (_, &[Algorithm], _) = match curve.curve {
                EllipticCurve::P256 => ("P-256", &[Algorithm::ES256], 32),
                EllipticCurve::P384 => ("P-384", &[Algorithm::ES384], 48),
                _ => return None,
            };
            let (x, y) = (bytes(&curve.x)?, bytes(&curve.y)?);
            (x.len() == size && y.len() == size).then(|| (algorithms, of(name, vec![x, y])))
        }
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            let x = bytes(&pair.x)?;
            (x.len() == 32).then(|| ([Algorithm::EdDSA].as_slice(), of("Ed25519", vec![x])))
        }
        // A shared secret in a set of public keys is no secret.
        _ => None,
    }
}

/// How many bits a number has.
fn bits(number: &[u8]) -> usize {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let Some(first) = number.get(zeros) else { return 0 };
    (number.len() - zeros) * 8 - first.leading_zeros() as usize
}

#[cfg(test)]
mod tests;
