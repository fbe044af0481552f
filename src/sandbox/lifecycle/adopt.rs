//! Takes up a sandbox that a former run of the server left running.
//!
//! ```text
//!   Foundling ──init, gateway, supervisor's call──► Adopted ──protocol takes the agent up──► Sandbox
//!       │                                              │
//!       └────────────── dropped, or failed ────────────┴──► reaper
//! ```
//!
//! From the first moment it is held by [`Remains`]: whoever drops it at any await, and whatever fails, hands container, folder and workspace to
//! the reaper, as at any other end. Who wants it to stay as it is leaves it.

use std::{sync::Arc, time::Duration};

use tracing::{Instrument as _, info_span};

use super::{Recipe, Remains, Sandbox, StartFailure, Starter, start::StartError};
use crate::{
    agent::{AgentProtocol, EarlyEvents, ResumePlan},
    gateway::Binding,
    ids::TemplateName,
    runtime::{ContainerId, RuntimeError},
    sandbox::{
        census::{Entry, SandboxState},
        link::{LinkError, LinkListener},
        pipes::AgentPipes,
        slot::Slot,
    },
    telemetry::labels::{Phase, StartTimes},
};

/// A sandbox that a former run of the server left running; its supervisor has not called yet.
pub struct Foundling {
    remains: Remains,
    recipe: Recipe,
    binding: Option<Binding>,
    /// Its supervisor may call before anybody waits for it.
    listener: Result<LinkListener, LinkError>,
}

impl Foundling {
    /// Its folder on the host.
    #[must_use]
    pub fn slot(&self) -> &Slot {
        self.remains.slot()
    }

    /// What it was made from.
    #[must_use]
    pub const fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// See [`Sandbox::when_gone`]. Whose workspace is in it says so before anything can fail.
    pub fn when_gone(&mut self, then: impl FnOnce(&Slot) + Send + Sync + 'static) {
        self.remains.when_gone(then);
    }

    /// See [`Sandbox::bind`]. Its agent may be in the middle of a turn: who binds it now leaves no moment in which its model refuses it.
    pub fn bind(&mut self, binding: Binding) {
        self.binding = Some(binding);
    }

    /// Lets go of it without ending it.
    pub fn leave(self) {
        self.remains.leave();
    }
}

/// A sandbox of a former run whose supervisor has called; its agent has not been taken up yet.
pub struct Adopted {
    remains: Remains,
    pipes: AgentPipes,
    protocol: Arc<dyn AgentProtocol>,
    template: TemplateName,
    workspace_inside: String,
    answer_deadline: Duration,
    input_received: u64,
    oldest_output: u64,
}

impl Adopted {
    /// Its folder on the host.
    #[must_use]
    pub fn slot(&self) -> &Slot {
        self.remains.slot()
    }

    /// The newest input its supervisor has: this and all before it gets to the agent, if it hasn't yet.
    #[must_use]
    pub const fn input_received(&self) -> u64 {
        self.input_received
    }

    /// The oldest output its supervisor still has.
    #[must_use]
    pub const fn oldest_output(&self) -> u64 {
        self.oldest_output
    }

    /// How long its agent may take for an answer.
    #[must_use]
    pub const fn answer_deadline(&self) -> Duration {
        self.answer_deadline
    }

    /// Takes its agent up where the plan says.
    ///
    /// # Errors
    /// The plan doesn't fit; the sandbox ends.
    pub fn resume(self, plan: ResumePlan) -> Result<Sandbox, StartFailure> {
        let Self { remains, pipes, protocol, template, workspace_inside, .. } = self;
        let agent = protocol.resume(pipes, plan);
        let agent = agent.map_err(|error| StartFailure { phase: Phase::Session, error: error.into() })?;
        remains.advance(SandboxState::Ready);
        let (early, times) = (EarlyEvents::default(), StartTimes::default());
        Ok(Sandbox { remains, agent: Some(agent), early, template, workspace_inside, times })
    }
}

impl Starter {
    /// Takes charge of a sandbox that runs already.
    #[must_use]
    pub fn find(&self, recipe: Recipe, slot: Slot, container: ContainerId, entry: Entry) -> Foundling {
        let mut remains = Remains::new(slot, entry, self.reaper.clone());
        remains.container_is(container);
        remains.lasts();
        let listener = LinkListener::bind(&remains.slot().link_socket());
        let listener = listener.map(|listener| listener.with(self.reaper.leaving()));
        Foundling { remains, recipe, binding: None, listener }
    }

    /// Waits for its supervisor's call. Its agent reaches its model again, if it was bound.
    ///
    /// # Errors
    /// It doesn't run any more, its supervisor doesn't call or is of another version; the sandbox ends.
    pub async fn adopt(&self, foundling: Foundling) -> Result<Adopted, StartFailure> {
        let span = info_span!("sandbox.adopt", template = %foundling.recipe.name, slot = %foundling.slot().id());
        self.take_up(foundling).instrument(span).await
    }

    async fn take_up(&self, foundling: Foundling) -> Result<Adopted, StartFailure> {
        let Foundling { mut remains, recipe, binding, listener } = foundling;
        let failed = |phase| move |error: StartError| StartFailure { phase, error };
        let container = remains.container().cloned().expect("a foundling has a container");
        let listener = listener.map_err(StartError::from).map_err(failed(Phase::Create))?;
        let gateway = self.gateway.open_slot(&remains.slot().gateway_socket(), Arc::clone(&recipe.endpoint));
        let gateway = gateway.map_err(StartError::from).map_err(failed(Phase::Create))?;
        if let Some(binding) = binding {
            gateway.bind(binding);
        }
        remains.gateway_is(gateway);
        let init = self.runtime.init_of(&container).await.map_err(StartError::from).map_err(failed(Phase::Start))?;
        let ended = || RuntimeError::Refused { call: "inspect", reason: "it doesn't run any more".to_owned() };
        let init = init.ok_or_else(|| failed(Phase::Start)(ended().into()))?;
        let linked = listener.connect(init, self.link_settings()).await;
        let (link, pipes) = linked.map_err(StartError::from).map_err(failed(Phase::Link))?;
        let adopted = Adopted {
            workspace_inside: self.runtime.workspace_inside(&remains.slot().box_dir()),
            answer_deadline: self.settings.boot_timeout,
            input_received: link.input_received(),
            oldest_output: link.oldest_output(),
            protocol: recipe.protocol,
            template: recipe.name,
            remains: {
                remains.link_is(link);
                remains
            },
            pipes,
        };
        Ok(adopted)
    }
}
