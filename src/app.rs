//! The composition root: builds every room, starts them in order, stops them in order.
//!
//! Start: folders, lock and store → engine answers → what a former run left is taken up or cleared → one throw-away sandbox proves engine, mounts
//! and link → pools and sessions → doors. A step that fails ends the start with a sentence that names the remedy, and leaves what it would have
//! taken up; nothing is served on assumptions.
//! Stop: no new work, who waits is told → sessions end (`shutdown`) and stock is destroyed, or both are left running for the next run ([`Stop`]) →
//! doors drain → the store is closed → what was to go is gone → telemetry is flushed by the caller. Each under a deadline.

mod capacity;
mod descriptors;
mod engine;
mod house;
mod leftovers;
mod operators;
mod program;
mod reload;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use secrecy::SecretString;
use tokio::{net::TcpListener, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

pub use engine::{Engine, Proven};
pub use house::StartError;
use leftovers::Former;
use reload::Reload;
pub use reload::ReloadError;

use crate::{
    config::{Budget, Changes, Config, Reloader, RuntimeChoice, Server},
    credentials::Credentials,
    doors,
    gateway::{Budgets, ModelKey},
    identity::Authenticator,
    ids::UserId,
    limits::Limits,
    pool::{Pools, PoolsParts},
    sandbox::census::Counts,
    service::{self, Left, Service},
    store::AnyStore,
    telemetry::{Audit, Metrics},
};

/// How long each step of a stop may take: the end of all sessions, the end of all sandboxes.
const STOP_DEADLINE: Duration = Duration::from_secs(20);

/// How a server stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Sessions and warm agents are left running, as they are: the next run of the server takes them up. Who doesn't come back within
    /// `sandbox.orphan_grace` loses them.
    HandOver,
    /// Everything ends.
    Drain,
}

impl Stop {
    const fn as_str(self) -> &'static str {
        match self {
            Self::HandOver => "hand_over",
            Self::Drain => "drain",
        }
    }
}

/// How long a stop waits for what is still to be written down.
const STORE_PATIENCE: Duration = Duration::from_secs(5);

/// What the command line adds to the settings.
#[derive(Debug, Default)]
pub struct Extras {
    /// A token for this run only.
    pub dev_token: Option<(UserId, SecretString)>,
    /// Where settings are read again. None: they can't be, as in a program that embeds the server.
    pub settings: Option<Reloader>,
}

/// Where the app listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// For users.
    pub server: SocketAddr,
    /// For operators.
    pub admin: SocketAddr,
}

/// A server that is built and has its addresses, but serves nobody yet.
pub struct App {
    config: Arc<Config>,
    engine: Engine,
    store: AnyStore,
    service: Arc<Service>,
    credentials: Credentials,
    pools: Arc<Pools>,
    authenticator: Arc<Authenticator>,
    limits: Arc<Limits>,
    audit: Audit,
    addresses: Addresses,
    /// For users and for operators; taken when serving begins.
    listeners: Mutex<Option<(TcpListener, TcpListener)>>,
    /// Ends housekeeping.
    background: CancellationToken,
    reload: Arc<Reload>,
}

impl App {
    /// Builds everything up to the doors; the pools begin to fill.
    ///
    /// # Errors
    /// A sentence with its remedy.
    pub async fn build(mut config: Config, metrics: Metrics, extras: Extras) -> Result<Self, StartError> {
        config.server.connections = descriptors::make_room(config.pool.cap, config.server.connections);
        let authenticator = Arc::new(authenticator(&config, extras.dev_token)?);
        let credentials = Credentials::open(&config.credentials, &config.state).map_err(StartError::Credentials)?;
        let users = listen(config.server.address, "server.address").await?;
        let operators = listen(config.admin.address, "admin.address").await?;
        let limits = Arc::new(Limits::new(&config).map_err(|error| StartError::Setting(error.to_string()))?);

        if config.runtime.kind == RuntimeChoice::Process {
            warn!("RUNTIME `process`: SANDBOXES ARE PLAIN PROCESSES WITHOUT ANY ISOLATION; for development only");
        }
        let engine = Engine::open(&config, &metrics)?;
        let audit = open_audit(&config, &engine, &metrics)?;
        let facts = engine.facts(&config).await?;
        info!(engine = %facts.version, instance = %engine.house.instance, "engine found");
        let store = engine.store(&config)?;
        let stored = store.sessions().await.map_err(StartError::Store)?;
        let recipes = engine::identified(&*engine.runtime, engine.recipes.clone()).await;
        let former = engine.former(&config, &recipes, &stored).await?;
        let mut former = prove(&engine, former).await?;

        capacity::tell(engine.census.capacity());
        capacity::warn_of_too_little(&config, engine.census.capacity());
        if !config.admin.address.ip().is_loopback() {
            warn!(address = %config.admin.address, "the operators' calls are open to everybody who reaches admin.address: they need no token");
        }
        let background = CancellationToken::new();
        let pools = Pools::start(PoolsParts {
            recipes,
            former: former.warm,
            settings: config.pool.clone(),
            census: Arc::clone(&engine.census),
            starter: Arc::clone(&engine.starter),
            runtime: Arc::clone(&engine.runtime),
            start_limit: config.runtime.start_limit,
            metrics: metrics.clone(),
        });
        let budgets = Budgets::new(&config.budget, &budgets_of_tiers(&config));
        let service = Arc::new(Service::new(service::Parts {
            pools: Arc::clone(&pools),
            workspaces: Arc::clone(&engine.workspaces),
            identity: Arc::clone(&authenticator),
            limits: Arc::clone(&limits),
            budgets: budgets.clone(),
            store: Arc::clone(&store),
            runtime: Arc::clone(&engine.runtime),
            session: config.session.clone(),
            model_key: config.model.api_key.clone().map(|key| ModelKey(Arc::new(key))),
            credentials: credentials.clone(),
            key_refresh: config.credentials.refresh,
            key_outage: config.credentials.outage,
            state_dir: engine.house.dir.clone(),
            metrics,
            audit: audit.clone(),
        }));
        let left = stored.into_iter().map(|stored| {
            let foundling = leftovers::slot_of(&stored).and_then(|slot| former.leased.remove(&slot));
            Left { stored, sandbox: foundling.map(|foundling| pools.pending(foundling)) }
        });
        service.recover(left.collect()).await;
        let taken = |listener: &TcpListener, asked| listener.local_addr().unwrap_or(asked);
        let addresses =
            Addresses { server: taken(&users, config.server.address), admin: taken(&operators, config.admin.address) };
        let listeners = Mutex::new(Some((users, operators)));
        let config = Arc::new(config);
        let reload = Arc::new(Reload {
            source: tokio::sync::Mutex::new(extras.settings),
            config: Arc::clone(&config),
            authenticator: Arc::clone(&authenticator),
            pools: Arc::clone(&pools),
            runtime: Arc::clone(&engine.runtime),
            metrics: engine.metrics.clone(),
            budgets,
            machine_bytes: facts.memory_bytes,
        });
        Ok(Self {
            config,
            engine,
            store,
            service,
            credentials,
            pools,
            authenticator,
            limits,
            audit,
            addresses,
            listeners,
            background,
            reload,
        })
    }

    /// Where it listens: with the ports that were really taken.
    #[must_use]
    pub const fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Waits for the first warm sandbox of any pool.
    pub async fn wait_warm(&self) {
        let mut changes = self.engine.census.subscribe();
        while self.engine.census.all().ready == 0 {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// The use cases, for programs that embed the server.
    #[must_use]
    pub const fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Reads the settings again, applies what can be applied at once, and says what is different.
    ///
    /// # Errors
    /// [`ReloadError`]; nothing is applied.
    pub async fn reload(&self) -> Result<Changes, ReloadError> {
        let outcome = self.reload.reload().await;
        self.audit.reloaded(outcome.as_ref().map(|_| ()).map_err(ReloadError::code));
        outcome
    }

    /// Serves until `stop` says how to end, then stops in order. Serves once.
    ///
    /// # Errors
    /// It has served already.
    pub async fn run(&self, stop: impl Future<Output = Stop>) -> Result<(), StartError> {
        let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (users, operators) = listeners.ok_or_else(|| StartError::Setting("an app serves once".to_owned()))?;
        let doors_stop = CancellationToken::new();
        let settings = &self.config.server;
        let metrics = &self.engine.metrics;
        let user_door = doors::rest::app(
            Arc::clone(&self.service),
            Arc::clone(&self.authenticator),
            Arc::clone(&self.config),
            metrics.clone(),
        );
        let operator_door = doors::admin::app(self.operators(), Arc::clone(&self.config), metrics.clone());
        let serving = TaskTracker::new();
        serving.spawn(doors::serve(users, user_door, settings.clone(), doors_stop.clone()));
        let few = Server { connections: settings.connections.min(descriptors::OPERATORS), ..settings.clone() };
        serving.spawn(doors::serve(operators, operator_door, few, doors_stop.clone()));
        serving.spawn(Arc::clone(&self.authenticator).keep_house(self.background.child_token()));
        serving.spawn(Arc::clone(&self.limits).keep_house(self.background.child_token()));
        serving.spawn(self.credentials.clone().keep_house(self.background.child_token()));
        serving.spawn(Arc::clone(&self.service).keep_credentials(self.background.child_token()));
        serving.spawn(Arc::clone(&self.service).watch_room(self.background.child_token()));
        serving.spawn(Arc::clone(&self.engine.workspaces).keep_house(self.background.child_token()));
        serving.close();
        self.audit.server_started();
        info!(address = %self.addresses.server, admin = %self.addresses.admin, "listening");

        let stop = match stop.await {
            Stop::HandOver if !self.engine.runtime.kind().outlives_the_server() => {
                info!("nobody can take up plain processes: all sessions end");
                Stop::Drain
            }
            stop => stop,
        };
        info!(?stop, "stopping: no new work is taken");
        self.audit.server_stopping(stop.as_str());
        self.service.stop_taking();
        self.background.cancel();
        match stop {
            Stop::HandOver => self.hand_over().await,
            Stop::Drain => {
                self.pools.close().await;
                until_stopped(self.service.end_sessions()).await;
            }
        }
        doors_stop.cancel();
        serving.wait().await;
        self.store.close(STORE_PATIENCE).await;
        self.engine.close().await;
        self.audit.settle(STORE_PATIENCE).await;
        info!("stopped");
        Ok(())
    }

    /// Lets go of sessions and stock without ending them. Sessions first: one that is being taken up needs its pool for that.
    async fn hand_over(&self) {
        let Counts { leased, ready, .. } = self.engine.census.all();
        info!(leased, ready, "sandboxes are left to the next run of the server");
        self.engine.leave_what_lasts();
        self.pools.halt().await;
        until_stopped(self.service.hand_over()).await;
        self.pools.close().await;
    }
}

/// The caller goes on when the deadline has passed.
async fn until_stopped(sessions: impl Future<Output = ()>) {
    if timeout(STOP_DEADLINE, sessions).await.is_err() {
        warn!("not all sessions came to a stop in time");
    }
}

/// Who did what: as soon as the state folder is ours, and before anything happens in it.
fn open_audit(config: &Config, engine: &Engine, metrics: &Metrics) -> Result<Audit, StartError> {
    let state = &engine.house.dir;
    let path = || config.audit.path(state).unwrap_or_default();
    Audit::open(&config.audit, state, metrics.clone()).map_err(|source| StartError::Audit { path: path(), source })
}

/// Who may come in.
fn authenticator(config: &Config, dev_token: Option<(UserId, SecretString)>) -> Result<Authenticator, StartError> {
    let mut authenticator = Authenticator::load(&config.auth, &config.state).map_err(StartError::Auth)?;
    if let Some((user, token)) = dev_token {
        authenticator = authenticator.with_token(user, &token);
    }
    if authenticator.is_empty() && !config.server.address.ip().is_loopback() {
        return Err(StartError::Setting(format!(
            "server.address {}: without any token or issuer only a loopback address is served; make a token with `greenroom keys create`",
            config.server.address
        )));
    }
    Ok(authenticator)
}

/// Proves engine, mounts and link, unless what is taken up leaves no room for that: then those do, by their supervisors' calls.
async fn prove(engine: &Engine, former: Former) -> Result<Former, StartError> {
    if former.count() > 0 && !engine.has_room_to_prove() {
        info!("no throw-away sandbox: those of the former run leave no room for it");
        return Ok(former);
    }
    if let Err(error) = engine.prove().await.and_then(|proven| proven.judge()) {
        // Who repairs it soon enough still finds them.
        engine.leave_what_lasts();
        drop(former);
        engine.close().await;
        return Err(error);
    }
    info!("one throw-away sandbox proved engine, mounts and link");
    Ok(former)
}

/// Each tier's budget, by the tier's name.
fn budgets_of_tiers(config: &Config) -> BTreeMap<String, Budget> {
    config.tiers.iter().map(|(name, tier)| (name.clone(), tier.budget.clone())).collect()
}

async fn listen(address: SocketAddr, setting: &'static str) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { setting, address, source })
}
