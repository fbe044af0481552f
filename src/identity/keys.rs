//! The key file: `keys.json` in the state folder, what `greenroom keys` writes and a serving process reads.
//!
//! It holds no token, only hashes. Writers take a lock file, write a new file beside it and rename that over the old one: a reader sees
//! the old file or the new one, never half of one. A crash on the way leaves the old file and perhaps a `keys.json.new`, which the
//! next writer replaces. What root makes in a folder of somebody else's is given to them, or the server they run couldn't read it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{self as unix_fs, DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use rustix::fs::{FlockOperation, OFlags};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::{
    Scope,
    token::{self, TokenHash},
};
use crate::ids::{TierName, UserId, hex, random_bytes};

/// The largest key file that is read, in bytes: about 50,000 keys.
const FILE_MAX: u64 = 16 * 1024 * 1024;
/// The longest name of a key, in characters.
pub const NAME_MAX: usize = 128;
/// How long a key that expired is still listed. The next one that is made takes it out of the file.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Why the key file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyStoreError {
    /// The file system refused.
    #[error("can't {action} {}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
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
    /// The file is larger than any of ours, or would be.
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
    path: PathBuf,
}

impl KeyStore {
    /// The key file in this state folder. It need not exist.
    #[must_use]
    pub fn in_folder(state: &Path) -> Self {
        Self { path: state.join("keys.json") }
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every key. A file that doesn't exist holds none.
    ///
    /// # Errors
    /// The file can't be read or isn't a key file.
    pub fn list(&self) -> Result<Vec<Key>, KeyStoreError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(fault) => return Err(self.fault("open", fault)),
        };
        let mut text = String::new();
        file.take(FILE_MAX + 1).read_to_string(&mut text).map_err(|fault| self.fault("read", fault))?;
        if text.len() as u64 > FILE_MAX {
            return Err(KeyStoreError::TooLarge { path: self.path.clone() });
        }
        let content: Content =
            serde_json::from_str(&text).map_err(|source| KeyStoreError::Format { path: self.path.clone(), source })?;
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
        let _lock = self.lock()?;
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
        self.write(keys)?;
        Ok((key, token))
    }

    /// Takes a key away. False: there was none of that id.
    ///
    /// # Errors
    /// The file can't be read or written.
    pub fn revoke(&self, id: &str) -> Result<bool, KeyStoreError> {
        let _lock = self.lock()?;
        let mut keys = self.list()?;
        let before = keys.len();
        keys.retain(|key| key.id != id);
        if keys.len() == before {
            return Ok(false);
        }
        self.write(keys)?;
        Ok(true)
    }

    /// One writer at a time; the lock ends with the file handle, so also with its process.
    fn lock(&self) -> Result<File, KeyStoreError> {
        if let Some(folder) = self.path.parent() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(|fault| self.fault("make the folder of", fault))?;
        }
        let path = self.path.with_extension("lock");
        // Root must not be led out of a folder that is somebody else's.
        let no_follow = OFlags::NOFOLLOW.bits().cast_signed();
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600).custom_flags(no_follow);
        let file = options.open(&path).and_then(|file| self.give_to_owner(&file).map(|()| file));
        let file = file.map_err(|source| KeyStoreError::Io { action: "open", path: path.clone(), source })?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive).map_err(|fault| KeyStoreError::Io {
            action: "lock",
            path,
            source: fault.into(),
        })?;
        Ok(file)
    }

    fn write(&self, keys: Vec<Key>) -> Result<(), KeyStoreError> {
        let mut text = serde_json::to_string_pretty(&Content { keys }).expect("plain text fields always serialise");
        text.push('\n');
        if text.len() as u64 > FILE_MAX {
            return Err(KeyStoreError::TooLarge { path: self.path.clone() });
        }
        let fresh = self.path.with_extension("json.new");
        let write = || {
            // A leftover of a crash may have any mode: start from nothing.
            match fs::remove_file(&fresh) {
                Err(fault) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
                _ => {}
            }
            let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&fresh)?;
            self.give_to_owner(&file)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&fresh, &self.path)?;
            match self.path.parent() {
                // The rename itself must survive a power cut, or a revoked key would come back.
                Some(folder) => File::open(folder)?.sync_all(),
                None => Ok(()),
            }
        };
        write().map_err(|fault| self.fault("write", fault))
    }

    /// What root makes belongs to whom the folder belongs: `sudo greenroom keys` must not lock out a server that isn't root.
    fn give_to_owner(&self, file: &File) -> io::Result<()> {
        let Some(folder) = self.path.parent().filter(|_| rustix::process::geteuid().is_root()) else { return Ok(()) };
        let data = file.metadata()?;
        // A second name would be one that the folder's owner gave to a file of somebody else's.
        if !data.is_file() || data.nlink() != 1 {
            return Err(io::Error::other("it is not a file of its own"));
        }
        let owner = fs::metadata(folder)?;
        unix_fs::fchown(file, Some(owner.uid()), Some(owner.gid()))
    }

    pub(super) fn fault(&self, action: &'static str, source: io::Error) -> KeyStoreError {
        KeyStoreError::Io { action, path: self.path.clone(), source }
    }
}

fn random_id() -> String {
    format!("key_{}", hex(&random_bytes::<8>()))
}

#[cfg(test)]
mod tests;
