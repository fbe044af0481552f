//! What the claims of a token mean here: who it is, what they may, of which tier they are, until when. Pure.
//!
//! The signature and the registered claims hold already when this is asked. A claim is named as the provider names it; a name that isn't there as
//! it is written is followed along its dots, since some providers nest their claims (`realm_access.roles`).

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::Refused;
use crate::{
    config,
    identity::{Scope, Scopes},
    ids::{TierName, UserId},
};

/// The claims of one token.
pub(super) type Claims = Map<String, Value>;

/// What they mean.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    pub(super) user: UserId,
    pub(super) tier: Option<TierName>,
    pub(super) scopes: Scopes,
    /// When it stops being good: its `exp` and the leeway.
    pub(super) ends_at: Timestamp,
}

impl Meaning {
    /// Reads the claims as the settings say.
    pub(super) fn of(claims: &Claims, settings: &config::Issuer, now: Timestamp) -> Result<Self, Refused> {
        let leeway = settings.leeway.as_secs();
        let latest = seconds_of(now).saturating_add(leeway);
        // Whoever signs in the future has a clock that nothing else of it can be measured by.
        if claims.get("iat").is_some_and(|issued| seconds(issued).is_none_or(|issued| issued > latest)) {
            return Err(Refused::Claim("iat".to_owned()));
        }
        let expires = claims.get("exp").and_then(seconds).ok_or_else(|| Refused::Claim("exp".to_owned()))?;
        let ends_at = i64::try_from(expires.saturating_add(leeway)).ok();
        // Good for longer than there is time: for ever.
        let ends_at = ends_at.and_then(|at| Timestamp::from_second(at).ok()).unwrap_or(Timestamp::MAX);
        // The library takes a token during the very second it expires in; what was begun with it is over by then (RFC 7519, 4.1.4: on or after).
        if ends_at <= now {
            return Err(Refused::Claim("exp".to_owned()));
        }
        Ok(Self {
            user: user(claims, settings)?,
            tier: tier(claims, settings),
            scopes: scopes(claims, settings),
            ends_at,
        })
    }
}

fn user(claims: &Claims, settings: &config::Issuer) -> Result<UserId, Refused> {
    let refused = || Refused::Claim(settings.user_claim.clone());
    let name = find(claims, &settings.user_claim).and_then(Value::as_str).filter(|name| !name.is_empty());
    let prefix = settings.user_prefix.as_deref().unwrap_or_default();
    UserId::parse(&format!("{prefix}{}", name.ok_or_else(refused)?)).map_err(|_not_a_user_id| refused())
}

/// A tier that can't be one of the settings' is as good as none.
fn tier(claims: &Claims, settings: &config::Issuer) -> Option<TierName> {
    let claim = find(claims, settings.tier_claim.as_deref()?)?;
    TierName::parse(claim.as_str()?).ok()
}

/// What the provider's words mean. Words that nobody gave a meaning to allow nothing.
fn scopes(claims: &Claims, settings: &config::Issuer) -> Scopes {
    let meaning = |word: &str| {
        if settings.scopes.is_empty() {
            // Many providers give a role of that very name for something else: who may reach everybody's things is for the settings to say.
            Scope::parse(word).filter(|scope| *scope != Scope::Admin)
        } else {
            settings.scopes.get(word).copied()
        }
    };
    match find(claims, &settings.scope_claim) {
        Some(Value::String(words)) => words.split_ascii_whitespace().filter_map(meaning).collect(),
        Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).filter_map(meaning).collect(),
        _ => Scopes::default(),
    }
}

fn find<'c>(claims: &'c Claims, name: &str) -> Option<&'c Value> {
    if let Some(claim) = claims.get(name) {
        return Some(claim);
    }
    let (first, rest) = name.split_once('.')?;
    rest.split('.').try_fold(claims.get(first)?, |claim, part| claim.get(part))
}

/// A NumericDate (RFC 7519, 2), rounded as the library does.
fn seconds(claim: &Value) -> Option<u64> {
    let fits = |seconds: &f64| (0.0..9e15).contains(seconds);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it was looked at")]
    let rounded = || claim.as_f64().filter(fits).map(|seconds| seconds.round() as u64);
    claim.as_u64().or_else(rounded)
}

fn seconds_of(now: Timestamp) -> u64 {
    Duration::try_from(now.duration_since(Timestamp::UNIX_EPOCH)).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests;
