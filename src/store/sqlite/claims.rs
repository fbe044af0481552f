//! Idempotency keys of requests that are under way.
//!
//! A claim lives in memory and ends with the server, so one that was never answered is new to the next run. Only answers are written down, in the
//! transaction of what they are about.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::store::{Claimed, IdempotencyKey};

/// What is claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    /// The digest of the request's body.
    pub(super) body: [u8; 32],
    /// When it is forgotten, answered or not; milliseconds since 1970.
    pub(super) expires_at: i64,
}

impl Claim {
    pub(super) fn new(body: [u8; 32], keep: Duration) -> Self {
        let keep = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
        Self { body, expires_at: now().saturating_add(keep) }
    }
}

/// Claims without an answer. One for each request under way, so there are never many.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Held for one look.
    open: Mutex<HashMap<IdempotencyKey, Claim>>,
}

impl Claims {
    /// Takes the key, unless somebody else has it: then that is the answer.
    pub(super) fn take(&self, key: &IdempotencyKey, claim: Claim) -> Option<Claimed> {
        match self.open().entry(key.clone()) {
            Entry::Occupied(mut found) if found.get().expires_at <= now() => {
                found.insert(claim);
                None
            }
            Entry::Occupied(found) if found.get().body == claim.body => Some(Claimed::Running),
            Entry::Occupied(_) => Some(Claimed::Mismatch),
            Entry::Vacant(free) => {
                free.insert(claim);
                None
            }
        }
    }

    pub(super) fn find(&self, key: &IdempotencyKey) -> Option<Claim> {
        self.open().get(key).copied()
    }

    /// Lets go of a key: its answer is durable, or there is none.
    pub(super) fn release(&self, key: &IdempotencyKey) {
        self.open().remove(key);
    }

    /// Lets go of claims whose time is over.
    pub(super) fn sweep(&self) {
        let now = now();
        self.open().retain(|_, claim| claim.expires_at > now);
    }

    fn open(&self) -> MutexGuard<'_, HashMap<IdempotencyKey, Claim>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The answer that is written down, if it still counts.
pub(super) fn answered(db: &Connection, key: &IdempotencyKey, body: &[u8; 32]) -> rusqlite::Result<Option<Claimed>> {
    let mut query = db.prepare_cached(
        "SELECT body, document FROM answers WHERE user = ?1 AND route = ?2 AND key = ?3 AND expires_at > ?4",
    )?;
    let asked = params![key.whose.user().as_str(), key.route, key.key, now()];
    let found = query.query_row(asked, |row| {
        let same = row.get_ref(0)?.as_bytes()? == body;
        Ok(if same { Claimed::Answered(row.get(1)?) } else { Claimed::Mismatch })
    });
    found.optional()
}

/// Milliseconds since 1970.
pub(super) fn now() -> i64 {
    Timestamp::now().as_millisecond()
}
