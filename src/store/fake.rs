//! A store in memory for tests, which can be told to hold back what it is given.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use super::{Change, Claimed, Done, EventRows, Health, IdempotencyKey, SpentRow, Store, StoreError, StoredSession};
use crate::ids::{SessionId, UserId};

#[derive(Default)]
struct Kept {
    events: BTreeMap<SessionId, BTreeMap<u64, Bytes>>,
    changes: Vec<Change>,
    /// By key: the body's digest, and the answer once there is one.
    claims: HashMap<IdempotencyKey, ([u8; 32], Option<String>)>,
    held: Option<Vec<(Vec<Change>, Done)>>,
}

/// Keeps everything, durable at once unless it holds.
pub struct Fake {
    kept: Mutex<Kept>,
    health: watch::Sender<Health>,
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Fake")
    }
}

impl Fake {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { kept: Mutex::default(), health: watch::Sender::new(Health::Well) })
    }

    /// Nothing becomes durable from here on.
    pub(crate) fn hold(&self) {
        self.kept().held.get_or_insert_default();
    }

    /// What was held becomes durable, and what comes.
    pub(crate) fn release(&self) {
        let held = self.kept().held.take().unwrap_or_default();
        for (changes, done) in held {
            self.keep(changes);
            done();
        }
    }

    /// All changes that are durable.
    pub(crate) fn changes(&self) -> Vec<Change> {
        self.kept().changes.clone()
    }

    fn keep(&self, changes: Vec<Change>) {
        let mut kept = self.kept();
        for change in changes {
            match &change {
                Change::Events { session, first, events } => {
                    let log = kept.events.entry(session.clone()).or_default();
                    assert_eq!(log.last_key_value().map_or(*first, |(last, _)| last + 1), *first, "there is no hole");
                    log.extend((*first..).zip(events.iter().cloned()));
                }
                Change::Trim { session, up_to } => {
                    let log = kept.events.entry(session.clone()).or_default();
                    log.retain(|seq, _| seq > up_to);
                }
                Change::Forget { session } => drop(kept.events.remove(session)),
                Change::Answered { key, document } => {
                    if let Some((_, answer)) = kept.claims.get_mut(key) {
                        *answer = Some(document.clone());
                    }
                }
                Change::Released { key } => drop(kept.claims.remove(key)),
                _ => {}
            }
            kept.changes.push(change);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for Fake {
    fn write(&self, changes: Vec<Change>, done: Done) {
        if let Some(held) = &mut self.kept().held {
            held.push((changes, done));
            return;
        }
        self.keep(changes);
        done();
    }

    async fn flush(&self, _patience: Duration) -> Result<(), StoreError> {
        Ok(())
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    async fn events(
        &self,
        session: &SessionId,
        after: u64,
        limit: usize,
        max_bytes: usize,
    ) -> Result<EventRows, StoreError> {
        let kept = self.kept();
        let Some(log) = kept.events.get(session) else { return Ok(EventRows::Rows(Vec::new())) };
        match log.first_key_value() {
            Some((earliest, _)) if after + 1 < *earliest => return Ok(EventRows::Expired { earliest: *earliest }),
            _ => {}
        }
        let mut bytes = 0;
        let fits = |(_, json): &(u64, Bytes)| {
            let first = bytes == 0;
            bytes += json.len();
            first || bytes <= max_bytes
        };
        let rows = log.range(after + 1..).map(|(seq, json)| (*seq, json.clone())).take(limit).take_while(fits);
        Ok(EventRows::Rows(rows.collect()))
    }

    async fn sessions(&self) -> Result<Vec<StoredSession>, StoreError> {
        Ok(Vec::new())
    }

    async fn spent(&self, _user: &UserId) -> Result<(u64, u64), StoreError> {
        Ok((0, 0))
    }

    async fn spent_since(&self, _user: &UserId, _hour: u64) -> Result<Vec<SpentRow>, StoreError> {
        Ok(Vec::new())
    }

    async fn claim(&self, key: &IdempotencyKey, body: [u8; 32], _keep: Duration) -> Result<Claimed, StoreError> {
        Ok(match self.kept().claims.entry(key.clone()) {
            Entry::Vacant(free) => {
                free.insert((body, None));
                Claimed::New
            }
            Entry::Occupied(taken) => match taken.get() {
                (other, _) if *other != body => Claimed::Mismatch,
                (_, None) => Claimed::Running,
                (_, Some(document)) => Claimed::Answered(document.clone()),
            },
        })
    }

    async fn close(&self, _patience: Duration) {}
}
