//! The stock: warm sandboxes that wait, oldest first, and the callers who wait for one.
//!
//! ```text
//!   put ──► shelf: [sandbox, sandbox, …]      line: ada 1 ─ bob 1 ─ ada 2 ─ …
//!                        │                            │ whose turn it is
//!                        └────── promised to ─────────┘──► take (checked) ──► lease
//! ```
//!
//! Whose turn it is gets a promise: as many sandboxes stay on the shelf as were promised. A caller who hangs up before taking gives the promise
//! back, and the next in line has it; one who hangs up after taking drops the sandbox, which ends it. A sandbox whose agent died or whose
//! supervisor doesn't answer is never handed out: whoever met it takes the next one, or goes back to the head of the line.

mod place;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};
use tracing::{info, warn};

pub use place::Place;

use super::{LeaseError, failures::Failures, queue::Queue};
use crate::{
    agent::AgentError,
    ids::{SlotId, TemplateName, UserId},
    sandbox::{
        census::{Census, Generation},
        lifecycle::Sandbox,
    },
    telemetry::{Metrics, labels::Discard},
};

/// A sandbox that is lost by its own fault sooner than this counts as a start that failed.
const LASTING: Duration = Duration::from_secs(60);

/// Why nobody is served from this stock, whatever is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The server stops.
    Closed,
    /// An operator drains the template.
    Draining,
    /// An operator holds back new sandboxes: what is in stock is served, and nobody waits.
    Paused,
    /// One sandbox of this template may use more memory than all together: none can be made.
    TooBig,
}

impl Refusal {
    /// Whether nobody gets even what is in stock.
    const fn bars_all(self) -> bool {
        matches!(self, Self::Closed | Self::Draining)
    }
}

#[derive(Debug)]
struct Shelved {
    sandbox: Sandbox,
    generation: Generation,
    since: Instant,
    too_old: Instant,
}

impl Shelved {
    fn is_stale(&self, generation: Generation, now: Instant) -> bool {
        self.generation != generation || self.too_old <= now
    }
}

#[derive(Debug, Default)]
struct Shelf {
    ready: VecDeque<Shelved>,
    line: Queue<oneshot::Sender<()>>,
    /// Sandboxes on the shelf that somebody may take.
    promised: usize,
}

/// What is in stock, and who waits for it; promised ones aren't counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Made as the template is now.
    pub fresh: usize,
    /// Made before it changed, or too old.
    pub stale: usize,
    /// Callers in line.
    pub waiting: usize,
}

/// Warm sandboxes and those who wait for them.
#[derive(Debug)]
pub struct Stock {
    /// A few lines at a time, never across an await.
    shelf: Mutex<Shelf>,
    refusal: watch::Sender<Option<Refusal>>,
    failures: Failures,
    /// Why sandboxes were lost by their own fault soon after they were ready, until somebody asks. A line at a time.
    early_losses: Mutex<Vec<String>>,
    census: Arc<Census>,
    template: TemplateName,
    metrics: Metrics,
}

impl Stock {
    /// An empty stock.
    #[must_use]
    pub fn new(census: Arc<Census>, template: TemplateName, metrics: Metrics) -> Self {
        let (shelf, failures) = (Mutex::default(), Failures::default());
        Self {
            shelf,
            refusal: watch::Sender::new(None),
            failures,
            early_losses: Mutex::default(),
            census,
            template,
            metrics,
        }
    }

    /// Adds a sandbox that is ready `since` then, and is replaced at `too_old`. A stock that is closed or drained drops it.
    pub fn put(&self, sandbox: Sandbox, generation: Generation, since: Instant, too_old: Instant) {
        let mut shelf = self.shelf();
        let unwanted = if self.bars_all() {
            Some(sandbox)
        } else {
            shelf.ready.push_back(Shelved { sandbox, generation, since, too_old });
            shelf.promise();
            None
        };
        drop(shelf);
        drop(unwanted);
        self.census.tell();
    }

    /// A place for this user, if a sandbox is there that nobody else waits for.
    pub fn place_now(&self, user: &UserId) -> Option<Place<'_>> {
        let mut shelf = self.shelf();
        if self.bars_all() || !shelf.line.is_empty() || shelf.ready.len() <= shelf.promised {
            return None;
        }
        shelf.promised += 1;
        Some(Place::promised(self, user))
    }

    /// A place for this user at the end of the line, which has room for `limit`; with a promise already, if one can be given at once.
    ///
    /// # Errors
    /// [`LeaseError::QueueFull`], [`LeaseError::Refused`].
    pub fn place(&self, user: &UserId, limit: usize) -> Result<Place<'_>, LeaseError> {
        if let Some(place) = self.place_now(user) {
            return Ok(place);
        }
        if let Some(refusal) = self.refused() {
            return Err(LeaseError::Refused(refusal));
        }
        let (wake, woken) = oneshot::channel();
        let mut shelf = self.shelf();
        let waiting = shelf.line.len();
        if waiting >= limit {
            return Err(LeaseError::QueueFull { waiting });
        }
        let ticket = shelf.line.join(user, wake);
        shelf.promise();
        drop(shelf);
        self.census.tell();
        Ok(Place::in_line(self, user, ticket, woken))
    }

    /// What there is, with `generation` being the present one.
    #[must_use]
    pub fn inventory(&self, generation: Generation, now: Instant) -> Inventory {
        let shelf = self.shelf();
        let stale = shelf.ready.iter().skip(shelf.promised).filter(|one| one.is_stale(generation, now)).count();
        let free = shelf.ready.len().saturating_sub(shelf.promised);
        Inventory { fresh: free - stale, stale, waiting: shelf.line.len() }
    }

    /// Ends one that waits: a stale one, or else the oldest one. False if there is none that isn't promised.
    pub fn retire(&self, generation: Generation, now: Instant) -> bool {
        let mut shelf = self.shelf();
        if shelf.ready.len() <= shelf.promised {
            return false;
        }
        let stale = shelf.ready.iter().position(|one| one.is_stale(generation, now));
        let retired = shelf.ready.remove(stale.unwrap_or_default());
        drop(shelf);
        if retired.is_some() {
            self.count(Discard::Retired);
        }
        retired.is_some()
    }

    /// Ends the one in this slot, if it waits here.
    pub fn discard(&self, slot: &SlotId, kind: Discard, why: &str) -> bool {
        let mut shelf = self.shelf();
        let place = shelf.ready.iter().position(|one| one.sandbox.slot().id() == slot);
        let discarded = place.and_then(|place| shelf.ready.remove(place));
        drop(shelf);
        if let Some(one) = &discarded {
            info!(%slot, why, "a warm sandbox leaves the stock");
            self.count(kind);
            if matches!(kind, Discard::Silent | Discard::Memory) {
                self.blame(one.since, why);
            }
            self.census.tell();
        }
        discarded.is_some()
    }

    /// Takes out those whose agent has died.
    pub fn check(&self) {
        let mut dead = Vec::new();
        let mut shelf = self.shelf();
        let mut alive = VecDeque::with_capacity(shelf.ready.len());
        while let Some(mut one) = shelf.ready.pop_front() {
            match one.sandbox.check() {
                Ok(()) => alive.push_back(one),
                Err(error) => dead.push((one, error)),
            }
        }
        shelf.ready = alive;
        drop(shelf);
        for (ended_here, error) in dead {
            self.lost(ended_here.since, &error);
            warn!(%error, "a warm sandbox died in stock");
        }
    }

    /// Asks each that waits a question whose answer is awaited outside, without holding anybody up.
    pub fn ask<Answer>(&self, question: impl Fn(&Sandbox) -> Answer) -> Vec<(SlotId, Answer)> {
        self.shelf().ready.iter().map(|one| (one.sandbox.slot().id().clone(), question(&one.sandbox))).collect()
    }

    /// Starts that failed.
    #[must_use]
    pub const fn failures(&self) -> &Failures {
        &self.failures
    }

    /// Why nobody is served, if so.
    #[must_use]
    pub fn refused(&self) -> Option<Refusal> {
        *self.refusal.borrow()
    }

    /// Serves nobody any more, or everybody again. Draining and closing end what is in stock; a closed stock stays closed.
    pub fn refuse(&self, refusal: Option<Refusal>) {
        self.refusal.send_if_modified(|now| {
            let changes = *now != Some(Refusal::Closed) && *now != refusal;
            if changes {
                *now = refusal;
            }
            changes
        });
        // What is taken out is dropped after the lock.
        let ended = if self.bars_all() { std::mem::take(&mut self.shelf().ready) } else { VecDeque::new() };
        if self.refused() == Some(Refusal::Draining) {
            ended.iter().for_each(|_| self.count(Discard::Operator));
        }
        drop(ended);
        self.census.tell();
    }

    /// One whose agent is gone. Who kills a container from outside isn't the template's fault.
    fn lost(&self, since: Instant, error: &AgentError) {
        self.count(Discard::Dead);
        if matches!(error, AgentError::Exited(_) | AgentError::Protocol(_)) {
            self.blame(since, &error.to_string());
        }
    }

    fn blame(&self, since: Instant, why: &str) {
        if since.elapsed() < LASTING {
            let why = format!("soon after it was ready: {why}");
            self.early_losses.lock().unwrap_or_else(PoisonError::into_inner).push(why);
            self.census.tell();
        }
    }

    /// Why sandboxes were lost by their own fault soon after they were ready; each is told once.
    pub fn early_losses(&self) -> Vec<String> {
        std::mem::take(&mut *self.early_losses.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether one has waited for so long that starts of this template are worth something.
    pub fn has_lasting(&self) -> bool {
        self.shelf().ready.front().is_some_and(|one| one.since.elapsed() >= LASTING)
    }

    /// Those that are stale, with `generation` being the present one.
    pub fn stale(&self, generation: Generation, now: Instant) -> Vec<SlotId> {
        let shelf = self.shelf();
        shelf
            .ready
            .iter()
            .filter(|one| one.is_stale(generation, now))
            .map(|one| one.sandbox.slot().id().clone())
            .collect()
    }

    /// Counts one that left unused.
    fn count(&self, why: Discard) {
        self.metrics.sandbox_discarded(&self.template, why);
    }

    fn bars_all(&self) -> bool {
        self.refused().is_some_and(Refusal::bars_all)
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    /// Promises what isn't promised yet to those in line.
    fn promise(&mut self) {
        while self.promised < self.ready.len()
            && let Some((_, wake)) = self.line.call_next()
        {
            // Whoever hung up meanwhile gives the promise back when their place is dropped, which must wait for this lock.
            let _they_may_be_gone = wake.send(());
            self.promised += 1;
        }
    }
}
