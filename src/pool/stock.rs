//! The stock: warm sandboxes that wait, oldest first, and the callers who wait for one, first come first served.
//!
//! Also the pool's memory of failed starts: after [`PATIENCE`] failures in a row with nothing in stock, callers are told so at once
//! instead of waiting out their deadline, until the warmer's pause is over and the next try begins.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::{Semaphore, watch};
use tracing::warn;

use super::LeaseError;
use crate::sandbox::{census::Census, lifecycle::Sandbox};

/// Failures in a row after which callers no longer wait.
pub const PATIENCE: u32 = 2;
/// Failures that are remembered for `/v1/pools`.
const REMEMBERED: usize = 5;

/// What kind of trouble keeps sandboxes from starting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The engine doesn't answer.
    Engine,
    /// The engine can't make or start the container.
    Container,
    /// The agent in it doesn't come up.
    Agent,
    /// The agent in it doesn't answer in time.
    AgentTimeout,
}

/// A start that failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// When.
    pub time: Timestamp,
    /// What kind.
    pub kind: FailureKind,
    /// In which phase.
    pub phase: &'static str,
    /// A public sentence.
    pub detail: String,
    /// The next try comes after this.
    pub pause: Duration,
}

#[derive(Debug, Default)]
struct Shelf {
    ready: VecDeque<Sandbox>,
    failures: VecDeque<Failure>,
    in_a_row: u32,
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
    /// True while callers should not wait.
    failing: watch::Sender<bool>,
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
            failing: watch::Sender::new(false),
            census,
        }
    }

    /// Sandboxes that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shelf().ready.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Callers that wait for a sandbox.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Adds a sandbox. A closed stock drops it.
    pub fn put(&self, sandbox: Sandbox) {
        let mut shelf = self.shelf();
        shelf.in_a_row = 0;
        self.failing.send_replace(false);
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
        let mut failing = self.failing.subscribe();
        let mut waiter = None;
        loop {
            let permit = match self.ready.try_acquire() {
                Ok(permit) => permit,
                Err(_) => {
                    waiter.get_or_insert_with(|| Waiter::new(self));
                    tokio::select! {
                        biased;
                        permit = self.ready.acquire() => permit.map_err(|_| LeaseError::Closed)?,
                        _ = failing.wait_for(|failing| *failing) => {
                            if let Some(failure) = self.last_failure_if_failing() {
                                return Err(LeaseError::Failing(failure));
                            }
                            continue;
                        }
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

    /// Remembers a failed start.
    pub fn failed(&self, failure: Failure) {
        let mut shelf = self.shelf();
        shelf.failures.push_front(failure);
        shelf.failures.truncate(REMEMBERED);
        shelf.in_a_row = shelf.in_a_row.saturating_add(1);
        self.failing.send_replace(shelf.in_a_row >= PATIENCE);
    }

    /// The pause after a failure is over: callers may wait again, for the next try.
    pub fn try_again(&self) {
        self.failing.send_replace(false);
    }

    /// Failures in a row since the last success.
    #[must_use]
    pub fn in_a_row(&self) -> u32 {
        self.shelf().in_a_row
    }

    /// The last failures, newest first.
    #[must_use]
    pub fn failures(&self) -> Vec<Failure> {
        self.shelf().failures.iter().cloned().collect()
    }

    /// The newest failure, if no start has worked since.
    #[must_use]
    pub fn last_failure_if_failing(&self) -> Option<Failure> {
        let shelf = self.shelf();
        if shelf.in_a_row == 0 { None } else { shelf.failures.front().cloned() }
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
