//! One server's worth of pools on the fake engine.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use futures_util::future::join_all;
use greenroom::{
    config,
    gateway::Gateway,
    ids::{Epoch, SlotId, TemplateName, UserId},
    pool::{Applied, LeaseError, Leased, PendingAdoption, Pool, Pools, PoolsParts, Refusal, sweep},
    runtime::{Runtime, RuntimeError},
    sandbox::{
        census::{Admission, Capacity, Census, Counts, Generation},
        lifecycle::{Foundling, Reaper, Recipe, Starter, start::StarterParts},
        slot::{Owner, Ready, Slot, Slots},
    },
    telemetry::Metrics,
};
use tempfile::TempDir;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    engine::{BOOT_TIMEOUT, Engine, FakeRuntime, LINK_TIMEOUT, RELINK_TIMEOUT},
    users::user,
    wait::{until, within},
};

/// The templates a house may have.
pub const TEMPLATES: [&str; 2] = ["one", "two"];
/// What each sandbox may use, in MiB.
pub const MEMORY_MIB: u64 = 100;

/// A server's pools, and the engine under them.
pub struct House {
    pub engine: Arc<Engine>,
    pub census: Arc<Census>,
    pub pools: Arc<Pools>,
    pub plan: Plan,
    state: TempDir,
    slots: Slots,
    reaper: Reaper,
    tasks: TaskTracker,
    /// Ends the reaper, when it has nothing left to do.
    reaper_stop: CancellationToken,
    /// Slots that were leased. A few lines at a time, never across an await.
    ledger: Mutex<HashSet<SlotId>>,
}

/// What a former server left.
#[derive(Default)]
struct Former {
    warm: Vec<(Foundling, Ready)>,
    leased: Vec<Foundling>,
}

/// What is there before the pools.
struct Ground<'a> {
    census: &'a Arc<Census>,
    starter: &'a Starter,
    tasks: &'a TaskTracker,
}

/// How the house is furnished.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub cap: usize,
    /// Templates, the first of [`TEMPLATES`].
    pub templates: usize,
    /// Warm sandboxes of each template.
    pub warm: usize,
    pub start_limit: usize,
    pub queue: usize,
    /// Room by memory, in sandboxes, if it is less than `cap`.
    pub memory: usize,
    /// Between two full sweeps. Usually tests sweep when they mean to.
    pub sweep: Duration,
    /// The oldest that stock gets.
    pub warm_age: Duration,
    /// The pause after a start that failed.
    pub backoff: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            cap: 2,
            templates: 1,
            warm: 1,
            start_limit: 2,
            queue: 1000,
            memory: usize::MAX,
            sweep: Duration::from_secs(3600),
            warm_age: Duration::from_secs(3600),
            backoff: Duration::from_millis(2),
        }
    }
}

impl Plan {
    fn settings(&self, cap: usize) -> config::Pool {
        config::Pool {
            cap,
            queue: self.queue,
            queue_timeout: Duration::from_secs(120),
            backoff: self.backoff,
            backoff_max: self.backoff * 10,
            sweep: self.sweep,
            warm_age: self.warm_age,
            ..config::Pool::default()
        }
    }

    /// Room for this many of our sandboxes, by number and by memory alike.
    fn capacity(&self, sandboxes: usize) -> Capacity {
        Capacity { sandboxes, memory_mib: sandboxes.min(self.memory) as u64 * MEMORY_MIB }
    }

    fn recipe(&self, template: usize, image: &str, tasks: &TaskTracker) -> Recipe {
        self.recipe_of(name(template), image, tasks)
    }

    fn recipe_of(&self, name: TemplateName, image: &str, tasks: &TaskTracker) -> Recipe {
        let limits = greenroom::sandbox::spec::Limits { memory_mib: MEMORY_MIB, ..Default::default() };
        let (min_warm, max_warm) = (Some(self.warm), Some(self.warm));
        let settings =
            config::Template { image: image.to_owned(), min_warm, max_warm, limits, ..config::Template::default() };
        Recipe::compile(name, settings, None, tasks, &metrics()).expect("a good template")
    }
}

impl House {
    pub fn new(plan: Plan) -> Self {
        Self::on(plan, Engine::new(), tempfile::tempdir().expect("a temporary folder"), |_| Former::default()).0
    }

    /// Ends the server as a stop that hands over does, and starts the next one on what it leaves. What is
    /// held is let go of in between; what was leased is given back.
    pub async fn restart(self, plan: Plan, let_go: impl FnOnce()) -> (Self, Vec<PendingAdoption>) {
        self.reaper.leave_what_lasts();
        self.pools.close().await;
        let_go();
        within("nobody holds a sandbox", self.reaper.drained()).await;
        self.reaper_stop.cancel();
        assert_eq!(self.counts(), Counts::default());
        let list = FakeRuntime(Arc::clone(&self.engine)).list().await.expect("it has a list");
        let slots = self.slots();
        let Self { engine, state, ledger, .. } = self;
        let (house, leased) = Self::on(plan, engine, state, |house| {
            let mut former = Former::default();
            for slot in slots {
                let Some(ready) = slot.ready() else { continue };
                let found = list.iter().find(|found| found.slot == *slot.id()).expect("its container was left");
                let recipe = plan.recipe_of(ready.template.clone(), &ready.settings.image, house.tasks);
                let generation = Generation::default();
                let admission = Admission {
                    slot: slot.id().clone(),
                    template: recipe.name.clone(),
                    generation,
                    memory_mib: MEMORY_MIB,
                };
                let entry = house.census.admit_found(admission, ready.age());
                let used = slot.was_leased();
                let foundling = house.starter.find(recipe, slot, found.container.clone(), entry);
                if used {
                    former.leased.push(foundling);
                } else {
                    former.warm.push((foundling, ready));
                }
            }
            former
        });
        *house.ledger.lock().expect("no panic under it") = ledger.into_inner().expect("no panic under it");
        let pending = leased.into_iter().map(|foundling| house.pools.pending(foundling)).collect();
        (house, pending)
    }

    fn on(
        plan: Plan,
        engine: Arc<Engine>,
        state: TempDir,
        former: impl FnOnce(&Ground<'_>) -> Former,
    ) -> (Self, Vec<Foundling>) {
        let runtime: Arc<dyn Runtime> = Arc::new(FakeRuntime(Arc::clone(&engine)));
        let slots = Slots::open(state.path(), Owner::own()).expect("slots");
        let (reaper_stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let reaper = Reaper::spawn(Arc::clone(&runtime), reaper_stop.clone());
        let census = Census::new(plan.capacity(plan.cap));
        let sandbox = config::Sandbox {
            link_timeout: LINK_TIMEOUT,
            relink_timeout: RELINK_TIMEOUT,
            boot_timeout: BOOT_TIMEOUT,
            ..config::Sandbox::default()
        };
        let starter = Arc::new(Starter::new(StarterParts {
            runtime: Arc::clone(&runtime),
            gateway: gateway(),
            slots: slots.clone(),
            epoch: Epoch::random(),
            supervisor: "/nowhere/supervisor".into(),
            settings: sandbox,
            reaper: reaper.clone(),
            metrics: metrics(),
        }));
        let Former { warm, leased } = former(&Ground { census: &census, starter: &starter, tasks: &tasks });
        let pools = Pools::start(PoolsParts {
            recipes: (0..plan.templates).map(|template| plan.recipe(template, "image-0", &tasks)).collect(),
            former: warm,
            settings: plan.settings(plan.cap),
            census: Arc::clone(&census),
            starter,
            runtime,
            start_limit: plan.start_limit,
            metrics: metrics(),
        });
        let ledger = Mutex::default();
        (Self { engine, census, pools, plan, state, slots, reaper, tasks, reaper_stop, ledger }, leased)
    }

    /// Takes new settings: these templates with these images, and this much room.
    pub fn apply(&self, images: &[(usize, String)], cap: usize) -> Applied {
        let recipes = images.iter().map(|(template, image)| self.plan.recipe(*template, image, &self.tasks)).collect();
        self.pools.apply(recipes, &self.plan.settings(cap), self.plan.capacity(cap))
    }

    /// The pool of a template that serves.
    pub fn pool(&self, template: usize) -> Option<Arc<Pool>> {
        self.pools.get(&name(template))
    }

    /// All sandboxes by state.
    pub fn counts(&self) -> Counts {
        self.census.all()
    }

    /// Leases a sandbox of the first template. Panics when it was leased before.
    pub async fn lease(&self, user: &UserId) -> Result<Leased, LeaseError> {
        self.lease_of(0, user, None).await
    }

    /// The same with a deadline.
    pub async fn lease_within(&self, user: &UserId, patience: Duration) -> Result<Leased, LeaseError> {
        self.lease_of(0, user, Some(patience)).await
    }

    /// The same of any template. One that is gone refuses like one that is drained.
    pub async fn lease_of(
        &self,
        template: usize,
        user: &UserId,
        patience: Option<Duration>,
    ) -> Result<Leased, LeaseError> {
        let pool = self.pool(template).ok_or(LeaseError::Refused(Refusal::Draining))?;
        pool.lease(user, patience).await.inspect(|leased| self.enter(leased))
    }

    /// Leases a sandbox that is there.
    pub async fn lease_now(&self, user: &UserId) -> Option<Leased> {
        let pool = self.pool(0).expect("it serves");
        pool.lease_now(user).await.expect("it can be written down").inspect(|leased| self.enter(leased))
    }

    /// Whether a sandbox was leased.
    pub fn was_leased(&self, slot: &SlotId) -> bool {
        self.ledger.lock().expect("no panic under it").contains(slot)
    }

    /// Callers that wait for the first template.
    pub fn waiting(&self) -> usize {
        self.pool(0).expect("it serves").figures().waiting
    }

    /// Compares the engine's list with the census, as happens every few seconds.
    pub async fn sweep(&self) -> Result<sweep::Swept, RuntimeError> {
        sweep::unknown(&FakeRuntime(Arc::clone(&self.engine)), &self.census).await
    }

    /// Containers of ours that nobody knows.
    pub fn strangers(&self) -> Vec<SlotId> {
        let unknown: Vec<SlotId> =
            self.engine.ours().into_iter().filter(|slot| self.census.record(slot).is_none()).collect();
        // One that was just destroyed may have gone between the two looks.
        let still = self.engine.ours();
        unknown.into_iter().filter(|slot| still.contains(slot)).collect()
    }

    /// The folders of all slots there are.
    pub fn slots(&self) -> Vec<Slot> {
        self.slots.list().expect("listed")
    }

    /// Waits until this many are ready.
    pub async fn ready(&self, count: usize) {
        until(&format!("{count} ready"), || self.counts().ready == count).await;
    }

    /// Asks until it is served, as users do: a start that fails, be it for want of a processor, is no reason to give up.
    pub async fn insist(&self, user: &UserId) -> Leased {
        within("somebody is served", async {
            loop {
                match self.lease(user).await {
                    Ok(leased) => return leased,
                    Err(LeaseError::Failing(_)) => tokio::time::sleep(Duration::from_millis(5)).await,
                    Err(other) => panic!("{other}"),
                }
            }
        })
        .await
    }

    /// Shows that as many sandboxes can be leased at the same time as there may be.
    pub async fn all_permits_are_there(&self) {
        let user = user(99);
        let all = join_all((0..self.plan.cap).map(|_| self.insist(&user)));
        assert_eq!(within("all permits at once", all).await.len(), self.plan.cap);
    }

    /// Gives the house back when all who shared it are done.
    pub fn unwrap(shared: Arc<Self>) -> Self {
        Arc::into_inner(shared).expect("nobody else is in the house")
    }

    /// Ends the pools and sees that nothing is left. Leases have to be dropped before.
    pub async fn finish(self) {
        self.pools.close().await;
        self.engine.heal();
        within("everything is destroyed", self.reaper.drained()).await;
        self.reaper_stop.cancel();
        self.tasks.close();
        within("no agent's task is left", self.tasks.wait()).await;
        until("the census is empty", || self.counts() == Counts::default()).await;
        assert_eq!(self.strangers(), [], "containers that nobody knows");
        assert!(self.slots().is_empty(), "a slot's folder is left in {:?}", self.state.path());
        let seen = self.engine.seen();
        assert_eq!((seen.trespasses, seen.overlaps), (Vec::new(), Vec::new()));
    }

    fn enter(&self, leased: &Leased) {
        let slot = leased.lease.slot().id();
        let first = self.ledger.lock().expect("no panic under it").insert(slot.clone());
        assert!(first, "{slot} was leased twice");
    }
}

fn name(template: usize) -> TemplateName {
    TemplateName::parse(TEMPLATES[template]).expect("a good name")
}

/// Reading the machine's certificates takes its time; once is enough.
fn gateway() -> Gateway {
    static GATEWAY: OnceLock<Gateway> = OnceLock::new();
    GATEWAY.get_or_init(|| Gateway::new(metrics()).expect("a gateway")).clone()
}

fn metrics() -> Metrics {
    static METRICS: OnceLock<Metrics> = OnceLock::new();
    METRICS.get_or_init(Metrics::new).clone()
}
