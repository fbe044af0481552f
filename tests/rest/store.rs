//! A real store that can be told to look as if its disk were full.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use greenroom::{
    ids::{SessionId, UserId},
    store::{
        AnyStore, Change, Claimed, Done, EventRows, Health, IdempotencyKey, SpentRow, Store, StoreError, StoredSession,
        sqlite::{self, Sqlite},
    },
};
use tokio::sync::watch;

/// The store, and how it seems to be.
#[derive(Debug)]
pub struct Moody {
    store: AnyStore,
    health: watch::Sender<Health>,
}

impl Moody {
    pub fn open(state_dir: &std::path::Path) -> Arc<Self> {
        let store = Sqlite::open(&state_dir.join(sqlite::FILE_NAME), &sqlite::Settings::default());
        Arc::new(Self { store: store.expect("a new store"), health: watch::Sender::new(Health::Well) })
    }

    pub fn fails(&self) {
        self.health.send_replace(Health::Failing("no space left on /canary/disk".to_owned()));
    }

    pub fn heals(&self) {
        self.health.send_replace(Health::Well);
    }
}

#[async_trait]
impl Store for Moody {
    fn write(&self, changes: Vec<Change>, done: Done) {
        self.store.write(changes, done);
    }

    async fn flush(&self, patience: Duration) -> Result<(), StoreError> {
        self.store.flush(patience).await
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
        self.store.events(session, after, limit, max_bytes).await
    }

    async fn sessions(&self) -> Result<Vec<StoredSession>, StoreError> {
        self.store.sessions().await
    }

    async fn spent(&self, user: &UserId) -> Result<(u64, u64), StoreError> {
        self.store.spent(user).await
    }

    async fn spent_since(&self, user: &UserId, hour: u64) -> Result<Vec<SpentRow>, StoreError> {
        self.store.spent_since(user, hour).await
    }

    async fn claim(&self, key: &IdempotencyKey, body: [u8; 32], keep: Duration) -> Result<Claimed, StoreError> {
        self.store.claim(key, body, keep).await
    }

    async fn close(&self, patience: Duration) {
        self.store.close(patience).await;
    }
}
