//! Vault and `OpenBao`: each key is a secret of a KV engine of version 2, which is only read.
//!
//! The way in is a token, ours or got by a login ([`login`]); it is renewed before it ends and got anew when the vault no longer takes it. Users and
//! names become parts of a path in which none of them can reach another's ([`path`]). An answer is wiped once its key was taken out; of what the vault
//! says beside, nothing is repeated.

mod answer;
mod login;
mod path;
mod token;

use std::{fs, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{sync::Mutex, time::timeout};

use self::{
    answer::{Call, Gathered, VaultError},
    login::Login,
    path::encoded,
    token::Token,
};
use super::{CredentialsError, KeySource, KeySourceError, is_key};
use crate::{
    config,
    fetch::Fetcher,
    ids::{CredentialName, UserId},
};

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
/// Asked for by agents and proxies of Vault, as a proof that no browser was tricked into the request.
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");

/// A vault.
#[derive(Debug)]
pub struct VaultSource {
    fetcher: Fetcher,
    /// With `/v1` and no slash behind it.
    address: String,
    /// With mount, `data` and the template, such as `secret/data/greenroom/{user}/{name}`.
    path: String,
    field: String,
    headers: HeaderMap,
    timeout: Duration,
    login: Login,
    /// Held over a login on purpose: one logs in, the others wait for that.
    token: Mutex<Option<Token>>,
}

impl VaultSource {
    /// Takes settings that were checked, and reads the certificates they name. Asks nobody yet.
    ///
    /// # Errors
    /// The certificates can't be read, or a setting isn't set that has to be.
    pub fn open(settings: &config::Vault) -> Result<Self, CredentialsError> {
        let wrong = |setting, text: &str| CredentialsError::Setting { setting, text: text.to_owned() };
        let address = settings.address.as_deref();
        let address = address.ok_or_else(|| wrong("credentials.vault.address", "must be set for the store `vault`"))?;
        let fetcher = match &settings.ca_file {
            None => Fetcher::new()?,
            Some(path) => {
                let unread = |error: std::io::Error| {
                    let text = format!("can't read {}: {}", path.display(), error.kind());
                    wrong("credentials.vault.ca_file", &text)
                };
                Fetcher::trusting(&fs::read(path).map_err(unread)?)?
            }
        };
        let mut headers = HeaderMap::from_iter([(REQUEST, HeaderValue::from_static("true"))]);
        if let Some(namespace) = &settings.namespace {
            let value = HeaderValue::from_str(namespace);
            headers.insert(
                NAMESPACE,
                value.map_err(|_| wrong("credentials.vault.namespace", "can't be a header's value"))?,
            );
        }
        Ok(Self {
            fetcher,
            address: format!("{}/v1", address.trim_end_matches('/')),
            path: format!("{}/data/{}", settings.mount, settings.path),
            field: settings.field.clone(),
            headers,
            timeout: settings.timeout,
            login: Login::of(settings),
            token: Mutex::default(),
        })
    }

    async fn look_up(&self, user: &UserId, name: &CredentialName) -> Result<SecretString, KeySourceError> {
        let segments = self.path.split('/').map(|segment| match segment {
            "{user}" => encoded(user.as_str()),
            "{name}" => encoded(name.as_str()),
            plain => plain.to_owned(),
        });
        let path = segments.collect::<Vec<_>>().join("/");
        let mut gathered = self.read(&path).await?;
        if gathered.status == StatusCode::FORBIDDEN {
            // The token may have been revoked, or ended while the machine slept.
            self.doubt_token().await;
            gathered = self.read(&path).await?;
        }
        let key = gathered.key(&self.field)?;
        if !is_key(key.expose_secret()) {
            return Err(KeySourceError::Broken(VaultError::NotAKey.into()));
        }
        Ok(key)
    }

    async fn read(&self, path: &str) -> Result<Gathered, KeySourceError> {
        let token = self.token().await?;
        Ok(self.call(Call::Read, Method::GET, path, Some(token), Bytes::new()).await?)
    }

    /// One call, whatever comes of it.
    async fn call(
        &self,
        call: Call,
        method: Method,
        path: &str,
        token: Option<HeaderValue>,
        body: Bytes,
    ) -> Result<Gathered, VaultError> {
        let url: Uri = format!("{}/{path}", self.address).parse().map_err(|_| VaultError::Address)?;
        let mut headers = self.headers.clone();
        if let Some(token) = token {
            headers.insert(TOKEN, token);
        }
        let document = self.fetcher.call(method, &url, headers, body).await?;
        Ok(Gathered::new(call, document))
    }
}

#[async_trait]
impl KeySource for VaultSource {
    async fn key(&self, user: &UserId, name: &CredentialName) -> Result<SecretString, KeySourceError> {
        let looked = timeout(self.timeout, self.look_up(user, name)).await;
        looked.unwrap_or_else(|_| Err(VaultError::Deadline.into()))
    }
}
