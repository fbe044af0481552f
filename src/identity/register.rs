//! Every token of ours that is good: those of the settings, and those of the key file.
//!
//! What is good now is one value that readers look at and streams watch. Who changes the key file here looks at it at once; what `greenroom keys`
//! changes from outside is found by [`Register::keep`], which looks every [`LOOK`]. If the file can't be read any more, the keys last read
//! stay in force, the log says so once, and it is tried again; if it is deleted, every key of it is revoked.
//! Reading the file blocks: nobody does it on a thread that serves others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use tokio::{sync::watch, task::spawn_blocking, time::MissedTickBehavior};

use super::{AuthError, KeyStore, KeyStoreError, Scopes, standing::Standing, token::TokenHash};
use crate::{
    config,
    ids::{TierName, UserId},
    private_file::Stamp,
};

/// The shortest token the settings may hold, in bytes.
const TOKEN_MIN: usize = 16;
/// The longest token of ours, in bytes.
pub(super) const TOKEN_MAX: usize = 1024;
/// How often the key file is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// What proves a caller whose token is in the settings, as far as it may be told.
const SETTINGS: &str = "settings";

/// What a token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) user: UserId,
    pub(super) tier: Option<TierName>,
    pub(super) credential: String,
    pub(super) scopes: Scopes,
    pub(super) expires_at: Option<Timestamp>,
}

/// What each token stands for.
pub(super) type Grants = HashMap<TokenHash, Arc<Grant>>;

/// Knows every token's hash.
#[derive(Debug)]
pub(super) struct Register {
    store: KeyStore,
    /// What the rest is made from. Locked while a small file is read, never across an await.
    origins: Mutex<Origins>,
    good: watch::Sender<Arc<Grants>>,
}

/// What there is to know, by where it comes from.
#[derive(Debug)]
struct Origins {
    settings: Grants,
    /// Those of this run of the server.
    run: Grants,
    file: Grants,
    /// The state the file's grants were read from, never one that could not be read: that is to be tried again.
    stamp: Option<Stamp>,
    /// The log has been told that the file can't be read.
    told: bool,
}

impl Register {
    /// Takes the tokens of the settings and reads the key file.
    pub(super) fn load(auth: &config::Auth, state: &config::State) -> Result<Self, AuthError> {
        let store = KeyStore::in_folder(&state.dir);
        let stamp = store.stamp().unwrap_or(None);
        let file = of_file(&store)?;
        let origins = Origins { settings: of_settings(auth)?, run: Grants::new(), file, stamp, told: false };
        let good = watch::Sender::new(Arc::new(origins.all()));
        Ok(Self { store, origins: Mutex::new(origins), good })
    }

    /// Adds a token that lives as long as this process.
    pub(super) fn add(&self, token: config::Token) {
        let mut origins = self.origins();
        origins.run.insert(TokenHash::of(token.token.expose_secret()), Arc::new(Grant::of(token)));
        self.publish(&origins);
    }

    /// Takes these tokens in place of those of the settings so far.
    pub(super) fn replace(&self, auth: &config::Auth) -> Result<(), AuthError> {
        let settings = of_settings(auth)?;
        let mut origins = self.origins();
        origins.settings = settings;
        self.publish(&origins);
        Ok(())
    }

    /// What this token stands for, and for how long.
    pub(super) fn find(&self, token: &str) -> Option<(Arc<Grant>, Standing)> {
        if token.len() > TOKEN_MAX {
            return None;
        }
        let hash = TokenHash::of(token);
        // Looking up by hash gives a timing attacker nothing: close hashes don't come from close tokens.
        let grant = Arc::clone(self.good.borrow().get(&hash)?);
        let standing = Standing::granted(self.good.subscribe(), hash, Arc::clone(&grant));
        (!standing.has_ended()).then_some((grant, standing))
    }

    /// Whether no token is good now.
    pub(super) fn is_empty(&self) -> bool {
        let now = Timestamp::now();
        self.good.borrow().values().all(|grant| grant.expires_at.is_some_and(|expires_at| expires_at <= now))
    }

    /// The key file.
    pub(super) const fn store(&self) -> &KeyStore {
        &self.store
    }

    /// Looks at the key file now, and reads it if it changed. Blocks.
    pub(super) fn look(&self) {
        let mut origins = self.origins();
        match origins.changed(&self.store) {
            Ok(None) => origins.told = false,
            Ok(Some((stamp, file))) => {
                tracing::info!(keys = file.len(), "key file read");
                (origins.stamp, origins.file, origins.told) = (stamp, file, false);
                self.publish(&origins);
            }
            Err(fault) if !origins.told => {
                origins.told = true;
                tracing::error!(
                    error = &fault as &dyn std::error::Error,
                    "the key file can't be read; the keys read before stay in force until it can"
                );
            }
            Err(_told_already) => {}
        }
    }

    /// Looks at the key file again and again. Ends by being dropped.
    pub(super) async fn keep(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let register = Arc::clone(&self);
            let looked = spawn_blocking(move || register.look()).await;
            if let Err(fault) = looked {
                tracing::error!(error = &fault as &dyn std::error::Error, "the key file was not looked at");
            }
        }
    }

    fn publish(&self, origins: &Origins) {
        self.good.send_replace(Arc::new(origins.all()));
    }

    fn origins(&self) -> MutexGuard<'_, Origins> {
        // Everything in it is replaced as a whole, so a panic elsewhere leaves it usable.
        self.origins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Origins {
    fn all(&self) -> Grants {
        self.file
            .iter()
            .chain(&self.settings)
            .chain(&self.run)
            .map(|(hash, grant)| (*hash, Arc::clone(grant)))
            .collect()
    }

    /// What the file holds now; none: it is as it was when it was last read.
    fn changed(&self, store: &KeyStore) -> Result<Option<(Option<Stamp>, Grants)>, KeyStoreError> {
        let stamp = store.stamp()?;
        if stamp == self.stamp {
            return Ok(None);
        }
        Ok(Some((stamp, of_file(store)?)))
    }
}

impl Grant {
    fn of(token: config::Token) -> Self {
        let config::Token { user, token: _, scopes, tier } = token;
        let scopes = scopes.into_iter().collect();
        Self { user, tier, credential: SETTINGS.to_owned(), scopes, expires_at: None }
    }
}

fn of_settings(auth: &config::Auth) -> Result<Grants, AuthError> {
    let mut grants = Grants::new();
    for token in &auth.tokens {
        let text = token.token.expose_secret();
        if !(TOKEN_MIN..=TOKEN_MAX).contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(AuthError::Token { user: token.user.clone() });
        }
        if let Some(former) = grants.insert(TokenHash::of(text), Arc::new(Grant::of(token.clone()))) {
            return Err(AuthError::Ambiguous { first: former.user.clone(), second: token.user.clone() });
        }
    }
    Ok(grants)
}

fn of_file(store: &KeyStore) -> Result<Grants, KeyStoreError> {
    let grant = |key: super::Key| {
        let super::Key { id, user, scopes, tier, expires_at, sha256, .. } = key;
        (sha256, Arc::new(Grant { user, tier, credential: id, scopes: scopes.into_iter().collect(), expires_at }))
    };
    Ok(store.list()?.into_iter().map(grant).collect())
}
