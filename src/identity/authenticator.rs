//! Turns a bearer token into somebody who proved who they are.
//!
//! Three kinds of tokens are taken: those of the settings, those made with `greenroom keys` or by an administrator, and those that identity providers
//! signed. A token of ours is looked up by its hash, in memory; what begins as ours do is never taken for a provider's.

use std::sync::Arc;

use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use super::{
    Key, KeyStoreError, NewKey, Proven,
    jwt::{Issuers, SourceError},
    register::{Grant, Register},
    token::PREFIX,
};
use crate::{
    config,
    fetch::FetchError,
    ids::{IssuerName, UserId},
};

/// Why there can be no authenticator.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// A token of the settings is too short.
    #[error("auth.tokens: the token of {user} must have 16 to 1024 visible ASCII characters")]
    Token {
        /// Whose.
        user: UserId,
    },
    /// Two users have the same token.
    #[error("auth.tokens: {first} and {second} have the same token")]
    Ambiguous {
        /// One of them.
        first: UserId,
        /// The other.
        second: UserId,
    },
    /// The key file can't be used.
    #[error(transparent)]
    Keys(#[from] KeyStoreError),
    /// An issuer's settings lead to no keys.
    #[error("auth.issuers: the keys of {name} can't be had: {source}")]
    Issuer {
        /// Which.
        name: IssuerName,
        /// Why not.
        #[source]
        source: SourceError,
    },
    /// Issuers can't be asked for their keys.
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

/// Knows who may come in.
#[derive(Debug)]
pub struct Authenticator {
    register: Arc<Register>,
    issuers: Issuers,
}

impl Authenticator {
    /// Takes the tokens and issuers of the settings and reads the key file. Blocks.
    ///
    /// # Errors
    /// A setting can't be used, or there is a key file and it can't be.
    pub fn load(auth: &config::Auth, state: &config::State) -> Result<Self, AuthError> {
        Ok(Self { register: Arc::new(Register::load(auth, state)?), issuers: Issuers::load(&auth.issuers)? })
    }

    /// Adds a token that lives as long as this process.
    #[must_use]
    pub fn with_token(self, user: UserId, token: &SecretString) -> Self {
        self.register.add(config::Token::new(user, token.clone()));
        self
    }

    /// Takes these tokens in place of those of the settings so far. What was opened with one that is gone ends.
    ///
    /// # Errors
    /// A token can't be used; those so far stay.
    pub fn replace_tokens(&self, auth: &config::Auth) -> Result<(), AuthError> {
        self.register.replace(auth)
    }

    /// Whether nobody could come in now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.issuers.is_empty() && self.register.is_empty()
    }

    /// Who shows this token. May wait a few seconds when its issuer has to be asked for a new key.
    pub async fn verify(&self, token: &str) -> Option<Proven> {
        if let Some((grant, standing)) = self.register.find(token) {
            let Grant { user, tier, credential, scopes, .. } = Grant::clone(&grant);
            return Some(Proven { user, tier, credential, scopes, standing });
        }
        if token.starts_with(PREFIX) || self.issuers.is_empty() {
            return None;
        }
        self.issuers.verify(token).await
    }

    /// Takes notice of what changes outside: the key file, and the keys of issuers. Ends with `stop`.
    pub async fn keep_house(self: Arc<Self>, stop: CancellationToken) {
        let keeping = async { tokio::join!(Arc::clone(&self.register).keep(), self.issuers.keep()) };
        tokio::select! {
            () = stop.cancelled() => {}
            _ = keeping => {}
        }
    }

    /// Every key of the key file, those that expired too. Blocks.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn keys(&self) -> Result<Vec<Key>, KeyStoreError> {
        self.register.store().list()
    }

    /// Makes a key that works from now on. Blocks.
    ///
    /// # Errors
    /// Its name can't be used, or the file can't be written.
    pub fn create_key(&self, wanted: NewKey) -> Result<(Key, SecretString), KeyStoreError> {
        let created = self.register.store().create(wanted)?;
        self.register.look();
        Ok(created)
    }

    /// Takes a key away; it doesn't work any more. False: there was none of that id. Blocks.
    ///
    /// # Errors
    /// The file can't be read or written.
    pub fn revoke_key(&self, id: &str) -> Result<bool, KeyStoreError> {
        let revoked = self.register.store().revoke(id)?;
        self.register.look();
        Ok(revoked)
    }
}

#[cfg(test)]
mod tests;
