//! Stock, warmer and lease accounting: one [`Pool`] per template, and one warmer for all of them.
//!
//! ```text
//!  warmer ──start──► stock (ready) ──take──► deadpool Object = Lease ──drop──► reaper
//!    ▲                 ▲ fair line: FIFO within a user, in turns between users
//!    └─ census changed ┘
//! ```
//!
//! What this holds, whatever fails, hangs, is slow or hangs up (each is a test in `tests/pool` or `pool::queue`):
//!
//! - A sandbox is in at most one lease, and once leased it is never idle again: a lease ends by ending its sandbox.
//! - Starting + ready + leased + ending of all templates together never exceed the [`Capacity`](crate::sandbox::census::Capacity), neither in
//!   number nor in memory, also by the engine's own list: an entry in the census begins before the container and ends after it.
//! - Every container with our label is known to the census or being removed; nothing without our exact label is touched.
//! - Every waiter ends: served, told why not, out of time, or gone. First come first served within a user, in turns between users.
//! - A caller dropped at any await leaves nothing behind: a place in line, a promise, a sandbox just taken all give themselves back or end.
//! - A lease is acknowledged only after its slot says on disk that it was leased.
//! - All counts come from one state map, the census.
//!
//! deadpool counts the leases and owns what is leased; it doesn't create and, because it knows no users, it doesn't queue.

pub mod adoption;
pub mod control;
pub mod demand;
pub mod failures;
pub mod figures;
pub mod health;
pub mod lease;
pub mod manager;
pub mod plan;
pub mod pools;
pub mod queue;
pub mod sizing;
pub mod stock;
pub mod sweep;
pub mod warmer;
pub mod watch;

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, timeout};

pub use adoption::PendingAdoption;
pub use control::{Mode, PoolFigures};
pub use failures::{Failure, FailureKind};
pub use figures::{Miss, Misses, Tally};
pub use lease::{Lease, Leased};
pub use pools::{Applied, Pools, PoolsParts};
pub use stock::Refusal;

use crate::{
    config,
    ids::{TemplateName, UserId},
    sandbox::{
        census::Census,
        lifecycle::{Recipe, Sandbox},
    },
    telemetry::Metrics,
};
use control::Control;
use demand::Demand;
use figures::{Figures, Open};
use manager::Handover;
use stock::{Inventory, Stock};

/// How long a start lets whoever has just been served go first, while nobody waits and half of the stock is left; and for as long after that nobody
/// else is let go first.
const COURTESY: Duration = Duration::from_millis(150);

/// Why no sandbox could be leased.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// None became free in time.
    #[error("no sandbox became free within {} ms", waited.as_millis())]
    Exhausted {
        /// How long the caller waited.
        waited: Duration,
    },
    /// Too many wait already.
    #[error("{waiting} others wait already")]
    QueueFull {
        /// How many.
        waiting: usize,
    },
    /// Sandboxes can't be started at the moment.
    #[error("sandboxes can't be started: {}", .0.detail)]
    Failing(Failure),
    /// The template serves nobody.
    #[error("nobody is served: {0:?}")]
    Refused(Refusal),
    /// The lease could not be written down.
    #[error("the lease could not be written down")]
    NotWritten(#[source] io::Error),
}

/// The pool of one template.
pub struct Pool {
    name: TemplateName,
    inner: deadpool::managed::Pool<Handover>,
    stock: Stock,
    census: Arc<Census>,
    figures: Figures,
    metrics: Metrics,
    /// A few lines at a time, never across an await.
    control: Mutex<Control>,
    /// Likewise.
    demand: Mutex<Demand>,
    /// What its agents' tools may reach, for those who follow it.
    egress: tokio::sync::watch::Sender<Arc<config::TemplateEgress>>,
    /// Where the demand's time begins.
    begun: Instant,
}

impl Pool {
    /// An empty pool. The warmer of its [`Pools`] fills it.
    fn new(
        recipe: Recipe,
        settings: &config::Pool,
        census: &Arc<Census>,
        start_limit: usize,
        metrics: Metrics,
    ) -> Arc<Self> {
        let inner = deadpool::managed::Pool::builder(Handover)
            .max_size(settings.cap)
            .build()
            .expect("neither hooks nor timeouts need anything that could be missing");
        let pool = Self {
            name: recipe.name.clone(),
            egress: tokio::sync::watch::Sender::new(Arc::new(recipe.template.egress.clone())),
            inner,
            stock: Stock::new(Arc::clone(census), recipe.name.clone(), metrics.clone()),
            census: Arc::clone(census),
            figures: Figures::default(),
            metrics,
            control: Mutex::new(Control::new(recipe, settings)),
            demand: Mutex::new(Demand::new(start_limit)),
            begun: Instant::now(),
        };
        pool.tell_mode();
        Arc::new(pool)
    }

    /// The template's name.
    #[must_use]
    pub const fn name(&self) -> &TemplateName {
        &self.name
    }

    /// What its sandboxes are made from now.
    #[must_use]
    pub fn recipe(&self) -> Recipe {
        self.control().recipe.clone()
    }

    /// What its agents' tools may reach beside the model, now and whenever the settings are read again. It stays as it was when the template goes.
    #[must_use]
    pub fn egress(&self) -> tokio::sync::watch::Receiver<Arc<config::TemplateEgress>> {
        self.egress.subscribe()
    }

    /// Leases a sandbox that is there, without waiting and without passing those who wait.
    ///
    /// # Errors
    /// [`LeaseError::NotWritten`].
    pub async fn lease_now(&self, user: &UserId) -> Result<Option<Leased>, LeaseError> {
        let asked = Instant::now();
        let Some(mut place) = self.stock.place_now(user) else { return Ok(None) };
        let Some(sandbox) = place.take_now().await else { return Ok(None) };
        self.note_demand();
        let open = self.figures.open();
        let leased = self.hand_over(sandbox).await.map(|lease| (lease, None));
        count(open, asked, leased).map(Some)
    }

    /// Leases one sandbox, waiting up to `patience` for it (the configured time if none is given, which is also the longest).
    /// Dropping the future at any await leaves nothing behind.
    ///
    /// # Errors
    /// [`LeaseError`] says which limit was met or why sandboxes don't start.
    pub async fn lease(&self, user: &UserId, patience: Option<Duration>) -> Result<Leased, LeaseError> {
        let asked = Instant::now();
        self.note_demand();
        let open = self.figures.open();
        let leased = self.wait(user, patience, asked).await;
        count(open, asked, leased)
    }

    async fn wait(
        &self,
        user: &UserId,
        patience: Option<Duration>,
        asked: Instant,
    ) -> Result<(Lease, Option<Miss>), LeaseError> {
        let (longest, queue) = {
            let control = self.control();
            (control.settings.queue_timeout, control.settings.queue)
        };
        let patience = patience.map_or(longest, |asked| asked.min(longest));
        let mut place = self.stock.place(user, queue)?;
        let miss = if place.is_promised() { None } else { Some(self.miss()) };
        match timeout(patience, place.take()).await {
            Ok(sandbox) => Ok((self.hand_over(sandbox?).await?, miss)),
            // The caller waited for a start that keeps failing: that is the truth, not "all are taken".
            Err(_elapsed) => {
                let exhausted = LeaseError::Exhausted { waited: asked.elapsed() };
                let failing = self.stock.failures().present().filter(|_| !self.figures().full);
                Err(failing.map_or(exhausted, LeaseError::Failing))
            }
        }
    }

    /// A lease turned out to need a new agent session: it counts as a miss.
    pub fn needed_a_session(&self) {
        self.figures.needed_a_session();
    }

    /// Ends all waiting and hands the stock to the reaper, for good.
    fn close(&self) {
        self.inner.close();
        self.stock.refuse(Some(Refusal::Closed));
    }

    async fn hand_over(&self, sandbox: Sandbox) -> Result<Lease, LeaseError> {
        sandbox.slot().mark_leased().map_err(LeaseError::NotWritten)?;
        let lease = self.lease_out(sandbox).await?;
        let now = Instant::now();
        self.figures.taken(now);
        let mut control = self.control();
        // Not prolonged by whoever comes next: a stream of opens would never let a refill begin.
        if control.courtesy_until + COURTESY <= now {
            control.courtesy_until = now + COURTESY;
        }
        drop(control);
        self.census.tell();
        Ok(lease)
    }

    fn miss(&self) -> Miss {
        let control = self.control();
        match () {
            () if control.target == 0 => Miss::OverTarget,
            () if control.replacing => Miss::TemplateChanged,
            () => Miss::Empty,
        }
    }

    fn inventory(&self, now: Instant) -> Inventory {
        let generation = self.control().generation;
        self.stock.inventory(generation, now)
    }

    fn note_demand(&self) {
        self.demand().opened(self.begun.elapsed());
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn demand(&self) -> MutexGuard<'_, Demand> {
        self.demand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts how an open came out.
fn count(
    open: Open<'_>,
    asked: Instant,
    leased: Result<(Lease, Option<Miss>), LeaseError>,
) -> Result<Leased, LeaseError> {
    match leased {
        Ok((lease, miss)) => {
            let wait = asked.elapsed();
            open.served(miss, wait);
            Ok(Leased { lease, miss, wait })
        }
        Err(error) => {
            open.refused();
            Err(error)
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Pool").field("name", &self.name).finish_non_exhaustive()
    }
}
