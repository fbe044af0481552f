//! The stock: warm sandboxes that wait, oldest first, and the callers who wait for one, first come first served.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::Semaphore;
use tracing::warn;

use super::{LeaseError, failures::Failures};
use crate::sandbox::{census::Census, lifecycle::Sandbox};

#[derive(Debug, Default)]
struct Shelf {
    ready: VecDeque<Sandbox>,
    closed: bool,
}

/// Warm sandboxes and those who wait for them.
#[derive(Debug)]
pub struct Stock {
    /// A few lines at a time, never across an await.
    shelf: Mutex<Shelf>,
    /// One permit per sandbox on the shelf; its queue is the queue of waiters.
    ready: Semaphore,
    waiting: AtomicUsize,
    failures: Failures,
    census: Arc<Census>,
}

/// Counts a waiter in, for as long as it lives.
struct Waiter<'a>(&'a Stock);

impl<'a> Waiter<'a> {
    fn new(stock: &'a Stock) -> Self {
        stock.waiting.fetch_add(1, Ordering::Relaxed);
        stock.census.tell();
        Self(stock)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Stock {
    /// An empty stock.
    #[must_use]
    pub fn new(census: Arc<Census>) -> Self {
        Self {
            shelf: Mutex::default(),
            ready: Semaphore::new(0),
            waiting: AtomicUsize::new(0),
            failures: Failures::default(),
            census,
        }
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shelf().ready.is_empty()
    }

    /// Callers that wait for a sandbox.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Adds a sandbox. A closed stock drops it.
    pub fn put(&self, sandbox: Sandbox) {
        self.failures.over();
        let mut shelf = self.shelf();
        if !shelf.closed {
            shelf.ready.push_back(sandbox);
            self.ready.add_permits(1);
        }
        drop(shelf);
        self.census.tell();
    }

    /// Takes the oldest sandbox whose agent is alive, waiting for one if need be. There is no await between the taking and the
    /// return: a caller who hangs up either never had it or drops it, which ends it.
    ///
    /// # Errors
    /// [`LeaseError::Failing`] when starts keep failing, [`LeaseError::Closed`].
    pub async fn take(&self) -> Result<Sandbox, LeaseError> {
        let mut waiter = None;
        loop {
            let permit = match self.ready.try_acquire() {
                Ok(permit) => permit,
                Err(_) => {
                    waiter.get_or_insert_with(|| Waiter::new(self));
                    tokio::select! {
                        biased;
                        permit = self.ready.acquire() => permit.map_err(|_| LeaseError::Closed)?,
                        failure = self.failures.hopeless() => return Err(LeaseError::Failing(failure)),
                    }
                }
            };
            permit.forget();
            // Nothing there: the stock's check took out a dead one whose permit was already on its way to us.
            let Some(mut sandbox) = self.shelf().ready.pop_front() else { continue };
            self.census.tell();
            match sandbox.check() {
                Ok(()) => return Ok(sandbox),
                Err(error) => warn!(%error, "a warm sandbox died in stock"),
            }
        }
    }

    /// Takes out those whose agent has died.
    pub fn check(&self) {
        let mut dead = Vec::new();
        let mut shelf = self.shelf();
        let mut alive = VecDeque::with_capacity(shelf.ready.len());
        while let Some(mut sandbox) = shelf.ready.pop_front() {
            match sandbox.check() {
                Ok(()) => alive.push_back(sandbox),
                Err(error) => dead.push((sandbox, error)),
            }
        }
        shelf.ready = alive;
        self.ready.forget_permits(dead.len());
        drop(shelf);
        for (_ended_here, error) in dead {
            warn!(%error, "a warm sandbox died in stock");
        }
    }

    /// Starts that failed.
    #[must_use]
    pub const fn failures(&self) -> &Failures {
        &self.failures
    }

    /// Ends all waiting and drops what is in stock.
    pub fn close(&self) {
        let mut shelf = self.shelf();
        shelf.closed = true;
        let rest = std::mem::take(&mut shelf.ready);
        drop(shelf);
        self.ready.close();
        drop(rest);
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
