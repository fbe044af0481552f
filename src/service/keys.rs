//! API keys: made, listed and taken away by administrators.
//!
//! A key works from the moment it is answered with, and stops working, for open streams too, when it is taken away. Its token is in that one
//! answer and nowhere else: whoever loses it makes another.

use std::sync::Arc;

use secrecy::SecretString;
use tracing::info;

use super::{Service, list::PAGE_MAX, view::Page};
use crate::{
    identity::{Administrator, Key, KeyStoreError, NewKey},
    ids::UserId,
    problem::{Code, Problem},
};

impl Service {
    /// Makes a key. The token is given this once.
    ///
    /// # Errors
    /// Its name can't be shown, or the key file can't be written.
    pub async fn create_key(&self, caller: &Administrator, wanted: NewKey) -> Result<(Key, SecretString), Problem> {
        let identity = Arc::clone(&self.identity);
        let (key, token) = self.desk.run(move || identity.create_key(wanted)).await?;
        caller.trail().key(&key.user, &key.id);
        info!(user = %caller.user, key = key.id, key_user = %key.user, "API key made");
        Ok((key, token))
    }

    /// Everybody's keys, or those of one user, oldest first; those that expired too. `cursor` is the last id of the former page.
    ///
    /// # Errors
    /// A cursor that names no key, or the key file can't be read.
    pub async fn keys(
        &self,
        _caller: &Administrator,
        user: Option<&UserId>,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Page<Key>, Problem> {
        let identity = Arc::clone(&self.identity);
        let mut keys = self.desk.run(move || identity.keys()).await?;
        if let Some(cursor) = cursor {
            let place = keys.iter().position(|key| key.id == cursor);
            let place =
                place.ok_or_else(|| Problem::new(Code::InvalidRequest, "cursor: this key is gone; begin anew"))?;
            keys.drain(..=place);
        }
        keys.retain(|key| user.is_none_or(|user| key.user == *user));
        let limit = limit.clamp(1, PAGE_MAX);
        let more = keys.len() > limit;
        keys.truncate(limit);
        let next_cursor = keys.last().filter(|_| more).map(|last| last.id.clone());
        Ok(Page { items: keys, next_cursor })
    }

    /// Takes a key away: its token is refused from now on, and what is open with it ends.
    ///
    /// # Errors
    /// Not found, or the key file can't be written.
    pub async fn revoke_key(&self, caller: &Administrator, id: &str) -> Result<(), Problem> {
        let (identity, key) = (Arc::clone(&self.identity), id.to_owned());
        if !self.desk.run(move || identity.revoke_key(&key)).await? {
            return Err(Problem::not_found());
        }
        caller.trail().object(id);
        info!(user = %caller.user, key = id, "API key revoked");
        Ok(())
    }
}

impl From<KeyStoreError> for Problem {
    fn from(error: KeyStoreError) -> Self {
        match error {
            KeyStoreError::Name => Self::new(Code::InvalidRequest, format!("name: {error}")),
            KeyStoreError::File(_) | KeyStoreError::Format { .. } | KeyStoreError::TooLarge { .. } => {
                Self::internal(error)
            }
        }
    }
}
