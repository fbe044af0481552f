//! Users' named keys for model APIs: where they are kept, and how they are got from there.
//!
//! A key belongs to one user and has a name of theirs. It is in a file of the server's, sealed, or in a vault that the server only reads. Nothing
//! here remembers a key: it is looked up when a session begins, and now and then while it lives, so a key that was changed is taken up without a
//! restart. Whoever gets one gets a [`SecretString`], which can neither be printed nor serialised and is wiped at its end.
//!
//! | file | noun |
//! |---|---|
//! | `seal` | keys that seal keys |
//! | `file` | the encrypted file |
//! | `vault` | Vault and `OpenBao`, KV version 2 |

pub mod file;
pub mod seal;
pub mod vault;

use std::{error::Error, sync::Arc};

use async_trait::async_trait;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use crate::{
    config,
    fetch::FetchError,
    ids::{CredentialName, UserId},
    private_file::PrivateFileError,
};

pub use file::{FileStore, FileStoreError, Listed};
pub use vault::VaultSource;

/// Longest accepted key, in bytes.
pub const KEY_MAX: usize = 512;

/// Whether this can be a key for a model API: 1 to [`KEY_MAX`] visible ASCII characters.
#[must_use]
pub fn is_key(text: &str) -> bool {
    (1..=KEY_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// What kept a key from being found; for the log.
pub type Cause = Box<dyn Error + Send + Sync>;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeySourceError {
    /// The user has none of this name.
    #[error("there is no key of this name")]
    NotThere,
    /// Its place can't be reached, or has trouble of its own.
    #[error("where keys are kept can't be reached")]
    Unreachable(#[source] Cause),
    /// Its place doesn't let us.
    #[error("where keys are kept doesn't let us in")]
    Refused(#[source] Cause),
    /// What is there is no key, or can't be opened.
    #[error("the key can't be used as it is kept")]
    Broken(#[source] Cause),
}

/// A place where users' keys are.
#[async_trait]
pub trait KeySource: Send + Sync + std::fmt::Debug {
    /// A user's key. Has a deadline of its own; may be dropped at any time.
    ///
    /// # Errors
    /// [`KeySourceError`].
    async fn key(&self, user: &UserId, name: &CredentialName) -> Result<SecretString, KeySourceError>;
}

/// Why keys can't be kept as the settings say.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A setting can't work.
    #[error("{setting}: {text}")]
    Setting {
        /// Which.
        setting: &'static str,
        /// Why, and what would.
        text: String,
    },
    /// The file with the secret of a setting can't be read.
    #[error("{setting}: {source}")]
    Secret {
        /// Which.
        setting: &'static str,
        /// Why.
        source: PrivateFileError,
    },
    /// The file with the keys can't be used.
    #[error(transparent)]
    File(#[from] FileStoreError),
    /// The way to the vault can't be made.
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

/// Where this server's users have their keys.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// Nowhere.
    None,
    /// In the encrypted file.
    File(Arc<FileStore>),
    /// In a vault.
    Vault(Arc<VaultSource>),
}

impl Credentials {
    /// Opens what the settings name. Reads files; asks nobody over the network yet.
    ///
    /// # Errors
    /// [`CredentialsError`]: a sentence with its remedy.
    pub fn open(settings: &config::Credentials, state: &config::State) -> Result<Self, CredentialsError> {
        Ok(match settings.store {
            config::CredentialStore::None => Self::None,
            config::CredentialStore::File => Self::File(Arc::new(FileStore::open(settings, &state.dir)?)),
            config::CredentialStore::Vault => Self::Vault(Arc::new(VaultSource::open(&settings.vault)?)),
        })
    }

    /// Where keys are looked up; none: nowhere.
    #[must_use]
    pub fn source(&self) -> Option<&dyn KeySource> {
        match self {
            Self::None => None,
            Self::File(file) => Some(file),
            Self::Vault(vault) => Some(&**vault),
        }
    }

    /// Where keys can be put; none: nowhere.
    #[must_use]
    pub const fn file(&self) -> Option<&Arc<FileStore>> {
        match self {
            Self::File(file) => Some(file),
            Self::None | Self::Vault(_) => None,
        }
    }

    /// Returns when a key may have been changed here. Never, for places that don't tell. Safe to drop.
    pub async fn changed(&self) {
        match self {
            Self::File(file) => file.changed().await,
            Self::None | Self::Vault(_) => std::future::pending().await,
        }
    }

    /// Keeps what needs to be kept alive, until told to stop: a vault's token.
    pub async fn keep_house(self, stop: CancellationToken) {
        if let Self::Vault(vault) = self {
            stop.run_until_cancelled(vault.keep_token()).await;
        }
    }
}
