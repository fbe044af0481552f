//! How we come into a vault: with a token that somebody else got, as a service account of Kubernetes, or with a role's id and a secret id.

use std::path::PathBuf;

use bytes::Bytes;
use http::{HeaderValue, Method};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::{
    VaultSource,
    answer::{Call, Granted, VaultError},
    token::Token,
};
use crate::{
    config::{self, VaultLogin},
    private_file::{PrivateFile, PrivateFileError, Stamp, read_given_secret, read_secret},
};

/// A secret of ours, or where it is.
#[derive(Debug, Clone)]
pub(super) enum Given {
    Text(SecretString),
    File(PathBuf),
}

/// The way in.
#[derive(Debug)]
pub(super) enum Login {
    Token(Given),
    Kubernetes { path: String, role: String, jwt: PathBuf },
    AppRole { path: String, role: String, secret: Given },
}

impl Login {
    pub fn of(settings: &config::Vault) -> Self {
        let mount = settings.login_mount.as_deref().unwrap_or_else(|| settings.login.as_str());
        let path = format!("auth/{mount}/login");
        let given = |text: &Option<SecretString>, file: &Option<PathBuf>| match (text, file) {
            (None, Some(file)) => Given::File(file.clone()),
            (text, _) => Given::Text(text.clone().unwrap_or_default()),
        };
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        match settings.login {
            VaultLogin::Token => Self::Token(given(&settings.token, &settings.token_file)),
            VaultLogin::Kubernetes => {
                Self::Kubernetes { path, role: text(&settings.role), jwt: settings.jwt_file.clone() }
            }
            VaultLogin::AppRole => {
                let secret = given(&settings.secret_id, &settings.secret_id_file);
                Self::AppRole { path, role: text(&settings.role_id), secret }
            }
        }
    }

    /// The state of the file that our token is from; it may be replaced at any time.
    pub fn stamp(&self) -> Option<Stamp> {
        match self {
            Self::Token(Given::File(path)) => PrivateFile::new(path.clone()).stamp().ok().flatten(),
            _ => None,
        }
    }
}

impl Given {
    async fn read(&self) -> Result<SecretString, VaultError> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::File(path) => read(path.clone(), read_secret).await,
        }
    }
}

async fn read(
    path: PathBuf,
    how: fn(&std::path::Path) -> Result<SecretString, PrivateFileError>,
) -> Result<SecretString, VaultError> {
    let reading = tokio::task::spawn_blocking(move || how(&path)).await;
    reading.map_or(Err(VaultError::Deadline), |read| read.map_err(VaultError::Secret))
}

impl VaultSource {
    /// Gets a token, however that is done here.
    pub(super) async fn log_in(&self) -> Result<Token, VaultError> {
        let stamp = self.login.stamp();
        let (token, granted) = match &self.login {
            Login::Token(given) => {
                let token = given.read().await?;
                let looked = self.call(
                    Call::LookAtToken,
                    Method::GET,
                    "auth/token/lookup-self",
                    Some(header(&token)?),
                    Bytes::new(),
                );
                (token, looked.await?.standing()?)
            }
            Login::Kubernetes { path, role, jwt } => {
                let jwt = read(jwt.clone(), read_given_secret).await?;
                self.exchange(path, [("role", role.as_str()), ("jwt", jwt.expose_secret())]).await?
            }
            Login::AppRole { path, role, secret } => {
                let secret = secret.read().await?;
                self.exchange(path, [("role_id", role.as_str()), ("secret_id", secret.expose_secret())]).await?
            }
        };
        tracing::info!(login = self.login.name(), seconds = granted.seconds, "logged in at the vault");
        Ok(Token::new(header(&token)?, &granted, stamp))
    }

    async fn exchange(&self, path: &str, proof: [(&str, &str); 2]) -> Result<(SecretString, Granted), VaultError> {
        let answer = self.call(Call::LogIn, Method::POST, path, None, body(proof)).await?;
        let mut granted = answer.granted()?;
        let token = granted.token.take().ok_or(VaultError::Form { call: Call::LogIn })?;
        Ok((token, granted))
    }
}

impl Login {
    const fn name(&self) -> &'static str {
        match self {
            Self::Token(_) => "token",
            Self::Kubernetes { .. } => "kubernetes",
            Self::AppRole { .. } => "approle",
        }
    }
}

fn header(token: &SecretString) -> Result<HeaderValue, VaultError> {
    let mut value = HeaderValue::from_str(token.expose_secret()).map_err(|_| VaultError::Token)?;
    value.set_sensitive(true);
    Ok(value)
}

/// A small JSON object that is wiped when it was sent.
fn body(fields: [(&str, &str); 2]) -> Bytes {
    let longest = fields.iter().map(|(name, value)| name.len() + 6 * value.len() + 8).sum::<usize>() + 2;
    // With room for all of it: a text that grew elsewhere would leave a copy behind.
    let mut text = Zeroizing::new(Vec::with_capacity(longest));
    for (at, (name, value)) in fields.into_iter().enumerate() {
        text.extend_from_slice(if at == 0 { b"{" } else { b"," });
        for (part, end) in [(name, &b":"[..]), (value, b"")] {
            serde_json::to_writer(&mut *text, part).expect("texts are JSON");
            text.extend_from_slice(end);
        }
    }
    text.push(b'}');
    Bytes::from_owner(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_json_whatever_is_in_it() {
        let sent = body([("role", "a \"role\""), ("jwt", "x\ny")]);
        let read: serde_json::Value = serde_json::from_slice(&sent).expect("JSON");
        assert_eq!(read, serde_json::json!({"role": "a \"role\"", "jwt": "x\ny"}));
    }

    #[test]
    fn a_token_is_never_printed() {
        let token = header(&"canary".into()).expect("plain text");
        assert!(!format!("{token:?}").contains("canary"));
        let shown = format!("{:?}", Given::Text("canary".into()));
        assert!(!shown.contains("canary"), "{shown}");
    }
}
