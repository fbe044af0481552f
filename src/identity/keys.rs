//! The key file: `keys.json` in the state folder, what `greenroom keys` writes and a serving process reads.
//!
//! It holds no token, only hashes.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::{
    Scope,
    token::{self, TokenHash},
};
use crate::{
    ids::{TierName, UserId, hex, random_bytes},
    private_file::{PrivateFile, PrivateFileError, Stamp, WriteLock},
};

/// The largest key file that is read, in bytes: about 50,000 keys.
const FILE_MAX: u64 = 16 * 1024 * 1024;
/// The longest name of a key, in characters.
pub const NAME_MAX: usize = 128;
/// How long a key that expired is still listed. The next one that is made takes it out of the file.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Why the key file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyStoreError {
    /// It can't be read or written.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// The file isn't one of ours.
    #[error("{} is not a key file", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A key's name can't be shown as it is.
    #[error("a key's name must have 1 to {NAME_MAX} characters, none of them a control character")]
    Name,
    /// The file would be larger than any of ours.
    #[error("{} is larger than {FILE_MAX} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

/// One key, as far as it may be shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Names the key in `keys revoke`.
    pub id: String,
    /// The user it stands for.
    pub user: UserId,
    /// What it is for, in its maker's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What its token allows. Keys of former versions don't say it.
    #[serde(default = "usual_scopes")]
    pub scopes: Vec<Scope>,
    /// The tier its user's limits and budgets are of; none: the usual ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<TierName>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its token stops working; none: when it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The first characters of the token.
    pub prefix: String,
    /// The token's hash.
    pub(super) sha256: TokenHash,
}

impl Key {
    /// Whether its time has come.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= now)
    }
}

fn usual_scopes() -> Vec<Scope> {
    vec![Scope::Sessions]
}

/// A key that is to be made.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// The user it stands for.
    pub user: UserId,
    /// What it is for, in its maker's words.
    pub name: Option<String>,
    /// What its token allows; what isn't said is `sessions`.
    pub scopes: Vec<Scope>,
    /// The tier its user's limits and budgets are of; none: the usual ones.
    pub tier: Option<TierName>,
    /// How long its token works; none: until it is revoked.
    pub lifetime: Option<Duration>,
}

impl NewKey {
    /// A key that allows what most do, for ever.
    #[must_use]
    pub const fn of(user: UserId) -> Self {
        Self { user, name: None, scopes: Vec::new(), tier: None, lifetime: None }
    }
}

/// The file's content.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    keys: Vec<Key>,
}

/// The key file of one state folder.
#[derive(Debug, Clone)]
pub struct KeyStore {
    file: PrivateFile,
}

impl KeyStore {
    /// The key file in this state folder. It need not exist.
    #[must_use]
    pub fn in_folder(state: &Path) -> Self {
        Self { file: PrivateFile::new(state.join("keys.json")) }
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The file's state; none: there is no file.
    ///
    /// # Errors
    /// It can't be looked at.
    pub(super) fn stamp(&self) -> Result<Option<Stamp>, KeyStoreError> {
        Ok(self.file.stamp()?)
    }

    /// Every key. A file that doesn't exist holds none.
    ///
    /// # Errors
    /// The file can't be read or isn't a key file.
    pub fn list(&self) -> Result<Vec<Key>, KeyStoreError> {
        let Some(text) = self.file.read(FILE_MAX)? else { return Ok(Vec::new()) };
        let content: Content = serde_json::from_slice(&text)
            .map_err(|source| KeyStoreError::Format { path: self.path().to_owned(), source })?;
        Ok(content.keys)
    }

    /// Makes a key. The token is returned this once and kept nowhere.
    ///
    /// # Errors
    /// The name can't be shown, or the file can't be read or written.
    pub fn create(&self, wanted: NewKey) -> Result<(Key, SecretString), KeyStoreError> {
        let NewKey { user, name, mut scopes, tier, lifetime } = wanted;
        let shown =
            |name: &String| (1..=NAME_MAX).contains(&name.chars().count()) && !name.chars().any(char::is_control);
        if !name.as_ref().is_none_or(shown) {
            return Err(KeyStoreError::Name);
        }
        if scopes.is_empty() {
            scopes = usual_scopes();
        }
        scopes.sort_unstable();
        scopes.dedup();
        let lock = self.file.lock()?;
        let mut keys = self.list()?;
        let (token, prefix) = token::random();
        let created_at = Timestamp::now();
        // What ends after the end of time doesn't end.
        let expires_at = lifetime.and_then(|lifetime| created_at.checked_add(lifetime).ok());
        let sha256 = TokenHash::of(token.expose_secret());
        let key = Key { id: random_id(), user, name, scopes, tier, created_at, expires_at, prefix, sha256 };
        let forgotten = |key: &Key| key.expires_at.is_some_and(|at| at.duration_until(created_at) > REMEMBERED);
        keys.retain(|key| !forgotten(key));
        keys.push(key.clone());
        self.write(&lock, keys)?;
        Ok((key, token))
    }

    /// Takes a key away. False: there was none of that id.
    ///
    /// # Errors
    /// The file can't be read or written.
    pub fn revoke(&self, id: &str) -> Result<bool, KeyStoreError> {
        let lock = self.file.lock()?;
        let mut keys = self.list()?;
        let before = keys.len();
        keys.retain(|key| key.id != id);
        if keys.len() == before {
            return Ok(false);
        }
        self.write(&lock, keys)?;
        Ok(true)
    }

    fn write(&self, lock: &WriteLock, keys: Vec<Key>) -> Result<(), KeyStoreError> {
        let mut text = serde_json::to_string_pretty(&Content { keys }).expect("plain text fields always serialise");
        text.push('\n');
        if text.len() as u64 > FILE_MAX {
            return Err(KeyStoreError::TooLarge { path: self.path().to_owned() });
        }
        Ok(self.file.replace(lock, text.as_bytes())?)
    }
}

fn random_id() -> String {
    format!("key_{}", hex(&random_bytes::<8>()))
}

#[cfg(test)]
mod tests;
