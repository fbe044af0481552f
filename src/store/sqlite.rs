//! The store in one SQLite file.
//!
//! ```text
//!  write ──▶ queue ──▶ writer ──▶ log of changes ──▶ checkpointer ──▶ file
//!   done ◀────────────────┘             │                              │
//!  events, sessions, … ◀── readers ◀────┴──────────────────────────────┘
//! ```
//!
//! One thread writes what waits, in one transaction; another copies the log into the file; a few connections read. `docs/decisions/0014` says why it
//! is so and what was measured.

mod backup;
mod ballast;
mod checkpoint;
mod claims;
mod debts;
mod file;
mod ledger;
mod queue;
mod read;
mod readers;
mod schema;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio::{
    sync::{oneshot, watch},
    task, time,
};

pub use self::backup::{BackupError, Copied, backup};
use self::{
    ballast::Ballast,
    checkpoint::{Bounds, Copier, Pressure},
    claims::{Claim, Claims},
    debts::Debts,
    file::{StoreFile, sentence},
    ledger::Ledger,
    queue::{Batch, Queue},
    readers::Readers,
    writer::Writer,
};
use super::{Change, Claimed, Done, EventRows, Health, IdempotencyKey, SpentRow, Store, StoreError, StoredSession};
use crate::{
    config::Durability,
    ids::{SessionId, UserId},
};

/// The store's file in the state folder.
pub const FILE_NAME: &str = "greenroom.db";

/// How a store is written.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What a change survives.
    pub durability: Durability,
    /// Room on the disk that is held back, to get out of a shortage, in bytes. Default 32 MiB.
    pub ballast_bytes: u64,
    /// The log of changes is copied into the file each time it grew by this, in bytes. Default 8 MiB.
    pub log_step_bytes: u64,
    /// The log of changes begins anew before it is much longer, in bytes. Default 64 MiB. A reader in a long read, such as a backup, puts it off.
    pub log_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Self {
            durability: Durability::default(),
            ballast_bytes: 32 * MIB,
            log_step_bytes: 8 * MIB,
            log_bytes: 64 * MIB,
        }
    }
}

impl Settings {
    fn bounds(&self) -> Bounds {
        let frames = |bytes: u64| u32::try_from(bytes / PAGE_BYTES).unwrap_or(u32::MAX);
        Bounds { soft: frames(self.log_step_bytes).max(1), hard: frames(self.log_bytes).max(1) }
    }
}

/// A page of the file, in bytes: what SQLite takes by default.
const PAGE_BYTES: u64 = 4096;

/// An open store.
#[derive(Debug)]
pub struct Sqlite {
    queue: Arc<Queue>,
    claims: Arc<Claims>,
    pressure: Arc<Pressure>,
    readers: Arc<Readers>,
    health: watch::Receiver<Health>,
    /// Taken by whoever closes.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Sqlite {
    /// Opens the file, makes it if there is none, and brings one of an older version up to date. Blocks for as long as that takes.
    ///
    /// # Errors
    /// [`StoreError::Open`], [`StoreError::TooNew`].
    pub fn open(path: &Path, settings: &Settings) -> Result<Arc<Self>, StoreError> {
        let file = StoreFile::open(path)?;
        let mut db = file.writer(settings.durability, settings.log_bytes)?;
        let cannot = |fault: rusqlite::Error| file.cannot(&sentence(&fault));
        let (queue, claims) = (Arc::new(Queue::new()), Arc::new(Claims::default()));
        let pressure = Arc::new(Pressure::new(settings.bounds()));
        pressure.watch(&mut db).map_err(cannot)?;
        let copier = Copier::new(Arc::clone(&file), Arc::clone(&pressure)).map_err(cannot)?;
        let (health, watched) = watch::channel(Health::Well);
        let writer = Writer {
            debts: Debts::left_behind(&db).map_err(cannot)?,
            db,
            queue: Arc::clone(&queue),
            claims: Arc::clone(&claims),
            pressure: Arc::clone(&pressure),
            health,
            ballast: Ballast::beside(path, settings.ballast_bytes),
            ledger: Ledger::new(Arc::clone(&claims)),
            relief: Vec::new(),
            rest: None,
            _file: Arc::clone(&file),
        };
        let threads = [spawn("store-writer", || writer.run()), spawn("store-copier", || copier.run())];
        let store = Self {
            queue,
            claims,
            pressure,
            readers: Arc::new(Readers::new(Arc::clone(&file))),
            health: watched,
            threads: Mutex::default(),
        };
        for thread in threads {
            let thread = thread.map_err(|fault| file.cannot(&format!("no thread can be started: {fault}")))?;
            store.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        Ok(Arc::new(store))
    }

    fn failing(&self, otherwise: &str) -> StoreError {
        match &*self.health.borrow() {
            Health::Failing(reason) => StoreError::Failing(reason.clone()),
            Health::Well => StoreError::Failing(otherwise.to_owned()),
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(work)
}

#[async_trait]
impl Store for Sqlite {
    fn write(&self, changes: Vec<Change>, done: Done) {
        self.queue.push(Batch { changes, done });
    }

    async fn flush(&self, patience: Duration) -> Result<(), StoreError> {
        let (told, durable) = oneshot::channel();
        self.write(
            Vec::new(),
            Box::new(move || {
                let _nobody_waits_any_more = told.send(());
            }),
        );
        match time::timeout(patience, durable).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_dropped)) => Err(StoreError::Closed),
            Err(_late) => Err(self.failing("it is slow")),
        }
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    async fn events(
        &self,
        session: &SessionId,
        after: u64,
        limit: usize,
        max_bytes: usize,
    ) -> Result<EventRows, StoreError> {
        let session = session.clone();
        self.readers.read(move |db| read::events(db, &session, after, limit, max_bytes)).await
    }

    async fn sessions(&self) -> Result<Vec<StoredSession>, StoreError> {
        self.readers.read(read::sessions).await
    }

    async fn spent(&self, user: &UserId) -> Result<(u64, u64), StoreError> {
        let user = user.clone();
        self.readers.read(move |db| read::spent(db, &user)).await
    }

    async fn spent_since(&self, user: &UserId, hour: u64) -> Result<Vec<SpentRow>, StoreError> {
        let user = user.clone();
        self.readers.read(move |db| read::spent_since(db, &user, hour)).await
    }

    async fn claim(&self, key: &IdempotencyKey, body: [u8; 32], keep: Duration) -> Result<Claimed, StoreError> {
        let answered = async || {
            let key = key.clone();
            self.readers.read(move |db| claims::answered(db, &key, &body)).await
        };
        if let Some(answer) = answered().await? {
            return Ok(answer);
        }
        let claim = Claim::new(body, keep);
        if let Some(answer) = self.claims.take(key, claim) {
            return Ok(answer);
        }
        // Between the look and the claim somebody may have had it and been answered. Should the caller go away here, the key is free again.
        let held = Held { claims: &self.claims, key: Some(key) };
        match answered().await? {
            Some(answer) => Ok(answer),
            None => {
                held.keep();
                Ok(Claimed::New)
            }
        }
    }

    async fn close(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        self.queue.close(deadline);
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let (pressure, readers) = (Arc::clone(&self.pressure), Arc::clone(&self.readers));
        let ending = task::spawn_blocking(move || {
            let mut threads = threads.into_iter();
            let writer = threads.next().map(JoinHandle::join);
            pressure.close();
            readers.close();
            writer.into_iter().chain(threads.map(JoinHandle::join)).filter(Result::is_err).count()
        });
        if time::timeout(patience + CLOSING, ending).await.is_err() {
            tracing::warn!("the store did not close in time; what is durable stays so");
        }
    }
}

/// What closing the file may take beyond the last write: its log is copied into it.
const CLOSING: Duration = Duration::from_secs(5);

impl Drop for Sqlite {
    fn drop(&mut self) {
        self.queue.close(Instant::now());
        self.pressure.close();
        self.readers.close();
    }
}

/// A claim that ends unless it is kept.
struct Held<'a> {
    claims: &'a Claims,
    key: Option<&'a IdempotencyKey>,
}

impl Held<'_> {
    fn keep(mut self) {
        self.key = None;
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.claims.release(key);
        }
    }
}
