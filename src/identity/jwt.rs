//! Tokens that identity providers signed (JWT, RFC 7519), under the rules of RFC 8725.
//!
//! What a token says about itself decides nothing but which issuer is asked and which of its keys is tried. The issuer's settings say how its
//! tokens may be signed, whom they must be for and what their claims mean; its keys come from where the settings say, never from the token.
//! Whoever is refused is only told that they are; the log says why at level `debug`, without the token.

mod claims;
mod header;
mod issuer;
mod keeper;
mod keyset;
mod source;

use std::{collections::HashMap, sync::Arc};

use futures_util::future::join_all;
use jsonwebtoken::dangerous::insecure_decode_claims;
use serde::Deserialize;

use self::issuer::Issuer;
pub(super) use self::keyset::{KeyPrint, KeySet};
pub use self::source::SourceError;
use super::{AuthError, Proven};
use crate::{config, fetch::Fetcher};

/// The longest token that is looked at, in bytes.
const TOKEN_MAX: usize = 8 * 1024;

/// Why a token is refused. For the log only.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// It isn't three parts of text, or too many bytes.
    #[error("it has not the shape of a token")]
    Shape,
    /// Its header or its claims can't be read, its signature or one of its registered claims doesn't hold.
    #[error("it does not hold: {0}")]
    Token(#[from] jsonwebtoken::errors::Error),
    /// No issuer of the settings.
    #[error("its issuer is none of the settings'")]
    Issuer,
    /// An algorithm the settings don't name.
    #[error("it is signed in a way that the settings don't allow")]
    Algorithm,
    /// Another kind of token.
    #[error("its `typ` is not that of an access token")]
    Kind,
    /// It has extensions that must be understood.
    #[error("it has critical extensions (`crit`)")]
    Extensions,
    /// None of the issuer's keys.
    #[error("its issuer has no such key for this algorithm")]
    Key,
    /// A claim that is missing, or isn't what it must be.
    #[error("its claim `{0}` is missing or not what it must be")]
    Claim(String),
}

/// Every issuer of the settings.
#[derive(Debug)]
pub(super) struct Issuers(HashMap<String, Arc<Issuer>>);

/// What says who signed it, before anything is believed.
#[derive(Deserialize)]
struct Claimed {
    iss: String,
}

impl Issuers {
    /// Takes the settings, and reads the keys that are in files. Nobody is asked for keys yet.
    pub(super) fn load(settings: &[config::Issuer]) -> Result<Self, AuthError> {
        let fetcher = Fetcher::new()?;
        let issuer = |settings: &config::Issuer| {
            Issuer::load(settings, &fetcher).map(|issuer| (settings.issuer.clone(), Arc::new(issuer)))
        };
        let issuers = settings.iter().map(issuer).collect::<Result<_, _>>()?;
        tell_of_shared_names(settings);
        Ok(Self(issuers))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Who shows this token. May wait for its issuer's keys, for a few seconds.
    pub(super) async fn verify(&self, token: &str) -> Option<Proven> {
        let refused = match self.prove(token).await {
            Ok(proven) => return Some(proven),
            Err(refused) => refused,
        };
        tracing::debug!(reason = %refused, "a token was refused");
        None
    }

    async fn prove(&self, token: &str) -> Result<Proven, Refused> {
        let parts = token.split('.').collect::<Vec<_>>();
        let signed = parts.len() == 3 && parts.iter().all(|part| !part.is_empty());
        if token.len() > TOKEN_MAX || !signed {
            return Err(Refused::Shape);
        }
        let Claimed { iss } = insecure_decode_claims(token)?;
        self.0.get(&iss).ok_or(Refused::Issuer)?.prove(token).await
    }

    /// Keeps every issuer's keys fresh. Ends by being dropped.
    pub(super) async fn keep(&self) {
        join_all(self.0.values().map(|issuer| issuer.keep())).await;
    }
}

/// Two issuers whose users can have the same name: each speaks for the other's users.
fn tell_of_shared_names(settings: &[config::Issuer]) {
    let prefix = |issuer: &config::Issuer| issuer.user_prefix.clone().unwrap_or_default();
    for (place, one) in settings.iter().enumerate() {
        for other in &settings[place + 1..] {
            if prefix(one).starts_with(&prefix(other)) || prefix(other).starts_with(&prefix(one)) {
                tracing::warn!(%one.name, %other.name, "these issuers can name the same user; `user_prefix` would keep them apart");
            }
        }
    }
}

#[cfg(test)]
mod tests;
