//! Whether a waiting sandbox is well: its supervisor answers, and its agent does.
//!
//! Three questions, each dearer than the one before: [`Sandbox::check`] looks at what has been heard already and waits for nothing,
//! [`Sandbox::answers`] is one ping over the link, [`Sandbox::probe`] asks the agent itself. The futures of the last two don't borrow the
//! sandbox: whoever keeps many under a lock collects the questions there and awaits them outside. Dropping one leaves nothing.

use std::time::Duration;

use tokio::{sync::oneshot, time::timeout};

use super::Sandbox;
use crate::{
    agent::{AgentCommand, AgentError},
    sandbox::link::{Condemner, Link, PingError},
};

/// Why a sandbox is no good.
#[derive(Debug, thiserror::Error)]
pub enum NotWell {
    /// Its supervisor gives no sign of life.
    #[error(transparent)]
    Supervisor(#[from] PingError),
    /// Its agent gives none, or is gone.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// Its agent doesn't wait here any more: a session has it.
    #[error("its agent was handed over")]
    HandedOver,
}

impl Sandbox {
    /// Whether the supervisor answers within the deadline: what runs nothing, such as a paused container, doesn't.
    ///
    /// # Errors
    /// [`NotWell::Supervisor`].
    pub fn answers(&self, deadline: Duration) -> impl Future<Output = Result<(), NotWell>> + Send + use<> {
        let ping = self.remains.link().map(|link| link.ping(deadline));
        async move {
            // Without a link there is nobody who could say that it is well.
            let ping = ping.ok_or(PingError::Ended)?;
            ping.await?;
            Ok(())
        }
    }

    /// Whether the waiting agent itself answers within the deadline. Call [`Sandbox::check`] before: an agent whose events nobody takes
    /// isn't listened to.
    ///
    /// # Errors
    /// [`NotWell::Agent`] or [`NotWell::HandedOver`].
    pub fn probe(&self, deadline: Duration) -> impl Future<Output = Result<(), NotWell>> + Send + use<> {
        // Weak: as long as anybody holds a sender, the agent's task takes its driver for present.
        let commands = self.agent.as_ref().map(|agent| agent.commands.downgrade());
        async move {
            let commands = commands.ok_or(NotWell::HandedOver)?;
            let gone = || AgentError::Lost("its task ended".to_owned());
            let (reply, answer) = oneshot::channel();
            let asking = async {
                let commands = commands.upgrade().ok_or_else(gone)?;
                commands.send(AgentCommand::Probe { deadline, reply }).await.map_err(|_| gone())?;
                drop(commands);
                answer.await.map_err(|_| gone())?
            };
            let late = |_elapsed| AgentError::Deadline { call: "a probe", seconds: deadline.as_secs() };
            Ok(timeout(deadline, asking).await.map_err(late)??)
        }
    }

    /// A handle that ends the sandbox from outside, in stock or leased; none without a link.
    #[must_use]
    pub fn condemner(&self) -> Option<Condemner> {
        self.remains.link().map(Link::condemner)
    }
}
