//! Stock, warmer and lease accounting for one template.
//!
//! ```text
//!  warmer ──start──► stock (ready, FIFO) ──take──► deadpool Object = Lease ──drop──► reaper
//!    ▲                   ▲ waiters queue here             ▲ cap on leases, FIFO queue, deadline
//!    └── census changed ─┘
//! ```
//!
//! deadpool counts and queues; it doesn't create. Its manager only *takes* from the stock, which the warmer fills in the background,
//! so a caller who hangs up at any await leaves nothing behind: a sandbox is either still in stock, or in the dropped future's
//! hands, whose drop posts it to the reaper. A used sandbox never comes back: a lease ends by taking the object out of deadpool.
//!
//! What this holds: a sandbox is in at most one lease, and never idle again after it; starting + ready + leased + ending of all templates
//! together never exceeds the cap; every waiter ends, served or told why not.

pub mod failures;
pub mod lease;
pub mod manager;
pub mod stock;
pub mod sweep;
pub mod warmer;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use deadpool::managed::{PoolError, TimeoutType, Timeouts};
use tokio_util::sync::CancellationToken;

pub use failures::{Failure, FailureKind};
pub use lease::{Lease, Leased};

use crate::{
    config,
    ids::TemplateName,
    sandbox::{
        census::{Census, Counts},
        lifecycle::{Recipe, Starter},
    },
};
use manager::StockManager;
use stock::Stock;

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
    /// The pool is closing.
    #[error("the pool is closed")]
    Closed,
}

/// The pool of one template.
pub struct Pool {
    recipe: Recipe,
    settings: config::Pool,
    target: usize,
    inner: deadpool::managed::Pool<StockManager>,
    stock: Arc<Stock>,
    census: Arc<Census>,
    waiting: AtomicUsize,
    hits: AtomicU64,
    opens: AtomicU64,
}

/// A pool's figures at one moment.
#[derive(Debug, Clone)]
pub struct PoolFigures {
    /// Sandboxes by state.
    pub counts: Counts,
    /// Opens that wait.
    pub waiting: usize,
    /// Warm sandboxes to keep.
    pub target: usize,
    /// Sandboxes in all, at most.
    pub cap: usize,
    /// Leases served from stock at once.
    pub hits: u64,
    /// Leases asked for.
    pub opens: u64,
    /// The last failures, newest first, however long ago.
    pub failures: Vec<Failure>,
    /// The newest failure, if no start has worked since.
    pub failing: Option<Failure>,
    /// Whether users hold, or are about to give back, all there may be of all templates.
    pub full: bool,
}

/// Holds one place in the queue.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pool {
    /// Makes the pool and starts its warmer, which ends with `stop`.
    #[must_use]
    pub fn start(
        recipe: Recipe,
        settings: &config::Pool,
        census: &Arc<Census>,
        starter: &Arc<Starter>,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let target = recipe.template.min_warm(settings);
        let stock = Arc::new(Stock::new(Arc::clone(census)));
        let inner = deadpool::managed::Pool::builder(StockManager::new(Arc::clone(&stock)))
            .max_size(settings.cap)
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .expect("a runtime is given, which is all that can be missing");
        warmer::spawn(warmer::Plan {
            recipe: recipe.clone(),
            settings: settings.clone(),
            target,
            stock: Arc::clone(&stock),
            census: Arc::clone(census),
            starter: Arc::clone(starter),
            stop,
        });
        Arc::new(Self {
            recipe,
            settings: settings.clone(),
            target,
            inner,
            stock,
            census: Arc::clone(census),
            waiting: AtomicUsize::new(0),
            hits: AtomicU64::new(0),
            opens: AtomicU64::new(0),
        })
    }

    /// Its template.
    #[must_use]
    pub const fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Leases a sandbox that is there, without waiting and without passing those who wait.
    pub async fn lease_now(&self) -> Option<Leased> {
        let asked = Instant::now();
        if self.stock.is_empty() {
            return None;
        }
        let object = self.inner.timeout_get(&deadlines(Duration::ZERO)).await.ok()?;
        self.opens.fetch_add(1, Ordering::Relaxed);
        self.hits.fetch_add(1, Ordering::Relaxed);
        Some(Leased { lease: Lease::new(object), warm: true, wait: asked.elapsed() })
    }

    /// Leases one sandbox, waiting up to `patience` for it (the configured time if none is given, which is also the longest).
    /// Dropping the future at any await leaves nothing behind.
    ///
    /// # Errors
    /// [`LeaseError`] says which limit was met or why sandboxes don't start.
    pub async fn lease(&self, patience: Option<Duration>) -> Result<Leased, LeaseError> {
        let patience = patience.map_or(self.settings.queue_timeout, |asked| asked.min(self.settings.queue_timeout));
        let asked = Instant::now();
        self.opens.fetch_add(1, Ordering::Relaxed);
        let _place = self.queue_up()?;
        // deadpool's two deadlines follow one another; ours is over both.
        let object = match tokio::time::timeout(patience, self.inner.timeout_get(&deadlines(patience))).await {
            Ok(Ok(object)) => object,
            Ok(Err(PoolError::Backend(error))) => return Err(error),
            Ok(Err(PoolError::Closed)) => return Err(LeaseError::Closed),
            Err(_) | Ok(Err(PoolError::Timeout(TimeoutType::Wait | TimeoutType::Create | TimeoutType::Recycle))) => {
                // The caller waited for a start that keeps failing: that is the truth, not "all are taken".
                let exhausted = LeaseError::Exhausted { waited: asked.elapsed() };
                return Err(self.stock.failures().present().map_or(exhausted, LeaseError::Failing));
            }
            Ok(Err(error @ (PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_)))) => {
                unreachable!("a runtime is given and no hooks are: {error}")
            }
        };
        Ok(Leased { lease: Lease::new(object), warm: false, wait: asked.elapsed() })
    }

    /// The figures of this moment.
    #[must_use]
    pub fn figures(&self) -> PoolFigures {
        PoolFigures {
            counts: self.census.counts(&self.recipe.name),
            waiting: self.waiting.load(Ordering::Relaxed),
            target: self.target,
            cap: self.settings.cap,
            hits: self.hits.load(Ordering::Relaxed),
            opens: self.opens.load(Ordering::Relaxed),
            failures: self.stock.failures().last(),
            failing: self.stock.failures().present(),
            full: full(self.census.all(), self.settings.cap),
        }
    }

    /// The template's name.
    #[must_use]
    pub const fn name(&self) -> &TemplateName {
        &self.recipe.name
    }

    /// Ends all waiting and hands the stock to the reaper.
    pub fn close(&self) {
        self.inner.close();
        self.stock.close();
    }

    fn queue_up(&self) -> Result<Waiting<'_>, LeaseError> {
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let place = Waiting(&self.waiting);
        if waiting >= self.settings.queue { Err(LeaseError::QueueFull { waiting }) } else { Ok(place) }
    }
}

const fn full(all: Counts, cap: usize) -> bool {
    all.total() - all.ready >= cap
}

const fn deadlines(patience: Duration) -> Timeouts {
    Timeouts { wait: Some(patience), create: Some(patience), recycle: None }
}
