//! A few connections that read, each for one reader at a time. Reads block, so they run beside the runtime's workers.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rusqlite::Connection;
use tokio::{sync::Semaphore, task, time};

use super::file::{StoreFile, sentence};
use crate::store::StoreError;

/// Connections that read. A read takes well below a millisecond, so a few serve many.
const READERS: usize = 4;
/// How long a read may take, waiting for its connection included. A disk that doesn't answer is what makes it long.
const PATIENCE: Duration = Duration::from_secs(30);

/// The connections.
#[derive(Debug)]
pub(super) struct Readers {
    /// Held to take one or put one back.
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
    /// Last, so that it is held for longer than the connections.
    file: Arc<StoreFile>,
}

impl Readers {
    pub(super) fn new(file: Arc<StoreFile>) -> Self {
        Self { idle: Mutex::default(), permits: Arc::new(Semaphore::new(READERS)), file }
    }

    /// Reads. A caller who goes away leaves the read to end by itself, and its connection to the next.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let readers = Arc::clone(self);
        let reading = async move {
            let permit = Arc::clone(&readers.permits).acquire_owned().await.map_err(|_closed| StoreError::Closed)?;
            let read = task::spawn_blocking(move || {
                let read = readers.run(work);
                drop(permit);
                read.map_err(|fault| StoreError::Failing(sentence(&fault)))
            });
            read.await.map_err(|fault| StoreError::Failing(format!("a read ended: {fault}")))?
        };
        let late = |_| StoreError::Failing(format!("a read took longer than {} s", PATIENCE.as_secs()));
        time::timeout(PATIENCE, reading).await.map_err(late)?
    }

    fn run<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let idle = self.idle().pop();
        let mut db = idle.map_or_else(|| self.file.reader(), Ok)?;
        // A connection that failed is not used again.
        let read = work(&mut db)?;
        if !self.permits.is_closed() {
            self.idle().push(db);
        }
        Ok(read)
    }

    /// Reads nothing any more.
    pub(super) fn close(&self) {
        self.permits.close();
        self.idle().clear();
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
