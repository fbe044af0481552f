//! Starts sandboxes: create, start, link, initialize, session.
//!
//! How many start at the same time is the warmer's business. A start that fails or is dropped at any await leaves nothing: what exists is held by a [`Remains`] from the first
//! step on, and goes to the reaper with it.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tracing::{Instrument as _, info_span};

use super::{Reaper, Recipe, Remains, Sandbox};
use crate::{
    agent::{AgentError, BootError, BootPlan, EarlyEvents},
    config::{self, Template},
    gateway::{Gateway, GatewayError},
    ids::{Epoch, SlotId},
    runtime::{Runtime, RuntimeError},
    sandbox::{
        census::{Entry, SandboxState},
        link::{Leaving, Link, LinkConfig, LinkError, LinkListener},
        pipes::AgentPipes,
        slot::{Ready, Slots},
        spec::SandboxSpec,
    },
    telemetry::{
        Metrics,
        labels::{Phase, StartTimes},
    },
};

/// What went wrong in a start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The host could not make the slot's folder.
    #[error("the slot's folder could not be made")]
    Slot(#[source] std::io::Error),
    /// The host could not write down that the sandbox is ready.
    #[error("it could not be written down that the sandbox is ready")]
    NotWritten(#[source] std::io::Error),
    /// The engine.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The slot's link socket, or a supervisor that didn't call.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The slot's gateway socket.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The agent.
    #[error(transparent)]
    Agent(#[from] AgentError),
}

/// A start that failed.
#[derive(Debug, thiserror::Error)]
#[error("{} failed: {error}", phase.as_str())]
pub struct StartFailure {
    /// In which phase.
    pub phase: Phase,
    /// Why.
    #[source]
    pub error: StartError,
}

/// Makes sandboxes.
pub struct Starter {
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) gateway: Gateway,
    slots: Slots,
    epoch: Epoch,
    supervisor: PathBuf,
    pub(super) settings: config::Sandbox,
    pub(super) reaper: Reaper,
    metrics: Metrics,
}

/// What a [`Starter`] works with.
pub struct StarterParts {
    /// The engine.
    pub runtime: Arc<dyn Runtime>,
    /// The way out to the model.
    pub gateway: Gateway,
    /// The slots' folder.
    pub slots: Slots,
    /// This run of the server.
    pub epoch: Epoch,
    /// The supervisor's program, where the engine sees it.
    pub supervisor: PathBuf,
    /// Sandbox settings.
    pub settings: config::Sandbox,
    /// Where remains go.
    pub reaper: Reaper,
    /// Instruments.
    pub metrics: Metrics,
}

/// A container whose supervisor has called: everything but the agent's boot.
pub(super) struct Linked {
    pub(super) remains: Remains,
    pub(super) spec: SandboxSpec,
    pub(super) relay_port: u16,
    pub(super) pipes: AgentPipes,
    times: StartTimes,
    begun: Instant,
}

impl Starter {
    /// Takes its parts.
    #[must_use]
    pub fn new(parts: StarterParts) -> Self {
        let StarterParts { runtime, gateway, slots, epoch, supervisor, settings, reaper, metrics } = parts;
        Self { runtime, gateway, slots, epoch, supervisor, settings, reaper, metrics }
    }

    /// Makes one sandbox and boots its agent.
    ///
    /// # Errors
    /// The phase that failed and why. Nothing is left behind.
    pub async fn start(&self, recipe: &Recipe, slot: &SlotId, entry: Entry) -> Result<Sandbox, StartFailure> {
        let span = info_span!("sandbox.start", template = %recipe.name, slot = %slot, otel.status_code = tracing::field::Empty);
        let outcome = self.boot(recipe, slot, entry).instrument(span.clone()).await;
        match &outcome {
            Ok(sandbox) => self.metrics.sandbox_started(&recipe.name, &sandbox.times),
            Err(failure) => {
                span.record("otel.status_code", "ERROR");
                self.metrics.sandbox_failed(&recipe.name, failure.phase);
            }
        }
        outcome
    }

    async fn boot(&self, recipe: &Recipe, slot: &SlotId, entry: Entry) -> Result<Sandbox, StartFailure> {
        let linked = self.link_up(recipe, slot, entry, recipe.template.command.clone()).await?;
        let Linked { mut remains, spec, relay_port, pipes, mut times, begun } = linked;
        let workspace_inside = self.runtime.workspace_inside(&spec.box_dir);
        let plan = BootPlan {
            workspace: workspace_inside.clone(),
            model_base_url: format!("http://127.0.0.1:{relay_port}"),
            answer_deadline: self.settings.boot_timeout,
        };
        let booted = recipe.protocol.boot(pipes, plan).await;
        let agent = booted.map_err(|BootError { phase, error }| StartFailure { phase, error: error.into() })?;
        times.initialize = agent.boot.initialize;
        times.session = agent.boot.session;
        times.total = begun.elapsed();
        if self.runtime.kind().outlives_the_server() {
            let ready = Ready {
                template: recipe.name.clone(),
                fingerprint: self.fingerprint(recipe, &spec.image),
                settings: Template::clone(&recipe.template),
                memory: agent.memory.clone(),
                since: Timestamp::now(),
            };
            let written = remains.slot().mark_ready(&ready).map_err(StartError::NotWritten);
            written.map_err(|error| StartFailure { phase: Phase::Session, error })?;
            remains.lasts();
        }
        remains.advance(SandboxState::Ready);
        Ok(Sandbox {
            remains,
            agent: Some(agent),
            early: EarlyEvents::default(),
            template: recipe.name.clone(),
            workspace_inside,
            times,
        })
    }

    /// Creates and starts a container that runs `command`, and waits for its supervisor's call.
    pub(super) async fn link_up(
        &self,
        recipe: &Recipe,
        slot: &SlotId,
        entry: Entry,
        command: Vec<String>,
    ) -> Result<Linked, StartFailure> {
        let begun = Instant::now();
        let mut times = StartTimes::default();
        let failed = |phase| move |error: StartError| StartFailure { phase, error };

        let clock = Instant::now();
        let (mut remains, spec, listener) = async {
            let slot = self.slots.create(slot).map_err(StartError::Slot)?;
            let mut remains = Remains::new(slot, entry, self.reaper.clone());
            let listener = LinkListener::bind(&remains.slot().link_socket())?.with(self.reaper.leaving());
            remains.gateway_is(self.gateway.open_slot(&remains.slot().gateway_socket(), Arc::clone(&recipe.endpoint))?);
            let image = self.runtime.resolve_image(&recipe.template.image).await?;
            let spec = self.spec(recipe, &remains, image, command);
            let (remains, spec) = self.create(remains, spec).await?;
            Ok((remains, spec, listener))
        }
        .instrument(info_span!("create"))
        .await
        .map_err(failed(Phase::Create))?;
        times.create = clock.elapsed();

        let clock = Instant::now();
        let container = remains.container().cloned().expect("it was created two lines ago");
        let init = self.runtime.start(&container).instrument(info_span!("start")).await;
        let init = init.map_err(|error| StartFailure { phase: Phase::Start, error: error.into() })?;
        times.start = clock.elapsed();

        let clock = Instant::now();
        let linked = listener.connect(init, self.link_settings()).instrument(info_span!("link")).await;
        let (link, pipes): (Link, AgentPipes) =
            linked.map_err(|error| StartFailure { phase: Phase::Link, error: error.into() })?;
        times.link = clock.elapsed();
        let relay_port = link.relay_port();
        remains.link_is(link);
        Ok(Linked { remains, spec, relay_port, pipes, times, begun })
    }

    /// An engine that was asked for a container makes it even if nobody waits for the answer any more. So this goes on when its
    /// caller is gone: the answer, or the knowledge that there is none, always gets into the remains.
    async fn create(&self, mut remains: Remains, spec: SandboxSpec) -> Result<(Remains, SandboxSpec), StartError> {
        let runtime = Arc::clone(&self.runtime);
        remains.creating();
        let creating = async move {
            match runtime.create(&spec).await {
                Ok(container) => remains.container_is(container),
                Err(error) => {
                    if let RuntimeError::Deadline { seconds, .. } = error {
                        remains.created_late(Duration::from_secs(seconds));
                    }
                    return Err(error.into());
                }
            }
            Ok((remains, spec))
        };
        tokio::spawn(creating.in_current_span()).await.expect("creating a container doesn't panic and isn't aborted")
    }

    fn spec(&self, recipe: &Recipe, remains: &Remains, image: String, command: Vec<String>) -> SandboxSpec {
        SandboxSpec {
            slot: remains.slot().id().clone(),
            epoch: self.epoch.clone(),
            template: recipe.name.clone(),
            image,
            command,
            env: recipe.template.env.clone(),
            home: recipe.template.home.clone(),
            limits: recipe.template.limits.clone(),
            supervisor: self.supervisor.clone(),
            run_dir: remains.slot().run_dir(),
            box_dir: remains.slot().box_dir(),
            orphan_grace: self.settings.orphan_grace,
            ring_bytes: self.settings.ring_bytes,
        }
    }

    /// Whether what lasts is left to the next run of the server.
    #[must_use]
    pub fn leaving(&self) -> Leaving {
        self.reaper.leaving()
    }

    pub(super) const fn link_settings(&self) -> LinkConfig {
        LinkConfig { first_timeout: self.settings.link_timeout, relink_timeout: self.settings.relink_timeout }
    }

    /// The supervisor's program on the host.
    pub(super) fn supervisor(&self) -> &std::path::Path {
        &self.supervisor
    }
}
