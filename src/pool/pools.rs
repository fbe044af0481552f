//! All pools of a server: one per template of the settings, changed when the settings are read again.
//!
//! A template that is new gets a pool; one that changed has its stock replaced, a fresh sandbox for each stale one; one that is gone gives up its
//! stock, serves its leases to their end and is forgotten. Leases are never touched.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::info;

use super::{Pool, health, sweep, warmer, watch};
use crate::{
    config,
    ids::{SlotId, TemplateName},
    runtime::Runtime,
    sandbox::{
        census::{Capacity, Census, Record, SandboxState},
        lifecycle::{Foundling, Recipe, Starter},
        slot::Ready,
    },
    telemetry::{Metrics, labels::Discard},
};

/// What all pools are made from.
pub struct PoolsParts {
    /// One per template.
    pub recipes: Vec<Recipe>,
    /// Warm sandboxes that a former run left, with what their slots say: they go back into stock.
    pub former: Vec<(Foundling, Ready)>,
    /// Sizes and times.
    pub settings: config::Pool,
    /// Who is there, and how much room.
    pub census: Arc<Census>,
    /// Makes sandboxes.
    pub starter: Arc<Starter>,
    /// The engine, for sweeps, events and figures.
    pub runtime: Arc<dyn Runtime>,
    /// Starts at the same time, of all pools.
    pub start_limit: usize,
    /// Instruments.
    pub metrics: Metrics,
}

/// All pools, and the tasks that keep them.
pub struct Pools {
    /// For a look-up or a change, never across an await.
    pools: RwLock<BTreeMap<TemplateName, Arc<Pool>>>,
    pub(super) census: Arc<Census>,
    pub(super) starter: Arc<Starter>,
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) start_limit: usize,
    /// As they were at the start: for pools of templates that are gone already.
    settings: config::Pool,
    metrics: Metrics,
    turns: AtomicU64,
    /// A line or two at a time.
    unwanted: Mutex<HashSet<SlotId>>,
    tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

/// What became of new settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Templates that are new.
    pub added: Vec<TemplateName>,
    /// Templates whose stock is being replaced.
    pub changed: Vec<TemplateName>,
    /// Templates that are gone.
    pub removed: Vec<TemplateName>,
}

/// One sandbox, for operators.
#[derive(Debug, Clone)]
pub struct SandboxFigures {
    /// Its slot.
    pub slot: SlotId,
    /// What the census knows.
    pub record: Record,
    /// Whether it was made before its template changed, or waits for too long already.
    pub stale: bool,
}

impl Pools {
    /// Makes a pool for each recipe and starts what keeps them: warmer, health, sweep and watch. All of it ends with [`Pools::close`].
    #[must_use]
    pub fn start(parts: PoolsParts) -> Arc<Self> {
        let PoolsParts { recipes, former, settings, census, starter, runtime, start_limit, metrics } = parts;
        let start_limit = start_limit.max(1);
        let pool =
            |recipe: Recipe| (recipe.name.clone(), Pool::new(recipe, &settings, &census, start_limit, metrics.clone()));
        let pools = RwLock::new(recipes.into_iter().map(pool).collect());
        let (sweep_every, turns, unwanted) = (settings.sweep, AtomicU64::default(), Mutex::default());
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let pools = Arc::new(Self {
            pools,
            census,
            starter,
            runtime,
            start_limit,
            settings,
            metrics,
            turns,
            unwanted,
            tasks,
            stop,
        });
        // Before the warmer looks for the first time, or it would make others in their place.
        for (foundling, ready) in former {
            pools.adopt_stock(foundling, ready);
        }
        pools.tasks.spawn(warmer::run(Arc::clone(&pools)));
        pools.keep(health::run(Arc::clone(&pools)));
        pools.keep(sweep::run(Arc::clone(&pools), sweep_every));
        pools.keep(watch::run(Arc::clone(&pools)));
        pools
    }

    /// The pool of a template. One that is gone from the settings isn't found.
    #[must_use]
    pub fn get(&self, name: &TemplateName) -> Option<Arc<Pool>> {
        let pools = self.pools.read().unwrap_or_else(PoisonError::into_inner);
        pools.get(name).filter(|pool| !pool.is_removed()).cloned()
    }

    /// Every pool by name, also those whose template is gone while they have leases.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Pool>> {
        self.pools.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Every pool that serves, by name.
    #[must_use]
    pub fn serving(&self) -> Vec<Arc<Pool>> {
        self.all().into_iter().filter(|pool| !pool.is_removed()).collect()
    }

    /// Takes new settings.
    pub fn apply(&self, recipes: Vec<Recipe>, settings: &config::Pool, capacity: Capacity) -> Applied {
        self.census.set_capacity(capacity);
        let mut applied = Applied::default();
        let mut pools = self.pools.write().unwrap_or_else(PoisonError::into_inner);
        for (name, pool) in &*pools {
            if !pool.is_removed() && !recipes.iter().any(|recipe| recipe.name == *name) {
                pool.remove();
                applied.removed.push(name.clone());
            }
        }
        for recipe in recipes {
            let name = recipe.name.clone();
            match pools.get(&name) {
                Some(pool) => {
                    let back = pool.is_removed();
                    let changed = pool.change(recipe, settings);
                    if back {
                        applied.added.push(name);
                    } else if changed {
                        applied.changed.push(name);
                    }
                }
                None => {
                    pools.insert(
                        name.clone(),
                        Pool::new(recipe, settings, &self.census, self.start_limit, self.metrics.clone()),
                    );
                    applied.added.push(name);
                }
            }
        }
        drop(pools);
        self.census.tell();
        applied
    }

    /// Every sandbox there is.
    #[must_use]
    pub fn sandboxes(&self) -> Vec<SandboxFigures> {
        let pools = self.all();
        let generations: BTreeMap<_, _> =
            pools.iter().map(|pool| (pool.name().clone(), pool.control().generation)).collect();
        let now = Instant::now();
        let old = |pool: &Arc<Pool>| pool.stock.stale(generations[pool.name()], now);
        let old: HashSet<SlotId> = pools.iter().flat_map(old).collect();
        let figures = |(slot, record): (SlotId, Record)| {
            let stale = old.contains(&slot) || generations.get(&record.template) != Some(&record.generation);
            SandboxFigures { slot, record, stale }
        };
        let mut all: Vec<_> = self.census.records().into_iter().map(figures).collect();
        all.sort_by_key(|one| one.record.since);
        all
    }

    /// Destroys one sandbox, whatever it is doing; a session in it ends as `sandbox_lost`, and one that starts never becomes ready. False if
    /// there is none of this id.
    pub fn destroy(&self, slot: &SlotId) -> bool {
        let Some(record) = self.census.record(slot) else { return false };
        info!(%slot, template = %record.template, "an operator destroys a sandbox");
        if record.state == SandboxState::Starting {
            self.unwanted.lock().unwrap_or_else(PoisonError::into_inner).insert(slot.clone());
            self.census.tell();
        }
        // After the note: what became ready in between is in stock now.
        self.end(slot, &record, Discard::Operator, "an operator destroyed the sandbox");
        true
    }

    /// Starts that an operator doesn't want any more, each told once.
    pub(super) fn unwanted(&self) -> HashSet<SlotId> {
        std::mem::take(&mut *self.unwanted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a sandbox out of stock, if it waits there. One that was leased meanwhile is its user's.
    pub(super) fn discard(&self, slot: &SlotId, kind: Discard, why: &str) -> bool {
        self.all().iter().any(|pool| pool.stock.discard(slot, kind, why))
    }

    /// Ends a sandbox that waits or is leased; `why` is public.
    pub(super) fn end(&self, slot: &SlotId, record: &Record, kind: Discard, why: &str) {
        if !self.discard(slot, kind, why)
            && let Some(condemner) = &record.condemner
        {
            condemner.condemn(why);
        }
    }

    /// Ends all that keeps the pools: from here on nothing is started, swept or retired. What is in stock is still leased, and what was leased by
    /// a former run can still be taken up.
    pub async fn halt(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Ends all waiting, all starting, and all that keeps the pools; hands all stock to the reaper. When it returns nothing is started any more,
    /// so that what the reaper has then is all there is.
    pub async fn close(&self) {
        self.halt().await;
        for pool in self.all() {
            pool.close();
        }
    }

    pub(super) fn next_turn(&self) -> u64 {
        self.turns.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Forgets pools without a template once nothing is left of them.
    pub(super) fn forget_removed(&self) {
        let gone = |pool: &Arc<Pool>| pool.is_removed() && self.census.counts(pool.name()).total() == 0;
        if self.all().iter().any(gone) {
            self.pools.write().unwrap_or_else(PoisonError::into_inner).retain(|_, pool| !gone(pool));
        }
    }

    /// The pool that sandboxes of this recipe belong to. One whose template isn't in the settings is made as one that is gone.
    pub(super) fn pool_of(&self, recipe: &Recipe) -> Arc<Pool> {
        let mut pools = self.pools.write().unwrap_or_else(PoisonError::into_inner);
        let made = || {
            let pool = Pool::new(recipe.clone(), &self.settings, &self.census, self.start_limit, self.metrics.clone());
            pool.remove();
            pool
        };
        Arc::clone(pools.entry(recipe.name.clone()).or_insert_with(made))
    }

    pub(super) fn keep(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = task => {}
                () = stop.cancelled() => {}
            }
        });
    }
}
