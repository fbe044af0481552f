//! Users' keys for model APIs: given at an open or named, put and taken away, and kept up to date in sessions that live.
//!
//! A user reaches their own keys only, and of those nobody is ever shown more than the name and the times. A session that uses a named key is told when
//! what is kept under that name is another: at once when it was put through us, else within `credentials.refresh`. A key that was taken away is taken
//! from the sessions that use it. While nobody can say what is kept, they go on with what they have, for `credentials.outage` at most.

mod refresh;

use std::{collections::BTreeMap, sync::Arc};

use secrecy::SecretString;
use tracing::{error, info, warn};

use super::{
    Service,
    view::{Credential, CredentialView},
};
use crate::{
    credentials::{FileStore, FileStoreError, KeySourceError, Listed},
    gateway::ModelKey,
    identity::{Actor, Caller, Whose},
    ids::{CredentialName, UserId},
    problem::{Code, Problem},
    session::{ChosenKey, Command, FoundKey},
};

/// Whose key, and its name.
type Named = (UserId, CredentialName);

/// Keys that were found when a server took up what a former one left.
pub(super) type KeysAtHand = BTreeMap<Named, ModelKey>;

/// When to ask again for a key that can't be looked up.
const PLACES_PACE: std::time::Duration = std::time::Duration::from_secs(5);

impl Service {
    /// The caller's keys, by name.
    ///
    /// # Errors
    /// They aren't kept here, or can't be read.
    pub async fn credentials(&self, caller: &Caller) -> Result<Vec<CredentialView>, Problem> {
        let user = caller.user.clone();
        let listed = self.with_file(move |file| file.list(Some(&user))).await?;
        Ok(listed.into_iter().map(Into::into).collect())
    }

    /// Keeps a key under a name, in place of the one that was there. Sessions that use it go on with it.
    ///
    /// # Errors
    /// Keys aren't kept here, there is room for no more, or it can't be written down.
    pub async fn put_credential(&self, caller: &Actor, name: &str, key: SecretString) -> Result<(), Problem> {
        let name = parse(name)?;
        // A file is written: as much as an open is.
        self.allowance(caller).check_open(&caller.user)?;
        let (user, key) = (caller.user.clone(), Arc::new(key));
        let (put, of, named) = (Arc::clone(&key), user.clone(), name.clone());
        self.with_file(move |file| file.put(&of, &named, &put)).await?;
        caller.trail().object(name.as_str());
        info!(user = %user, credential = %name, "a user's key is kept");
        self.tell_sessions(&(user, name), &FoundKey::Key(ModelKey(key))).await;
        Ok(())
    }

    /// Takes a key away. Sessions that use it go on without.
    ///
    /// # Errors
    /// There is none of this name, keys aren't kept here, or it can't be written down.
    pub async fn remove_credential(&self, caller: &Actor, name: &str) -> Result<(), Problem> {
        let name = CredentialName::parse(name).map_err(|_| Problem::not_found())?;
        caller.trail().object(name.as_str());
        let (user, named) = (caller.user.clone(), name.clone());
        let of = user.clone();
        if !self.with_file(move |file| file.remove(&of, &named)).await? {
            return Err(Problem::not_found());
        }
        info!(user = %user, credential = %name, "a user's key is taken away");
        self.tell_sessions(&(user, name), &FoundKey::Gone).await;
        Ok(())
    }

    /// The key that a user chose for a session; none: they chose none.
    pub(super) async fn chosen_key(
        &self,
        whose: &Whose,
        credential: Option<Credential>,
    ) -> Result<Option<ChosenKey>, Problem> {
        let (key, name) = match credential {
            None => return Ok(None),
            Some(Credential::ApiKey(key)) => (key, None),
            Some(Credential::Named(name)) => (self.named_key(whose, &name).await?, Some(name)),
        };
        Ok(Some(ChosenKey { key: ModelKey(Arc::new(key)), name }))
    }

    async fn named_key(&self, whose: &Whose, name: &CredentialName) -> Result<SecretString, Problem> {
        let user = whose.user();
        let invalid = |detail: String| Problem::new(Code::InvalidRequest, format!("credential.name: {detail}"));
        let Some(source) = self.credentials.source() else {
            return Err(invalid("this server keeps no keys; send credential.api_key instead".to_owned()));
        };
        source.key(user, name).await.map_err(|error| match error {
            KeySourceError::NotThere => invalid(format!("you have no key {name}")),
            error => {
                tell(&error, user, name);
                let detail = "credential.name: the key can't be looked up at present; try again in a moment";
                Problem::new(Code::CredentialUnavailable, detail).retry_after(PLACES_PACE).because(error)
            }
        })
    }

    /// Tells all sessions that use a key what is kept under its name now.
    async fn tell_sessions(&self, (user, name): &Named, found: &FoundKey) {
        let alive = self.around.registry.live().into_iter();
        for session in alive.filter(|session| session.identity.user == *user) {
            if session.with_status(|status| status.preferences.credential.as_ref() == Some(name)) {
                let told = session.send(Command::Key { name: name.clone(), found: found.clone() });
                // One that has come to its end needs no key.
                let _over_meanwhile = told.await;
            }
        }
    }

    /// Works on the file of keys, which waits for disks and other writers.
    async fn with_file<T: Send + 'static>(
        &self,
        work: impl FnOnce(&FileStore) -> Result<T, FileStoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        let Some(file) = self.credentials.file().cloned() else {
            let detail = match self.credentials.source() {
                None => "this server keeps no keys; send credential.api_key with an open instead",
                Some(_) => "keys are kept in a vault, which this server only reads; put, list and remove them there",
            };
            return Err(Problem::new(Code::Conflict, detail));
        };
        tokio::task::spawn_blocking(move || work(&file)).await.map_err(Problem::internal)?.map_err(Problem::from)
    }
}

/// What a person should look at is an error; what passes by itself is a warning.
fn tell(error: &KeySourceError, user: &UserId, name: &CredentialName) {
    let cause = error as &dyn std::error::Error;
    match error {
        KeySourceError::NotThere => {}
        KeySourceError::Unreachable(_) => warn!(error = cause, %user, credential = %name, "a key can't be looked up"),
        KeySourceError::Refused(_) | KeySourceError::Broken(_) => {
            error!(error = cause, %user, credential = %name, "a key can't be had");
        }
    }
}

fn parse(name: &str) -> Result<CredentialName, Problem> {
    CredentialName::parse(name).map_err(|fault| Problem::new(Code::InvalidRequest, format!("name {fault}")))
}

impl From<Listed> for CredentialView {
    fn from(listed: Listed) -> Self {
        let Listed { name, created_at, updated_at, .. } = listed;
        Self { name, created_at, updated_at }
    }
}

impl From<FileStoreError> for Problem {
    fn from(error: FileStoreError) -> Self {
        match error {
            FileStoreError::NotAKey => Self::new(Code::InvalidRequest, format!("api_key: {error}")),
            FileStoreError::TooMany => Self::new(Code::ResourceLimit, error.to_string()),
            error => super::problems::store_unavailable().because(error),
        }
    }
}
