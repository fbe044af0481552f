//! Where users' named keys for model APIs are kept.

use std::{path::PathBuf, time::Duration};

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::secret;

/// Users' named keys for model APIs.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Credentials {
    /// Where they are kept. Default `none`.
    pub store: CredentialStore,
    /// What the file is sealed with: 32 random bytes in base64 (`greenroom credentials generate-key`). Several, apart by blanks or commas, may be
    /// given: the first seals, all open.
    #[serde(serialize_with = "secret::digest_of_any")]
    pub key: Option<SecretString>,
    /// A file with such keys, one a line, that nobody else can read. Instead of `key`.
    pub key_file: Option<PathBuf>,
    /// How long live sessions may go on with a key that was changed where it is kept. Default 60 s.
    #[serde(with = "humantime_serde")]
    pub refresh: Duration,
    /// How long live sessions keep their keys while those can't be looked up. Default 10 min; then they go on without.
    #[serde(with = "humantime_serde")]
    pub outage: Duration,
    /// `HashiCorp` Vault or `OpenBao`.
    pub vault: Vault,
}

impl Default for Credentials {
    fn default() -> Self {
        Self {
            store: CredentialStore::None,
            key: None,
            key_file: None,
            refresh: Duration::from_secs(60),
            outage: Duration::from_secs(600),
            vault: Vault::default(),
        }
    }
}

/// Where keys are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CredentialStore {
    /// Nowhere: a key is given at each open.
    #[default]
    None,
    /// In the state folder, encrypted.
    File,
    /// In a vault, which is only read.
    Vault,
}

impl CredentialStore {
    /// As it is written in the settings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::File => "file",
            Self::Vault => "vault",
        }
    }
}

/// A vault with a KV engine of version 2.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Vault {
    /// Its address: `https://…`, or `http://` on this machine.
    pub address: Option<String>,
    /// Its namespace, where it has several.
    pub namespace: Option<String>,
    /// Certificates (PEM) to trust instead of the machine's own.
    pub ca_file: Option<PathBuf>,
    /// Where the KV engine is mounted. Default `secret`.
    pub mount: String,
    /// The secret of one key, below the mount. Default `greenroom/{user}/{name}`.
    pub path: String,
    /// The secret's field that has the key. Default `api_key`.
    pub field: String,
    /// How to come in. Default `token`.
    pub login: VaultLogin,
    /// Where the way to come in is mounted. Default: its own name.
    pub login_mount: Option<String>,
    /// For `token`: the token.
    #[serde(serialize_with = "secret::digest_of_any")]
    pub token: Option<SecretString>,
    /// For `token`: a file with it, read again when it changes.
    pub token_file: Option<PathBuf>,
    /// For `kubernetes`: the role.
    pub role: Option<String>,
    /// For `kubernetes`: the service account's token. Default `/var/run/secrets/kubernetes.io/serviceaccount/token`.
    pub jwt_file: PathBuf,
    /// For `approle`: the role's id.
    pub role_id: Option<String>,
    /// For `approle`: the secret id.
    #[serde(serialize_with = "secret::digest_of_any")]
    pub secret_id: Option<SecretString>,
    /// For `approle`: a file with it, read at each login.
    pub secret_id_file: Option<PathBuf>,
    /// How long one look-up may take, a login included. Default 5 s.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
}

impl Default for Vault {
    fn default() -> Self {
        Self {
            address: None,
            namespace: None,
            ca_file: None,
            mount: "secret".to_owned(),
            path: "greenroom/{user}/{name}".to_owned(),
            field: "api_key".to_owned(),
            login: VaultLogin::Token,
            login_mount: None,
            token: None,
            token_file: None,
            role: None,
            jwt_file: PathBuf::from("/var/run/secrets/kubernetes.io/serviceaccount/token"),
            role_id: None,
            secret_id: None,
            secret_id_file: None,
            timeout: Duration::from_secs(5),
        }
    }
}

/// How to come into a vault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VaultLogin {
    /// With a token that somebody else got.
    #[default]
    Token,
    /// As a service account of Kubernetes.
    Kubernetes,
    /// With a role's id and a secret id.
    AppRole,
}

impl VaultLogin {
    /// As it is written in the settings, and where Vault mounts it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Kubernetes => "kubernetes",
            Self::AppRole => "approle",
        }
    }
}
