//! One session's event log: append, read, follow.
//!
//! Events are numbered from 1 without holes. One writer, the session's driver, gathers what happened in a [`Batch`] and writes it to the store as
//! one; readers see an event only when the store says that it is durable, so nobody ever saw what a crash takes back.
//!
//! ```text
//!   driver ── Batch ──► store ──(durable)──► tip ──► readers: from the tail if they are near, else from the store
//!                └────► tail (the newest, in memory)
//! ```
//!
//! The log is bounded by the size of its text: past that the oldest events go, and a reader whose place is gone is told so with the earliest number
//! that is kept, never given a silent gap. Readers only follow: none of them can slow the writer, one read is bounded in number and bytes, and what
//! a reader holds is one read. How much is under way to the store is for the driver to bound ([`EventLog::under_way`]).

mod reader;
mod retention;
mod tail;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::{sync::watch, time::timeout};

pub use reader::LogReader;
use retention::Retention;
use tail::Tail;

use crate::{
    ids::{SessionId, TurnId},
    session::event::{Event, EventType},
    store::{AnyStore, Change, EventRows, StoreError, StoredSession},
};

/// Most events one read gives.
pub const READ_MAX: usize = 256;
/// Bytes of event text after which one read gives no further event; one event is always given, however large.
pub const READ_BYTES: usize = 1024 * 1024;

/// The reader's place is no longer kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("events up to {} are no longer kept", earliest - 1)]
pub struct CursorExpired {
    /// The earliest number that is kept.
    pub earliest: u64,
}

/// Why nothing can be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// The place is gone.
    #[error(transparent)]
    Expired(#[from] CursorExpired),
    /// The store doesn't work.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is durable; every reader is woken when it moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tip {
    /// The newest event.
    pub last_seq: u64,
    /// The newest write: see [`EventLog::written`].
    pub writes: u64,
    /// The last event of all is durable.
    closed: bool,
}

/// What is known of events that are numbered, durable or not.
#[derive(Debug)]
struct Head {
    last_seq: u64,
    writes: u64,
    closed: bool,
    /// Bytes that are queued and not durable.
    under_way: usize,
    tail: Tail,
    retention: Retention,
}

/// The events of one session.
#[derive(Debug)]
pub struct EventLog {
    session: SessionId,
    store: AnyStore,
    /// A few lines at a time, never across an await.
    head: Mutex<Head>,
    tip: watch::Sender<Tip>,
}

impl EventLog {
    /// An empty log that keeps at most about `max_bytes` of event text, and always the newest events.
    #[must_use]
    pub fn new(session: SessionId, store: AnyStore, max_bytes: usize) -> Arc<Self> {
        Self::begin(session, store, 0, false, Retention::new(max_bytes))
    }

    /// The log of a session that an earlier server wrote.
    #[must_use]
    pub fn restored(stored: &StoredSession, store: AnyStore, max_bytes: usize) -> Arc<Self> {
        let bytes = usize::try_from(stored.bytes).unwrap_or(usize::MAX);
        let retention = Retention::restored(max_bytes, stored.earliest_seq, stored.last_seq, bytes);
        let over = stored.row.ended_at.is_some();
        Self::begin(stored.row.session.clone(), store, stored.last_seq, over, retention)
    }

    fn begin(session: SessionId, store: AnyStore, last_seq: u64, closed: bool, retention: Retention) -> Arc<Self> {
        let head = Head { last_seq, writes: 0, closed, under_way: 0, tail: Tail::default(), retention };
        let tip = watch::Sender::new(Tip { last_seq, writes: 0, closed });
        Arc::new(Self { session, store, head: Mutex::new(head), tip })
    }

    /// Begins to gather what is written together. Only the session's one writer may have one, and one at a time.
    #[must_use]
    pub fn batch(&self) -> Batch {
        let head = self.head();
        Batch { last_seq: head.last_seq, closed: head.closed, bytes: 0, events: Vec::new(), changes: Vec::new() }
    }

    /// Queues a batch, which is empty then; says which write it is. An empty one is none: the number of the latest is given.
    pub fn write(self: &Arc<Self>, batch: &mut Batch) -> u64 {
        let (last_seq, closed, bytes) = (batch.last_seq, batch.closed, std::mem::take(&mut batch.bytes));
        let (events, mut changes) = (std::mem::take(&mut batch.events), std::mem::take(&mut batch.changes));
        if events.is_empty() && changes.is_empty() {
            return self.head().writes;
        }
        let tip = {
            let mut head = self.head();
            debug_assert_eq!(head.last_seq + events.len() as u64, last_seq, "there is one writer");
            let durable = self.tip.borrow().last_seq;
            if let Some(first) = events.first().map(|event| event.seq) {
                let session = self.session.clone();
                let texts = events.iter().map(|event| event.json.clone()).collect();
                changes.push(Change::Events { session, first, events: texts });
                let mut up_to = None;
                for event in &events {
                    up_to = head.retention.add(event.seq, event.json.len()).or(up_to);
                }
                if let Some(up_to) = up_to {
                    changes.push(Change::Trim { session: self.session.clone(), up_to });
                }
                head.tail.push(events, durable);
            }
            head.last_seq = last_seq;
            head.closed = closed;
            head.writes += 1;
            head.under_way += bytes;
            Tip { last_seq, writes: head.writes, closed }
        };
        let log = Arc::clone(self);
        self.store.write(changes, Box::new(move || log.is_durable(tip, bytes)));
        tip.writes
    }

    /// Appends one event on its own, for tests; returns its number.
    #[cfg(test)]
    pub(crate) fn append(self: &Arc<Self>, kind: EventType, turn: Option<&TurnId>, content: &Value) -> u64 {
        let mut batch = self.batch();
        let seq = batch.event(&self.session, kind, turn, content);
        self.write(&mut batch);
        seq
    }

    /// The number of the newest durable event; 0 when there is none.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.tip.borrow().last_seq
    }

    /// The number of the newest write that is durable. Wakes at every one.
    #[must_use]
    pub fn written(&self) -> watch::Receiver<Tip> {
        self.tip.subscribe()
    }

    /// The event text that is kept, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.head().retention.bytes()
    }

    /// Event text that is queued and not durable yet, in bytes.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.head().under_way
    }

    /// Waits until all that was written before is durable.
    ///
    /// # Errors
    /// It isn't within `patience`.
    pub async fn settled(&self, patience: Duration) -> Result<(), StoreError> {
        let writes = self.head().writes;
        let mut tip = self.tip.subscribe();
        if tip.borrow_and_update().writes >= writes {
            return Ok(());
        }
        match timeout(patience, tip.wait_for(|tip| tip.writes >= writes)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(StoreError::Failing("what happened last could not be written down yet".to_owned())),
        }
    }

    /// Up to `limit` (at most [`READ_MAX`]) events after `after`, fewer when their text comes to [`READ_BYTES`]. Empty: there is
    /// nothing newer yet.
    ///
    /// # Errors
    /// [`LogError`].
    pub async fn read(&self, after: u64, limit: usize) -> Result<Vec<Arc<Event>>, LogError> {
        let limit = limit.min(READ_MAX);
        let durable = self.last_seq();
        if after >= durable || limit == 0 {
            return Ok(Vec::new());
        }
        if let Some(near) = self.head().tail.read(after, durable, limit, READ_BYTES) {
            return Ok(near);
        }
        match self.store.events(&self.session, after, limit, READ_BYTES).await? {
            EventRows::Rows(rows) => rows
                .into_iter()
                .map(|(seq, json)| {
                    let unreadable = || StoreError::Failing(format!("event {seq} can't be read"));
                    Ok(Arc::new(Event::read(seq, json).ok_or_else(unreadable)?))
                })
                .collect(),
            EventRows::Expired { earliest } => Err(CursorExpired { earliest }.into()),
        }
    }

    /// A reader that begins after `after`.
    #[must_use]
    pub fn follow(self: &Arc<Self>, after: u64) -> LogReader {
        LogReader::new(Arc::clone(self), self.tip.subscribe(), after)
    }

    /// Lets go of what is in memory: the session is over, and whoever still reads it reads from the store.
    pub fn rest(&self) {
        let durable = self.last_seq();
        self.head().tail.clear(durable);
    }

    fn is_durable(&self, tip: Tip, bytes: usize) {
        let mut head = self.head();
        head.under_way = head.under_way.saturating_sub(bytes);
        match tip.closed {
            true => head.tail.clear(tip.last_seq),
            false => head.tail.fit(tip.last_seq),
        }
        drop(head);
        self.tip.send_replace(tip);
    }

    fn head(&self) -> MutexGuard<'_, Head> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is written together: events, and what goes with them.
#[derive(Debug)]
pub struct Batch {
    last_seq: u64,
    closed: bool,
    bytes: usize,
    events: Vec<Arc<Event>>,
    changes: Vec<Change>,
}

impl Batch {
    /// Adds an event; returns its number. After [`EventType::SessionEnded`] nothing is added.
    pub fn event(&mut self, session: &SessionId, kind: EventType, turn: Option<&TurnId>, content: &Value) -> u64 {
        if !self.closed {
            self.last_seq += 1;
            self.closed = kind == EventType::SessionEnded;
            let event = Event::new(self.last_seq, kind, session, turn.cloned(), content);
            self.bytes += event.json.len();
            self.events.push(Arc::new(event));
        }
        self.last_seq
    }

    /// Adds what goes with the events.
    pub fn change(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.changes.is_empty()
    }

    /// The text of its events, in bytes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests;
