//! A sandbox from its creation to its destruction.
//!
//! [`start::Starter`] makes one in five phases: create, start, link, initialize, session. Only after the last is it a [`Sandbox`]. Whatever
//! happens on the way, and whoever drops a sandbox, what exists of it goes to the [`end::Reaper`], which sees to it that the container is
//! gone, then lets the owner of the workspace fetch it, then removes the folder. Used or not, no sandbox is started twice.

pub mod adopt;
pub mod end;
mod fingerprint;
mod health;
pub mod prove;
pub mod recipe;
pub mod start;

use std::fmt;

pub use adopt::{Adopted, Foundling};
pub use end::{Reaper, Remains};
pub use health::NotWell;
pub use recipe::Recipe;
pub use start::{StartFailure, Starter};

use super::{census::SandboxState, slot::Slot};
use crate::{
    agent::{Agent, AgentError, AgentEvent, EarlyEvents, Said},
    gateway::Binding,
    ids::TemplateName,
    runtime::PostMortem,
    telemetry::labels::StartTimes,
};

/// A container with a booted agent in it.
pub struct Sandbox {
    remains: Remains,
    agent: Option<Agent>,
    early: EarlyEvents,
    template: TemplateName,
    workspace_inside: String,
    times: StartTimes,
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sandbox").field("slot", self.slot().id()).field("template", &self.template).finish()
    }
}

impl Sandbox {
    /// Its folder on the host.
    #[must_use]
    pub fn slot(&self) -> &Slot {
        self.remains.slot()
    }

    /// The workspace, as the agent sees it.
    #[must_use]
    pub fn workspace_inside(&self) -> &str {
        &self.workspace_inside
    }

    /// How long its start took, by phase.
    #[must_use]
    pub const fn times(&self) -> &StartTimes {
        &self.times
    }

    /// Says in the census what it is doing.
    pub fn advance(&self, state: SandboxState) {
        self.remains.advance(state);
    }

    /// Binds its gateway socket to a user's lease: from here on the agent can reach its model.
    pub fn bind(&self, binding: Binding) {
        self.remains.bind(binding);
    }

    /// Refuses its agent's calls from here on and ends those under way.
    pub fn unbind(&self) {
        self.remains.unbind();
    }

    /// Hands over the agent, and what it said while it waited. None the second time.
    pub fn take_agent(&mut self) -> Option<(Agent, EarlyEvents)> {
        self.agent.take().map(|agent| (agent, std::mem::take(&mut self.early)))
    }

    /// What a waiting agent says is kept for its user; if it is gone, this says why.
    ///
    /// # Errors
    /// The agent is gone, and so is the use of this sandbox.
    pub fn check(&mut self) -> Result<(), AgentError> {
        let Some(agent) = self.agent.as_mut() else { return Ok(()) };
        loop {
            match agent.events.try_recv() {
                Ok(Said { event: Some(AgentEvent::Gone(error)), .. }) => return Err(error),
                Ok(said) => {
                    self.early.keep(said);
                    if let Some(chunk) = self.early.forgettable() {
                        agent.done_with.send_replace(chunk);
                    }
                }
                Err(tokio::sync::mpsc::error::TryRecvError::Empty) => return Ok(()),
                Err(tokio::sync::mpsc::error::TryRecvError::Disconnected) => {
                    return Err(AgentError::Lost("its task ended".to_owned()));
                }
            }
        }
    }

    /// Runs when the container is gone and before its folder is removed: the moment to fetch the workspace. If it fails, the folder stays.
    pub fn when_gone(&mut self, then: impl FnOnce(&Slot) + Send + Sync + 'static) {
        self.remains.when_gone(then);
    }

    /// Lets go of it without ending it, for the next run of the server.
    pub fn leave(self) {
        self.remains.leave();
    }

    /// What the engine knows about the agent's death.
    pub async fn post_mortem(&self) -> Option<PostMortem> {
        self.remains.post_mortem().await
    }
}
