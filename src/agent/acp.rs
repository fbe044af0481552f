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
//! `Gone` when the agent does, or silently when its driver is gone. *Resume* begins in the middle of it, idle, running or cancelling, in a session
//! that another server opened: what that one may not have told the agent any more is told again, above all the prompt, so far as it hasn't arrived. Neither file-system access nor terminals are offered;
//! asking for them anyway is answered with "method not found".
//!
//! Our own peer and not the SDK's: that one reads lines of any length, queues without bounds, and answers lines that are no JSON
//! into the agent's stdin.

mod boot;
mod call;
mod memory;
mod message;
mod peer;
mod permission;
mod probe;
#[cfg(test)]
mod tests;
mod turn;
mod update;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, info_span};

use self::memory::Memory;
use super::{
    Agent, AgentError, AgentProtocol, BootError, BootPlan, BootTimes, COMMAND_CAPACITY, EVENT_CAPACITY, Mark,
    ResumePlan, outbox::Outbox, wire::Wire,
};
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

    fn spawn(&self, peer: peer::Peer) {
        self.tasks.spawn(peer.run().instrument(info_span!(parent: None, "agent", protocol = "acp")));
    }
}

#[async_trait]
impl AgentProtocol for Acp {
    async fn boot(&self, pipes: AgentPipes, plan: BootPlan) -> Result<Agent, BootError> {
        let booted = boot::Boot::new(pipes, &plan, self.skipped.clone()).run().await?;
        let (commands, command_queue) = mpsc::channel(COMMAND_CAPACITY);
        let (event_queue, events) = mpsc::channel(EVENT_CAPACITY);
        let memory = Memory::new(booted.session);
        let Wire { reader, writer, receipts, done_with } = booted.wire;
        let agent = Agent { commands, events, done_with, memory: memory.value(), boot: booted.times };
        let parts = peer::Parts {
            reader,
            writer,
            receipts,
            commands: command_queue,
            outbox: Outbox::new(event_queue, Mark::default()),
            memory,
            answer_deadline: plan.answer_deadline,
            skipped: self.skipped.clone(),
        };
        self.spawn(peer::Peer::new(parts));
        Ok(agent)
    }

    fn resume(&self, pipes: AgentPipes, plan: ResumePlan) -> Result<Agent, AgentError> {
        let memory = Memory::read(&plan.memory)?;
        let Wire { reader, writer, receipts, done_with } = Wire::new(pipes, plan.mark, plan.input_received);
        let (commands, command_queue) = mpsc::channel(COMMAND_CAPACITY);
        let (event_queue, events) = mpsc::channel(EVENT_CAPACITY);
        let agent = Agent { commands, events, done_with, memory: plan.memory, boot: BootTimes::default() };
        let mut peer = peer::Peer::new(peer::Parts {
            reader,
            writer,
            receipts,
            commands: command_queue,
            outbox: Outbox::new(event_queue, plan.mark),
            memory,
            answer_deadline: plan.answer_deadline,
            skipped: self.skipped.clone(),
        });
        if let Some(turn) = plan.turn {
            peer.resume(turn);
        }
        self.spawn(peer);
        Ok(agent)
    }
}

/// Takes a line as far as the peer would, for [`crate::fuzzing`].
pub(crate) fn understand(line: &[u8]) {
    match message::Message::parse(line) {
        message::Message::Notification { method, params } => {
            update::event(params.get("update").cloned().unwrap_or_default());
            update::unknown(method, params);
        }
        message::Message::Request { id, method, params } => {
            message::refusal(&id, &method);
            update::permission_options(&params);
            update::fields(params);
        }
        message::Message::Answer { .. } | message::Message::Other => {}
    }
}
