//! The encrypted file: `credentials.json` in the state folder, what users and `greenroom credentials` write and a serving process reads.
//!
//! Whose key it is, its name and its times are readable; the key itself is sealed ([`super::seal`]), bound to version, owner and name. What is kept in
//! memory is sealed, too: a key is opened when it is looked up, and at no other time. A file that was changed, by whomever, is read again.

mod content;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};

use self::content::{Content, Entry};
use super::{
    CredentialsError, KEY_MAX, KeySource, KeySourceError, is_key,
    seal::{MasterKeyId, MasterKeys, UnsealError},
};
use crate::{
    config,
    ids::{CredentialName, UserId},
    private_file::{PrivateFile, PrivateFileError, Stamp, read_secret},
};

/// The file's name in the state folder.
pub const FILE_NAME: &str = "credentials.json";
/// The largest file that is read or written, in bytes: about 40,000 keys.
const FILE_MAX: u64 = 16 * 1024 * 1024;
/// Keys of one user.
const OF_A_USER_MAX: usize = 64;
/// How often the file is looked at for changes.
const LOOK: Duration = Duration::from_secs(1);

/// Why the file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FileStoreError {
    /// It can't be read or written.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// It isn't one of ours.
    #[error("{path} is not a file of credentials")]
    Format {
        /// The file.
        path: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// It is of a later version than this program knows.
    #[error("{path} is of version {version}, which this program doesn't know")]
    Version {
        /// The file.
        path: String,
        /// Its version.
        version: u32,
    },
    /// It was sealed with another master key.
    #[error(
        "{path} has keys that were sealed with the master key {sealed}; given: {given}. Give that one, too, in credentials.key or its file"
    )]
    WrongKey {
        /// The file.
        path: String,
        /// What it was sealed with.
        sealed: MasterKeyId,
        /// What there is, by their ids.
        given: String,
    },
    /// An entry can't be opened.
    #[error("the key {name} of {user} can't be opened")]
    Sealed {
        /// Whose.
        user: UserId,
        /// Which.
        name: CredentialName,
        /// Why.
        #[source]
        source: UnsealError,
    },
    /// This can't be a key.
    #[error("a key has 1 to {KEY_MAX} visible ASCII characters")]
    NotAKey,
    /// The user has as many as they may.
    #[error("a user may have {OF_A_USER_MAX} keys")]
    TooMany,
    /// There is room for no more.
    #[error("the file of credentials is full")]
    Full,
}

/// One entry, as far as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Whose.
    pub user: UserId,
    /// Its name.
    pub name: CredentialName,
    /// When it was first put there.
    pub created_at: Timestamp,
    /// When its key was last changed.
    pub updated_at: Timestamp,
}

/// What the file held when it was last read.
#[derive(Debug, Default)]
struct Known {
    stamp: Option<Stamp>,
    content: Arc<Content>,
}

/// The file of one state folder, and the master keys that open it.
#[derive(Debug)]
pub struct FileStore {
    file: PrivateFile,
    keys: MasterKeys,
    /// Held while a small file is read, never across an await.
    known: Mutex<Known>,
    /// The state of the file that [`FileStore::changed`] has told of. For a few lines.
    told: Mutex<Option<Stamp>>,
}

impl FileStore {
    /// Reads the master keys and the file, which need not exist.
    ///
    /// # Errors
    /// A master key is missing, malformed or the wrong one; the file can't be read.
    pub fn open(settings: &config::Credentials, state: &Path) -> Result<Self, CredentialsError> {
        let (setting, text) = match (&settings.key, &settings.key_file) {
            (Some(key), _) => ("credentials.key", key.clone()),
            (None, Some(path)) => {
                let setting = "credentials.key_file";
                (setting, read_secret(path).map_err(|source| CredentialsError::Secret { setting, source })?)
            }
            (None, None) => {
                let text = "must be set for the store `file`, or credentials.key_file".to_owned();
                return Err(CredentialsError::Setting { setting: "credentials.key", text });
            }
        };
        let keys =
            MasterKeys::parse(&text).map_err(|error| CredentialsError::Setting { setting, text: error.to_string() })?;
        let file = PrivateFile::new(state.join(FILE_NAME));
        let told = Mutex::new(file.stamp().map_err(FileStoreError::File)?);
        let store = Self { file, keys, known: Mutex::default(), told };
        let content = store.content()?;
        store.check(&content)?;
        Ok(store)
    }

    /// Every entry, by user and name; of one user, if one is named.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn list(&self, user: Option<&UserId>) -> Result<Vec<Listed>, FileStoreError> {
        let content = self.content()?;
        let wanted = content.entries.iter().filter(|entry| user.is_none_or(|user| entry.user == *user));
        Ok(wanted.map(Entry::listed).collect())
    }

    /// Puts a key under a name, in place of the one that was there. When it returns, that is on the disk. Waits for other writers: not for a
    /// thread that serves others.
    ///
    /// # Errors
    /// It is no key, there is room for no more, or the file can't be read or written.
    pub fn put(&self, user: &UserId, name: &CredentialName, key: &SecretString) -> Result<(), FileStoreError> {
        if !is_key(key.expose_secret()) {
            return Err(FileStoreError::NotAKey);
        }
        let seal = self.keys.seal(key.expose_secret(), &content::beside(user, name));
        self.write(|content| {
            let now = Timestamp::now();
            match content.find(user, name) {
                Ok(at) => {
                    let entry = &mut content.entries[at];
                    (entry.updated_at, entry.seal) = (now, seal);
                }
                Err(at) => {
                    if content.entries.iter().filter(|entry| entry.user == *user).count() >= OF_A_USER_MAX {
                        return Err(FileStoreError::TooMany);
                    }
                    let (user, name) = (user.clone(), name.clone());
                    content.entries.insert(at, Entry { user, name, created_at: now, updated_at: now, seal });
                }
            }
            Ok(true)
        })?;
        Ok(())
    }

    /// Takes a key away. False: there was none of that name.
    ///
    /// # Errors
    /// The file can't be read or written.
    pub fn remove(&self, user: &UserId, name: &CredentialName) -> Result<bool, FileStoreError> {
        self.write(|content| {
            let found = content.find(user, name);
            Ok(found.is_ok_and(|at| {
                content.entries.remove(at);
                true
            }))
        })
    }

    /// Seals every entry anew with the first master key; says how many were sealed with another one. All or none.
    ///
    /// # Errors
    /// An entry can't be opened, or the file can't be read or written.
    pub fn rekey(&self) -> Result<usize, FileStoreError> {
        let mut count = 0;
        self.write(|content| {
            self.check(content)?;
            for entry in &mut content.entries {
                if entry.seal.key != *self.keys.sealing() {
                    let beside = content::beside(&entry.user, &entry.name);
                    let key = self.unseal(entry)?;
                    entry.seal = self.keys.seal(key.expose_secret(), &beside);
                    count += 1;
                }
            }
            Ok(count > 0)
        })?;
        Ok(count)
    }

    /// Returns when the file is another one than when this returned last. Safe to drop.
    pub async fn changed(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            // What can't be looked at now is looked at again.
            let Ok(stamp) = self.stamp() else { continue };
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            if std::mem::replace(&mut *told, stamp) != stamp {
                return;
            }
        }
    }

    fn look_up(&self, user: &UserId, name: &CredentialName) -> Result<SecretString, KeySourceError> {
        let content = self.content().map_err(|error| KeySourceError::Unreachable(error.into()))?;
        let at = content.find(user, name).map_err(|_| KeySourceError::NotThere)?;
        self.unseal(&content.entries[at]).map_err(|error| KeySourceError::Broken(error.into()))
    }

    fn unseal(&self, entry: &Entry) -> Result<SecretString, FileStoreError> {
        let Entry { user, name, seal, .. } = entry;
        self.keys.open(seal, &content::beside(user, name)).map_err(|source| FileStoreError::Sealed {
            user: user.clone(),
            name: name.clone(),
            source,
        })
    }

    /// Whether the master keys are those that the file needs. One entry that was tampered with must not keep all others from their users.
    fn check(&self, content: &Content) -> Result<(), FileStoreError> {
        for entry in &content.entries {
            match self.unseal(entry) {
                Ok(_) => {}
                Err(FileStoreError::Sealed { source: UnsealError::UnknownKey, .. }) => {
                    let given = self.keys.ids().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                    let (path, sealed) = (self.path(), entry.seal.key.clone());
                    return Err(FileStoreError::WrongKey { path, sealed, given });
                }
                Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "a key is lost"),
            }
        }
        Ok(())
    }

    /// What the file holds now.
    fn content(&self) -> Result<Arc<Content>, FileStoreError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = self.stamp()?;
        if known.stamp != stamp {
            *known = Known { stamp, content: Arc::new(self.read()?) };
        }
        Ok(Arc::clone(&known.content))
    }

    /// Changes the file, if `change` says that it did. The lock is held from the reading to the writing.
    fn write(&self, change: impl FnOnce(&mut Content) -> Result<bool, FileStoreError>) -> Result<bool, FileStoreError> {
        let lock = self.file.lock()?;
        let mut content = self.read()?;
        let changed = change(&mut content)?;
        if changed {
            let text = content.to_text();
            if text.len() as u64 > FILE_MAX {
                return Err(FileStoreError::Full);
            }
            self.file.replace(&lock, text.as_bytes())?;
        }
        Ok(changed)
    }

    fn read(&self) -> Result<Content, FileStoreError> {
        let Some(text) = self.file.read(FILE_MAX)? else { return Ok(Content::default()) };
        let content = Content::from_text(&text);
        let content = content.map_err(|source| FileStoreError::Format { path: self.path(), source })?;
        match content.version {
            content::VERSION => Ok(content),
            version => Err(FileStoreError::Version { path: self.path(), version }),
        }
    }

    fn stamp(&self) -> Result<Option<Stamp>, PrivateFileError> {
        self.file.stamp()
    }

    fn path(&self) -> String {
        self.file.path().display().to_string()
    }
}

#[async_trait]
impl KeySource for Arc<FileStore> {
    async fn key(&self, user: &UserId, name: &CredentialName) -> Result<SecretString, KeySourceError> {
        let (store, user, name) = (Arc::clone(self), user.clone(), name.clone());
        let looking = tokio::task::spawn_blocking(move || store.look_up(&user, &name));
        looking.await.unwrap_or_else(|error| Err(KeySourceError::Unreachable(error.into())))
    }
}

#[cfg(test)]
mod tests;
