//! Everything below the doors: enough to make sandboxes and to prove that they are what we ask for.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

use super::{
    STOP_DEADLINE, capacity,
    house::{House, StartError},
    program,
};
use crate::{
    config::{Config, RuntimeChoice, Template},
    gateway::Gateway,
    ids::{Epoch, SlotId, TemplateName},
    runtime::{EngineFacts, Runtime, docker::Docker, process::Process},
    sandbox::{
        census::{Admission, Capacity, Census, Generation},
        lifecycle::{Reaper, Recipe, Starter, prove::Proof, start::StarterParts},
        slot::Slots,
        verdict::{self, Expectations, Row},
    },
    store::{
        AnyStore,
        sqlite::{self, Sqlite},
    },
    telemetry::Metrics,
    workspace::Workspaces,
};

/// Everything below the doors: enough to make sandboxes.
pub struct Engine {
    /// The runtime.
    pub runtime: Arc<dyn Runtime>,
    pub(super) starter: Arc<Starter>,
    pub(super) recipes: Vec<Recipe>,
    pub(super) census: Arc<Census>,
    pub(super) slots: Slots,
    reaper: Reaper,
    pub(super) workspaces: Arc<Workspaces>,
    pub(super) house: House,
    /// Ends the reaper.
    reaper_stop: CancellationToken,
    pub(super) metrics: Metrics,
}

impl Engine {
    /// Opens the state folder and the runtime. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// A sentence with its remedy.
    pub fn open(config: &Config, metrics: &Metrics) -> Result<Self, StartError> {
        let house = House::open(config)?;
        let runtime: Arc<dyn Runtime> = match config.runtime.kind {
            RuntimeChoice::Docker => {
                Arc::new(Docker::connect(&config.runtime, house.instance.clone()).map_err(StartError::Runtime)?)
            }
            RuntimeChoice::Process => Arc::new(Process::new()),
        };
        let static_needed = config.runtime.kind == RuntimeChoice::Docker;
        let supervisor = program::install(config.sandbox.supervisor.as_deref(), &house.dir, static_needed)?;
        let reaper_stop = CancellationToken::new();
        let reaper = Reaper::spawn(Arc::clone(&runtime), reaper_stop.clone());
        let slots = Slots::open(&house.dir, runtime.owner()).map_err(|source| house.fault("slots", source))?;
        let workspaces = Workspaces::open(&house.dir).map_err(|source| house.fault("workspaces", source))?;
        let recipes = compile(config, metrics)?;
        let starter = Arc::new(Starter::new(StarterParts {
            runtime: Arc::clone(&runtime),
            gateway: Gateway::new(metrics.clone()).map_err(StartError::Gateway)?.with_names(&config.egress),
            slots: slots.clone(),
            epoch: Epoch::random(),
            supervisor,
            settings: config.sandbox.clone(),
            reaper: reaper.clone(),
            metrics: metrics.clone(),
        }));
        // How much memory there is, only the engine knows, which may be away at this moment.
        let census = Census::new(Capacity { sandboxes: config.pool.cap, memory_mib: u64::MAX });
        let metrics = metrics.clone();
        Ok(Self { runtime, starter, recipes, census, slots, reaper, workspaces, house, reaper_stop, metrics })
    }

    /// Opens what outlives the server.
    ///
    /// # Errors
    /// A sentence with its remedy.
    pub(super) fn store(&self, config: &Config) -> Result<AnyStore, StartError> {
        let settings = sqlite::Settings { durability: config.state.durability, ..sqlite::Settings::default() };
        let store = Sqlite::open(&self.house.dir.join(sqlite::FILE_NAME), &settings).map_err(StartError::Store)?;
        Ok(store)
    }

    /// Who the engine is. What its machine has bounds all sandboxes from here on.
    ///
    /// # Errors
    /// It doesn't answer.
    pub async fn facts(&self, config: &Config) -> Result<EngineFacts, StartError> {
        let facts = self.runtime.engine().await.map_err(StartError::Runtime)?;
        let capacity = capacity::of(config, facts.memory_bytes);
        capacity::bound(&*self.runtime, capacity);
        self.census.set_capacity(capacity);
        Ok(facts)
    }

    /// Proves engine, mounts and link with one throw-away sandbox of the first template whose image is there.
    ///
    /// # Errors
    /// A sentence with its remedy.
    pub async fn prove(&self) -> Result<Proven, StartError> {
        let mut missing = None;
        for recipe in &self.recipes {
            match self.runtime.resolve_image(&recipe.template.image).await {
                Ok(_) => {
                    let slot = SlotId::random();
                    let admission = Admission {
                        slot: slot.clone(),
                        template: recipe.name.clone(),
                        generation: Generation::default(),
                        memory_mib: recipe.template.limits.memory_mib,
                    };
                    let (memory_mib, capacity) = (admission.memory_mib, self.census.capacity());
                    let entry = self.census.admit(admission).ok_or_else(|| no_room(memory_mib, capacity))?;
                    let proof = self.starter.prove(recipe, &slot, entry).await.map_err(StartError::Proof)?;
                    let expected = Expectations {
                        kind: self.runtime.kind(),
                        owner: self.runtime.owner(),
                        limits: recipe.template.limits.clone(),
                        home: recipe.template.home.clone(),
                    };
                    return Ok(Proven { proof, expected });
                }
                Err(error) => missing = Some(error),
            }
        }
        Err(missing.map_or_else(|| StartError::Setting("there are no templates".to_owned()), StartError::Runtime))
    }

    /// Whether the throw-away sandbox would find room: what was taken up may fill all there is.
    pub(super) fn has_room_to_prove(&self) -> bool {
        let largest = self.recipes.iter().map(|recipe| recipe.template.limits.memory_mib).max().unwrap_or_default();
        !self.census.is_full(largest)
    }

    /// From here on the next run of the server gets what it can take up.
    pub(super) fn leave_what_lasts(&self) {
        self.reaper.leave_what_lasts();
    }

    /// Waits until everything handed to the reaper is destroyed, but not longer than the deadline.
    pub async fn close(&self) {
        if timeout(STOP_DEADLINE, self.reaper.drained()).await.is_err() {
            warn!("not all that was to go is destroyed in time; the next start destroys the rest");
        }
        self.reaper_stop.cancel();
        // What is left running still is in what was made for all.
        if !self.reaper.leaving().has_begun() {
            self.runtime.tidy_up().await;
        }
    }
}

/// The recipes with the ids their images have now; an image that isn't there, or an engine that is away, leaves none.
pub(super) async fn identified(runtime: &dyn Runtime, recipes: Vec<Recipe>) -> Vec<Recipe> {
    let identify = |mut recipe: Recipe| async {
        recipe.image_id = runtime.resolve_image(&recipe.template.image).await.ok();
        recipe
    };
    join_all(recipes.into_iter().map(identify)).await
}

/// Compiles all templates.
pub(super) fn compile(config: &Config, metrics: &Metrics) -> Result<Vec<Recipe>, StartError> {
    let recipe = |(name, template): (&String, &Template)| {
        let recipe = compile_one(name, template, config, metrics)?;
        if recipe.endpoint.sends_keys_in_the_clear() {
            warn!(template = %recipe.name, "users' keys cross the network unencrypted: the model API is plain http on another machine");
        }
        Ok(recipe)
    };
    config.templates.iter().map(recipe).collect()
}

/// Compiles one template, of the settings or as it once was.
pub(super) fn compile_one(
    name: &str,
    template: &Template,
    config: &Config,
    metrics: &Metrics,
) -> Result<Recipe, StartError> {
    let name =
        TemplateName::parse(name).map_err(|source| StartError::Setting(format!("templates.{name}: {source}")))?;
    Recipe::compile(name, template.clone(), config.model.base_url.as_deref(), &TaskTracker::new(), metrics)
        .map_err(|source| StartError::Setting(source.to_string()))
}

/// What the throw-away sandbox showed, and what was expected of it.
#[derive(Debug)]
pub struct Proven {
    /// What it showed.
    pub proof: Proof,
    /// What was asked for.
    pub expected: Expectations,
}

impl Proven {
    /// A row for everything that was asked for.
    #[must_use]
    pub fn verdicts(&self) -> Vec<Row> {
        let Proof { engine, differences, report } = &self.proof;
        verdict::verdicts(engine, differences, report, &self.expected)
    }

    /// Refuses to serve when it isn't.
    pub(super) fn judge(&self) -> Result<(), StartError> {
        verdict::refusal(&self.verdicts()).map_or(Ok(()), |holes| Err(StartError::NotHardened(holes)))
    }
}

fn no_room(memory_mib: u64, capacity: Capacity) -> StartError {
    StartError::Setting(format!(
        "there is no room for a single sandbox: it may use {memory_mib} MiB (limits.memory_mib of its template), and all together {} MiB \
         (pool.memory_share of the machine, or runtime.memory_mib)",
        capacity.memory_mib
    ))
}

#[cfg(test)]
mod tests;
