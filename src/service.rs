//! The use cases: what every door calls, and nothing else.
//!
//! A use case takes a caller who has proved who they are, checks their limits, does its work in a span, and answers with plain data or a
//! [`Problem`]. What belongs to somebody else can't be loaded: everything is found through its owner. No call holds a lock across an await, but
//! on purpose for readiness and while a user's default session is opened, and each may be dropped at any of them.

pub mod admission;
mod budgets;
mod change;
mod credentials;
pub mod files;
pub mod idempotency;
mod keys;
mod list;
mod open;
mod operate;
mod problems;
mod read;
mod readiness;
mod recover;
mod room;
mod settle;
mod terms;
pub mod tickets;
mod turns;
pub mod view;
pub mod workspaces;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio_util::task::TaskTracker;

pub use list::PAGE_MAX;
pub use read::{EventBatch, EventReader};
pub use recover::Left;

use crate::{
    config,
    credentials::Credentials,
    gateway::{Budgets, ModelKey},
    identity::{Authenticator, Caller, Tickets},
    ids::{SessionId, UserId},
    limits::{Allowance, Limits},
    pool::Pools,
    problem::{Code, Problem},
    runtime::Runtime,
    session::{Registry, SessionHandle, Stop, Surroundings},
    store::{AnyStore, Health},
    telemetry::{Audit, Metrics},
    workspace::Workspaces,
};

/// How long a look at a session waits for what is under way to be written down.
const LOOK_PATIENCE: Duration = Duration::from_secs(1);
/// How long an answer waits for the store before it is refused instead.
const STORE_PATIENCE: Duration = Duration::from_secs(5);

/// What the service works with.
pub struct Parts {
    /// One pool per template.
    pub pools: Arc<Pools>,
    /// Users' folders.
    pub workspaces: Arc<Workspaces>,
    /// Who may come in, for the keys.
    pub identity: Arc<Authenticator>,
    /// Paces and quotas.
    pub limits: Arc<Limits>,
    /// What model calls may cost.
    pub budgets: Budgets,
    /// What outlives the server.
    pub store: AnyStore,
    /// The engine, for readiness.
    pub runtime: Arc<dyn Runtime>,
    /// Times of sessions and turns.
    pub session: config::Session,
    /// The model API's key for callers who bring none.
    pub model_key: Option<ModelKey>,
    /// Where users have their keys for model APIs.
    pub credentials: Credentials,
    /// How often those in use are looked up again.
    pub key_refresh: Duration,
    /// How long they are used while they can't be looked up.
    pub key_outage: Duration,
    /// The state folder, for readiness.
    pub state_dir: std::path::PathBuf,
    /// Instruments.
    pub metrics: Metrics,
    /// Who did what.
    pub audit: Audit,
}

/// Every door calls this.
pub struct Service {
    pools: Arc<Pools>,
    workspaces: Arc<Workspaces>,
    identity: Arc<Authenticator>,
    limits: Arc<Limits>,
    budgets: Budgets,
    runtime: Arc<dyn Runtime>,
    store: AnyStore,
    settings: config::Session,
    model_key: Option<ModelKey>,
    credentials: Credentials,
    key_refresh: Duration,
    key_outage: Duration,
    state_dir: std::path::PathBuf,
    metrics: Metrics,
    /// What all sessions share: where they are found, and how they are ended.
    around: Surroundings,
    /// Each user's session for the simple door. The map is locked for a look-up, never across an await.
    default_sessions: Mutex<BTreeMap<UserId, Arc<turns::DefaultSession>>>,
    last_look: readiness::LastLook,
    desk: files::Desk,
    tickets: Tickets,
    scales: room::Scales,
    stopping: AtomicBool,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Service").finish_non_exhaustive()
    }
}

impl Service {
    /// Takes its parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts {
            pools,
            workspaces,
            identity,
            limits,
            budgets,
            store,
            runtime,
            session,
            model_key,
            credentials,
            key_refresh,
            key_outage,
            state_dir,
            metrics,
            audit,
        } = parts;
        let around = Surroundings {
            registry: Registry::new(session.keep_ended, Arc::clone(&store)),
            metrics: metrics.clone(),
            audit,
            tracker: TaskTracker::new(),
            stop: Stop::default(),
        };
        Self {
            pools,
            workspaces,
            identity,
            limits,
            budgets,
            runtime,
            store,
            around,
            settings: session,
            model_key,
            credentials,
            key_refresh,
            key_outage,
            state_dir,
            metrics,
            default_sessions: Mutex::default(),
            last_look: readiness::LastLook::default(),
            desk: files::Desk::default(),
            tickets: Tickets::default(),
            scales: room::Scales::default(),
            stopping: AtomicBool::new(false),
        }
    }

    /// The audit log, for the doors.
    #[must_use]
    pub const fn audit(&self) -> &Audit {
        &self.around.audit
    }

    /// Takes no new sessions and prompts from here on.
    pub fn stop_taking(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Ends every session and waits until each is over. The caller sets the deadline.
    pub async fn end_sessions(&self) {
        self.stop_taking();
        self.around.stop.end.cancel();
        self.around.tracker.close();
        self.around.tracker.wait().await;
    }

    /// Leaves every session as it is to the next server, and waits until no driver is left. The caller sets the deadline.
    pub async fn hand_over(&self) {
        self.stop_taking();
        self.around.stop.hand_over.cancel();
        self.around.tracker.close();
        self.around.tracker.wait().await;
    }

    fn check_serving(&self) -> Result<(), Problem> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(Problem::new(Code::ShuttingDown, "the server is shutting down; try again in a moment"));
        }
        Ok(())
    }

    /// Whether something new may begin.
    fn check_new_work(&self) -> Result<(), Problem> {
        self.check_serving()?;
        match &*self.store.health().borrow() {
            Health::Well => Ok(()),
            Health::Failing(_) => Err(problems::store_unavailable()),
        }
    }

    /// What was done for the caller must not be taken back by a crash: waits until it is written down.
    async fn settled(&self, session: &SessionHandle) -> Result<(), Problem> {
        session.log.settled(STORE_PATIENCE).await.map_err(Problem::from)
    }

    /// What the caller is about to see must not be taken back by a crash: waits a moment until it is written down. While the store fails the
    /// present is shown all the same: nobody can do anything with a session they can't even look at.
    async fn look_settled(&self, session: &SessionHandle) {
        let _shown_all_the_same = session.log.settled(LOOK_PATIENCE).await;
    }

    /// What the caller may.
    fn allowance(&self, caller: &Caller) -> &Allowance {
        self.limits.of(caller.tier.as_ref())
    }

    fn find(&self, caller: &Caller, id: &SessionId) -> Result<Arc<SessionHandle>, Problem> {
        let session = self.around.registry.find(caller.reach(), id).ok_or_else(Problem::not_found)?;
        self.trace(caller, &session);
        Ok(session)
    }

    /// For the audit log: this is the session the call is about.
    fn trace(&self, caller: &Caller, session: &SessionHandle) {
        let identity = &session.identity;
        caller.trail().session(&identity.user, &session.id, &identity.template, &identity.workspace);
    }
}
