//! The Agent Client Protocol, version 1: newline-delimited JSON-RPC on the agent's stdin and stdout.
//!
//! ```text
//!            boot (deadline for each answer)                       run (one task)
//!   ┌────────────┐   ┌──────────────┐   ┌─────────────┐   ┌──────┐  prompt   ┌─────────┐  cancel   ┌────────────┐
//!   │ initialize │──▶│ authenticate │──▶│ session/new │──▶│ idle │──────────▶│ running │──────────▶│ cancelling │
//!   └────────────┘   └──────────────┘   └─────────────┘   └──────┘◀──────────└─────────┘           └────────────┘
//!                                                             ▲   answered                 answered       │
//!                                                             └──────────────────────────────────────────┘
//! ```
//!
//! *Boot* ([`boot`]) fails on a wrong version, a refusal, a missed deadline, an exit or a broken limit; the pipes are dropped then. An
//! agent that lists ways to authenticate must list `gateway`; one that lists none needs none. *Run* ([`peer`]) ends with
//! `Gone` when the agent does, or silently when its driver is gone. Neither file-system access nor terminals are offered;
//! asking for them anyway is answered with "method not found".
//!
//! Our own peer and not the SDK's: that one reads lines of any length, queues without bounds, and answers lines that are no JSON
//! into the agent's stdin.

mod boot;
mod call;
mod message;
mod peer;
mod permission;
mod probe;
#[cfg(test)]
mod tests;
mod update;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, info_span};

use super::{Agent, AgentProtocol, BootError, BootPlan, COMMAND_CAPACITY, EVENT_CAPACITY, wire};
use crate::{sandbox::pipes::AgentPipes, telemetry::SkippedLines};

/// Agents that speak the Agent Client Protocol.
#[derive(Debug, Clone, Default)]
pub struct Acp {
    tasks: TaskTracker,
    skipped: SkippedLines,
}

impl Acp {
    /// The protocol; one task for each running agent goes into `tasks`, its lines that are no message are counted in `skipped`.
    #[must_use]
    pub const fn new(tasks: TaskTracker, skipped: SkippedLines) -> Self {
        Self { tasks, skipped }
    }
}

#[async_trait]
impl AgentProtocol for Acp {
    async fn boot(&self, pipes: AgentPipes, plan: BootPlan) -> Result<Agent, BootError> {
        let (reader, writer) = wire::open(pipes);
        let booted = boot::Boot::new(reader, writer, &plan, self.skipped.clone()).run().await?;
        let (commands, command_queue) = mpsc::channel(COMMAND_CAPACITY);
        let (event_queue, events) = mpsc::channel(EVENT_CAPACITY);
        let boot = booted.times;
        let peer = peer::Peer::new(booted, command_queue, event_queue, plan.answer_deadline);
        self.tasks.spawn(peer.run().instrument(info_span!(parent: None, "agent", protocol = "acp")));
        Ok(Agent { commands, events, boot })
    }
}
