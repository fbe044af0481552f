//! What a token's header must say before its signature is looked at. Pure.
//!
//! `jku`, `x5u`, `x5c` and `jwk` are read over: a token doesn't bring the key it is checked with.

use jsonwebtoken::{Algorithm, Header};

use super::Refused;
use crate::config::SigningAlgorithm;

/// Kinds of tokens that are taken, in lower case: RFC 7519, RFC 9068. What is signed for another purpose, such as a logout, says so here.
const KINDS: [&str; 2] = ["jwt", "at+jwt"];

/// Checks the header, and gives back the algorithm, which is one of those allowed.
pub(super) fn check(header: &Header, allowed: &[Algorithm]) -> Result<Algorithm, Refused> {
    if header.crit.is_some() {
        return Err(Refused::Extensions);
    }
    if !header.typ.as_deref().is_none_or(is_access_token) {
        return Err(Refused::Kind);
    }
    if allowed.contains(&header.alg) { Ok(header.alg) } else { Err(Refused::Algorithm) }
}

/// A media type is the same in any case, and with or without what it begins with (RFC 7515, 4.1.9).
fn is_access_token(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    KINDS.contains(&kind.strip_prefix("application/").unwrap_or(&kind))
}

/// The same in the library's words.
pub(super) const fn algorithm(of: SigningAlgorithm) -> Algorithm {
    match of {
        SigningAlgorithm::RS256 => Algorithm::RS256,
        SigningAlgorithm::RS384 => Algorithm::RS384,
        SigningAlgorithm::RS512 => Algorithm::RS512,
        SigningAlgorithm::PS256 => Algorithm::PS256,
        SigningAlgorithm::PS384 => Algorithm::PS384,
        SigningAlgorithm::PS512 => Algorithm::PS512,
        SigningAlgorithm::ES256 => Algorithm::ES256,
        SigningAlgorithm::ES384 => Algorithm::ES384,
        SigningAlgorithm::EdDSA => Algorithm::EdDSA,
    }
}
