//! What outlives the server: sessions, turns, permissions, events, token sums and idempotency records.
//!
//! A store keeps documents: it knows whose they are and which belong together, and nothing of what is in them. Changes that are written together
//! are made together or not at all, in the order they were given. A change counts only when the store says it is durable: then it survives a
//! server that is killed at any moment.
//!
//! A store that can't write (a full disk) loses nothing: what was given to it waits, in order, and is tried again until it is written. Meanwhile
//! [`Store::health`] tells why, new work is refused by whoever takes it in, and agents are held back by their drivers' bounds.

#[cfg(test)]
pub(crate) mod fake;
pub mod sqlite;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::{
    identity::Whose,
    ids::{SessionId, UserId},
};

/// Why the store can't do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// It can't be opened: a person has to see to it.
    #[error("the store {path} can't be opened: {reason}")]
    Open {
        /// The file.
        path: String,
        /// Why not.
        reason: String,
    },
    /// It was written by a later version of Greenroom.
    #[error("the store {path} has version {theirs}; this server knows versions up to {ours}")]
    TooNew {
        /// The file.
        path: String,
        /// The version it has.
        theirs: u32,
        /// The latest that is known.
        ours: u32,
    },
    /// It can't be read or written at this moment, such as on a full disk.
    #[error("the store does not work: {0}")]
    Failing(String),
    /// It is closed.
    #[error("the store is closed")]
    Closed,
}

/// A document: JSON text that its writer reads again.
pub type Document = String;

/// One change. Those of a session that was never put, or was forgotten, do nothing.
#[derive(Debug, Clone)]
pub enum Change {
    /// A session as it is now: new, or replacing what it was.
    Session(SessionRow),
    /// One of its turns, new or replaced.
    Turn {
        /// The session.
        session: SessionId,
        /// Counts the session's turns; they are listed in this order.
        number: u64,
        /// The turn.
        document: Document,
    },
    /// One of its permissions, new or replaced.
    Permission {
        /// The session.
        session: SessionId,
        /// Counts the session's permissions; they are listed in this order.
        number: u64,
        /// The permission.
        document: Document,
    },
    /// Events, in order, right behind those that are there: numbers `first`, `first + 1`, … Each is JSON text without line breaks.
    Events {
        /// The session.
        session: SessionId,
        /// The number of the first.
        first: u64,
        /// All of them.
        events: Vec<Bytes>,
    },
    /// How far the session's agent was heard: replaces what was said before.
    Mark {
        /// The session.
        session: SessionId,
        /// How far.
        document: Document,
    },
    /// Events up to and including this number may be forgotten. They may stay readable for a while: they go in pieces as they were written.
    Trim {
        /// The session.
        session: SessionId,
        /// The last that may go.
        up_to: u64,
    },
    /// The session and all that belongs to it is forgotten. It is not found any more at once; its room is given back bit by bit.
    Forget {
        /// The session.
        session: SessionId,
    },
    /// Tokens a user spent; added to the sums of the hour and of all time. Hours are forgotten after two days.
    Spent {
        /// Who.
        user: UserId,
        /// When: hours since 1970.
        hour: u64,
        /// Read by the model.
        input: u64,
        /// Written by the model.
        output: u64,
    },
    /// A claimed key has its answer, or the name of what came of it. See [`Store::claim`].
    Answered {
        /// The key.
        key: IdempotencyKey,
        /// The answer.
        document: Document,
    },
    /// A claimed key is free again: nothing came of it.
    Released {
        /// The key.
        key: IdempotencyKey,
    },
}

/// A session, as the store lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// Its id.
    pub session: SessionId,
    /// Whose it is.
    pub user: UserId,
    /// When it ended; none while it lives.
    pub ended_at: Option<Timestamp>,
    /// The session.
    pub document: Document,
}

/// A session with all that belongs to it but its events.
#[derive(Debug, Clone)]
pub struct StoredSession {
    /// The session.
    pub row: SessionRow,
    /// Its turns, oldest first.
    pub turns: Vec<Document>,
    /// Its permissions, oldest first.
    pub permissions: Vec<Document>,
    /// How far its agent was heard.
    pub mark: Option<Document>,
    /// The earliest event that is kept; the next one to come where there is none.
    pub earliest_seq: u64,
    /// The newest event; 0 when there was none.
    pub last_seq: u64,
    /// The text of its events, in bytes.
    pub bytes: u64,
}

/// What one read of events gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventRows {
    /// Events in order, without holes, from the number after the one asked for. Empty: there are none.
    Rows(Vec<(u64, Bytes)>),
    /// The place is no longer kept.
    Expired {
        /// The earliest that is.
        earliest: u64,
    },
}

/// What a user spent in one hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpentRow {
    /// Hours since 1970.
    pub hour: u64,
    /// Tokens read by the model.
    pub input: u64,
    /// Tokens written by it.
    pub output: u64,
}

/// One `Idempotency-Key` of one user on one route.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey {
    /// Whose.
    pub whose: Whose,
    /// The route it was used on, such as `POST /v1/sessions`, with the session's id where there is one.
    pub route: String,
    /// The client's text.
    pub key: String,
}

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// The key is new, or what came of it was never known: the caller does the work, then answers or releases it.
    New,
    /// Somebody is at it.
    Running,
    /// The key was used for something else.
    Mismatch,
    /// The answer it had.
    Answered(Document),
}

/// Whether the store takes what it is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Well,
    /// Not at this moment. The text is for operators.
    Failing(String),
}

/// Called when changes are durable; on the store's own thread, so it must be quick and never wait.
pub type Done = Box<dyn FnOnce() + Send>;

/// Where everything is kept.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug + 'static {
    /// Queues changes that belong together; `done` is called once they are durable, in the order of the calls. Never waits and never fails: what
    /// can't be written now is tried again. The queue is bounded by who calls: a session's log has a bound on what it has under way, and a
    /// request waits for its own change. A store that was closed drops the changes and `done` uncalled.
    fn write(&self, changes: Vec<Change>, done: Done);

    /// Waits until everything that was queued before is durable.
    ///
    /// # Errors
    /// [`StoreError::Failing`] after `patience`, [`StoreError::Closed`].
    async fn flush(&self, patience: Duration) -> Result<(), StoreError>;

    /// Whether it takes what it is given.
    fn health(&self) -> watch::Receiver<Health>;

    /// Up to `limit` events after `after`, fewer when their text comes to `max_bytes`; one is always given, however large. Sees what is durable.
    ///
    /// # Errors
    /// [`StoreError::Failing`], [`StoreError::Closed`].
    async fn events(
        &self,
        session: &SessionId,
        after: u64,
        limit: usize,
        max_bytes: usize,
    ) -> Result<EventRows, StoreError>;

    /// Every session, oldest first. For the start of a server.
    ///
    /// # Errors
    /// [`StoreError::Failing`], [`StoreError::Closed`].
    async fn sessions(&self) -> Result<Vec<StoredSession>, StoreError>;

    /// All tokens the user ever spent: input, output.
    ///
    /// # Errors
    /// [`StoreError::Failing`], [`StoreError::Closed`].
    async fn spent(&self, user: &UserId) -> Result<(u64, u64), StoreError>;

    /// What the user spent in this hour and later ones, as far as hours are kept.
    ///
    /// # Errors
    /// [`StoreError::Failing`], [`StoreError::Closed`].
    async fn spent_since(&self, user: &UserId, hour: u64) -> Result<Vec<SpentRow>, StoreError>;

    /// Claims an idempotency key for a request whose body has this digest. Claims are forgotten after `keep`; one that an earlier run of the
    /// server left unanswered is new again.
    ///
    /// # Errors
    /// [`StoreError::Failing`], [`StoreError::Closed`].
    async fn claim(&self, key: &IdempotencyKey, body: [u8; 32], keep: Duration) -> Result<Claimed, StoreError>;

    /// Writes what is queued, if it can within `patience`, and closes.
    async fn close(&self, patience: Duration);
}

/// Any store.
pub type AnyStore = Arc<dyn Store>;
