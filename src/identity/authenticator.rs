//! Turns a bearer token into a caller.
//!
//! Tokens of the settings stand as long as the process. The key file is looked at again when it changed, at most once a second:
//! a new key works and a revoked one stops working within that second, without a restart. If the file can't be read any more, the keys last read
//! stay in force, the log says so once, and every second it is tried again; if it is deleted, every key of it is revoked.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use secrecy::{ExposeSecret as _, SecretString};

use super::{KeyStore, KeyStoreError, Proven, Scope, Standing, token::TokenHash};
use crate::{config, ids::UserId};

/// The shortest token the settings may hold, in bytes.
const TOKEN_MIN: usize = 16;
/// The longest token that is hashed, in bytes.
const TOKEN_MAX: usize = 1024;
/// How long the key file is taken as unchanged.
const RECHECK: Duration = Duration::from_secs(1);

/// Why there can be no authenticator.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// A token of the settings is too short.
    #[error("auth.tokens: the token of {user} must have {TOKEN_MIN} to {TOKEN_MAX} visible ASCII characters")]
    Token {
        /// Whose.
        user: UserId,
    },
    /// Two users have the same token.
    #[error("auth.tokens: {first} and {second} have the same token")]
    Ambiguous {
        /// One of them.
        first: UserId,
        /// The other.
        second: UserId,
    },
    /// The key file can't be used.
    #[error(transparent)]
    Keys(#[from] KeyStoreError),
}

/// Who shows which token.
type Users = HashMap<TokenHash, UserId>;

/// Knows every token's hash.
#[derive(Debug)]
pub struct Authenticator {
    fixed: Users,
    store: KeyStore,
    /// Locked for a look-up and at times for one small file, never across an await.
    file: Mutex<FileKeys>,
}

/// The key file as it was last read.
#[derive(Debug)]
struct FileKeys {
    checked: Instant,
    /// The state the users were read from, never one that could not be read: that is to be tried again.
    stamp: Option<Stamp>,
    /// The log has been told that the file can't be read.
    told: bool,
    users: Users,
}

/// Tells one state of the key file from another: every write makes a new inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    seconds: i64,
    nanoseconds: i64,
    length: u64,
}

impl Authenticator {
    /// Takes the tokens of the settings and reads the key file.
    ///
    /// # Errors
    /// A token is too short or belongs to two users, or there is a key file and it can't be used.
    pub fn load(auth: &config::Auth, state: &config::State) -> Result<Self, AuthError> {
        let mut fixed: Users = HashMap::new();
        for token in &auth.tokens {
            let text = token.token.expose_secret();
            if !(TOKEN_MIN..=TOKEN_MAX).contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(AuthError::Token { user: token.user.clone() });
            }
            let former = fixed.insert(TokenHash::of(text), token.user.clone());
            if let Some(first) = former.filter(|former| *former != token.user) {
                return Err(AuthError::Ambiguous { first, second: token.user.clone() });
            }
        }
        let store = KeyStore::in_folder(&state.dir);
        let stamp = stamp(&store).unwrap_or(None);
        let users = users(&store)?;
        Ok(Self { fixed, store, file: Mutex::new(FileKeys { checked: Instant::now(), stamp, told: false, users }) })
    }

    /// Adds a token that lives as long as this process.
    #[must_use]
    pub fn with_token(mut self, user: UserId, token: &SecretString) -> Self {
        self.fixed.insert(TokenHash::of(token.expose_secret()), user);
        self
    }

    /// Whether nobody could come in now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fixed.is_empty() && self.with_file(|users| users.is_empty())
    }

    /// Who shows this token.
    pub async fn verify(&self, token: &str) -> Option<Proven> {
        if token.len() > TOKEN_MAX {
            return None;
        }
        let hash = TokenHash::of(token);
        // Looking up by hash gives a timing attacker nothing: close hashes don't come from close tokens.
        let user = self.fixed.get(&hash).cloned().or_else(|| self.with_file(|users| users.get(&hash).cloned()))?;
        let scopes = [Scope::Sessions].into_iter().collect();
        Some(Proven { user, tier: None, credential: "token".to_owned(), scopes, standing: Standing::for_ever() })
    }

    fn with_file<T>(&self, ask: impl FnOnce(&Users) -> T) -> T {
        // Everything in it is replaced as a whole, so a panic elsewhere leaves it usable.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if file.checked.elapsed() >= RECHECK {
            file.checked = Instant::now();
            file.refresh(&self.store);
        }
        ask(&file.users)
    }
}

impl FileKeys {
    fn refresh(&mut self, store: &KeyStore) {
        match self.changed(store) {
            Ok(None) => self.told = false,
            Ok(Some((stamp, users))) => {
                tracing::info!(keys = users.len(), "key file read");
                *self = Self { checked: self.checked, stamp, told: false, users };
            }
            Err(fault) if !self.told => {
                self.told = true;
                tracing::error!(
                    error = &fault as &dyn std::error::Error,
                    "the key file can't be read; the keys read before stay in force until it can"
                );
            }
            Err(_told_already) => {}
        }
    }

    /// What the file holds now; none: it is as it was when it was last read.
    fn changed(&self, store: &KeyStore) -> Result<Option<(Option<Stamp>, Users)>, KeyStoreError> {
        let stamp = stamp(store).map_err(|fault| store.fault("look at", fault))?;
        if stamp == self.stamp {
            return Ok(None);
        }
        Ok(Some((stamp, users(store)?)))
    }
}

/// The file's state; none: there is no file.
fn stamp(store: &KeyStore) -> io::Result<Option<Stamp>> {
    match fs::metadata(store.path()) {
        Ok(data) => Ok(Some(Stamp {
            inode: data.ino(),
            seconds: data.mtime(),
            nanoseconds: data.mtime_nsec(),
            length: data.len(),
        })),
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(fault) => Err(fault),
    }
}

fn users(store: &KeyStore) -> Result<Users, KeyStoreError> {
    Ok(store.list()?.into_iter().map(|key| (key.sha256, key.user)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place {
        _folder: tempfile::TempDir,
        state: config::State,
        store: KeyStore,
    }

    fn place() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let state = config::State { dir: folder.path().to_owned(), ..config::State::default() };
        let store = KeyStore::in_folder(&state.dir);
        Place { _folder: folder, state, store }
    }

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    fn auth(tokens: &[(&str, &str)]) -> config::Auth {
        let tokens = tokens.iter().map(|(name, token)| config::Token { user: user(name), token: (*token).into() });
        config::Auth { tokens: tokens.collect() }
    }

    /// As if the last look was a second ago.
    fn a_second_later(authenticator: &Authenticator) {
        authenticator.file.lock().unwrap().checked -= RECHECK;
    }

    #[tokio::test]
    async fn a_token_of_the_settings_names_its_user_and_no_other_does() {
        let place = place();
        let authenticator =
            Authenticator::load(&auth(&[("alice", "0123456789abcdef"), ("bob", "fedcba9876543210")]), &place.state)
                .unwrap();
        assert_eq!(authenticator.verify("fedcba9876543210").await.unwrap().user, user("bob"));
        for bad in ["", "0123456789abcde", "0123456789abcdef ", &"x".repeat(100_000)] {
            assert!(authenticator.verify(bad).await.is_none());
        }
    }

    #[tokio::test]
    async fn short_and_ambiguous_tokens_are_refused() {
        let place = place();
        assert!(matches!(Authenticator::load(&auth(&[("a", "short")]), &place.state), Err(AuthError::Token { .. })));
        let twice = auth(&[("a", "0123456789abcdef"), ("b", "0123456789abcdef")]);
        assert!(matches!(Authenticator::load(&twice, &place.state), Err(AuthError::Ambiguous { .. })));
    }

    #[tokio::test]
    async fn a_key_made_while_serving_works_and_stops_when_revoked() {
        let place = place();
        let authenticator = Authenticator::load(&auth(&[]), &place.state).unwrap();
        assert!(authenticator.is_empty());
        let (key, token) = place.store.create(user("alice"), None).unwrap();
        a_second_later(&authenticator);
        assert_eq!(authenticator.verify(token.expose_secret()).await.unwrap().user, user("alice"));
        place.store.revoke(&key.id).unwrap();
        a_second_later(&authenticator);
        assert!(authenticator.verify(token.expose_secret()).await.is_none());
    }

    #[tokio::test]
    async fn a_broken_key_file_locks_nobody_out_but_stops_the_next_start() {
        let place = place();
        let (_, token) = place.store.create(user("alice"), None).unwrap();
        let authenticator = Authenticator::load(&auth(&[]), &place.state).unwrap();
        fs::write(place.store.path(), "not json").unwrap();
        a_second_later(&authenticator);
        assert!(authenticator.verify(token.expose_secret()).await.is_some());
        assert!(matches!(Authenticator::load(&auth(&[]), &place.state), Err(AuthError::Keys(_))));
    }

    #[tokio::test]
    async fn a_change_that_could_not_be_read_is_read_as_soon_as_it_can_be() {
        let place = place();
        let (key, token) = place.store.create(user("alice"), None).unwrap();
        let authenticator = Authenticator::load(&auth(&[]), &place.state).unwrap();
        place.store.revoke(&key.id).unwrap();
        let revoked = fs::read(place.store.path()).unwrap();
        let written = fs::metadata(place.store.path()).unwrap().modified().unwrap();
        // The same file to look at, whatever is in it: only reading tells.
        let hold = |content: &[u8]| {
            fs::write(place.store.path(), content).unwrap();
            fs::File::options().write(true).open(place.store.path()).unwrap().set_modified(written).unwrap();
        };
        hold(&vec![b'?'; revoked.len()]);
        a_second_later(&authenticator);
        assert!(authenticator.verify(token.expose_secret()).await.is_some());
        hold(&revoked);
        a_second_later(&authenticator);
        assert!(authenticator.verify(token.expose_secret()).await.is_none());
    }

    #[tokio::test]
    async fn a_deleted_key_file_revokes_its_keys() {
        let place = place();
        let (_, token) = place.store.create(user("alice"), None).unwrap();
        let authenticator = Authenticator::load(&auth(&[]), &place.state).unwrap();
        fs::remove_file(place.store.path()).unwrap();
        a_second_later(&authenticator);
        assert!(authenticator.verify(token.expose_secret()).await.is_none());
    }

    #[tokio::test]
    async fn nothing_printed_shows_a_token() {
        let place = place();
        let authenticator = Authenticator::load(&auth(&[]), &place.state)
            .unwrap()
            .with_token(user("dev"), &SecretString::from("canary-token-0123456789"));
        assert!(!authenticator.is_empty());
        assert!(!format!("{authenticator:?}").contains("canary"));
    }
}
