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
};

use jiff::Timestamp;
use rustix::fs::{FlockOperation, OFlags};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::token::{self, TokenHash};
use crate::ids::{UserId, hex, random_bytes};

/// The largest key file that is read, in bytes: about 50,000 keys.
const FILE_MAX: u64 = 16 * 1024 * 1024;

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
    /// The file is larger than any of ours.
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
    /// When it was made.
    pub created_at: Timestamp,
    /// The first characters of the token.
    pub prefix: String,
    /// The token's hash.
    pub(super) sha256: TokenHash,
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
    /// The file can't be read or written.
    pub fn create(&self, user: UserId, name: Option<String>) -> Result<(Key, SecretString), KeyStoreError> {
        let _lock = self.lock()?;
        let mut keys = self.list()?;
        let (token, prefix) = token::random();
        let key = Key {
            id: random_id(),
            user,
            name,
            created_at: Timestamp::now(),
            prefix,
            sha256: TokenHash::of(token.expose_secret()),
        };
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
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, thread};

    use super::*;

    fn store() -> (tempfile::TempDir, KeyStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = KeyStore::in_folder(&folder.path().join("state"));
        (folder, store)
    }

    fn alice() -> UserId {
        UserId::parse("alice").unwrap()
    }

    #[test]
    fn a_missing_file_holds_no_keys() {
        assert!(store().1.list().unwrap().is_empty());
    }

    #[test]
    fn the_file_is_private_and_does_not_hold_the_token() {
        let (_folder, store) = store();
        let (key, token) = store.create(alice(), Some("laptop".to_owned())).unwrap();
        let text = fs::read_to_string(store.path()).unwrap();
        assert!(text.contains(&key.id) && !text.contains(token.expose_secret()));
        assert_eq!(fs::metadata(store.path()).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_revoked_key_is_gone_and_the_others_stay() {
        let (_folder, store) = store();
        let (first, _) = store.create(alice(), None).unwrap();
        let (second, _) = store.create(alice(), None).unwrap();
        assert!(store.revoke(&first.id).unwrap());
        assert!(!store.revoke(&first.id).unwrap());
        assert_eq!(store.list().unwrap().into_iter().map(|key| key.id).collect::<Vec<_>>(), [second.id]);
    }

    #[test]
    fn writers_at_the_same_time_lose_no_key() {
        let (_folder, store) = store();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..5).for_each(|_| drop(store.create(alice(), None).unwrap())));
            }
        });
        assert_eq!(store.list().unwrap().len(), 20);
    }

    #[test]
    fn files_made_as_root_belong_to_the_owner_of_the_folder() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let (_folder, store) = store();
        let folder = store.path().parent().unwrap();
        fs::create_dir(folder).unwrap();
        unix_fs::chown(folder, Some(10_001), Some(10_002)).unwrap();
        for _ in 0..2 {
            store.create(alice(), None).unwrap();
            for file in [store.path(), &store.path().with_extension("lock")] {
                let data = fs::metadata(file).unwrap();
                assert_eq!((data.uid(), data.gid()), (10_001, 10_002), "{}", file.display());
            }
            // As one that was made by root before.
            unix_fs::chown(store.path().with_extension("lock"), Some(0), Some(0)).unwrap();
        }
    }

    #[test]
    fn a_lock_that_leads_elsewhere_is_not_followed() {
        let (folder, store) = store();
        let elsewhere = folder.path().join("elsewhere");
        fs::create_dir(store.path().parent().unwrap()).unwrap();
        unix_fs::symlink(&elsewhere, store.path().with_extension("lock")).unwrap();
        assert!(matches!(store.create(alice(), None), Err(KeyStoreError::Io { action: "open", .. })));
        assert!(!elsewhere.exists());
    }

    #[test]
    fn a_file_that_is_not_ours_is_an_error_not_an_empty_list() {
        let (_folder, store) = store();
        store.create(alice(), None).unwrap();
        fs::write(store.path(), "{\"keys\": [{\"id\": 1}]}").unwrap();
        assert!(matches!(store.list(), Err(KeyStoreError::Format { .. })));
        assert!(matches!(store.create(alice(), None), Err(KeyStoreError::Format { .. })));
    }
}
