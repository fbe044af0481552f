//! Line-oriented programs: one prompt a line on stdin, answers as lines on stdout. Any script can be such an agent.
//!
//! *In*: the text blocks of a prompt, joined; a line end inside becomes a space, so that a prompt is one line. Other
//! blocks are left out.
//!
//! *Out*: a line is a piece of the answer, unless it is a JSON object with a `type` ([`line`]): `message` or `text`, `thought`, `result` (the
//! turn is over; its content, if any, is a last piece), `error` (the turn failed), anything else is passed on raw. A turn without
//! `result` or `error` ends after `quiet_time` without a line; the time runs from the first line, so a program may think as long
//! as the driver's own deadline lets it. Standard error is for people and doesn't count.
//!
//! *Ready* is a program that has not exited 50 ms after its start: there is no handshake. Lines outside a turn are for people.
//!
//! *Cancel*: there is no way to tell the program. The turn ends as `cancelled` at once, and the rest of its answer, up to its
//! `result` or quiet time, is thrown away. A prompt sent meanwhile waits for that. Modes, models and permissions don't exist; a new
//! session is only forgotten words, and the program can't be moved to another folder.
//!
//! *Resume* goes on with the turn that ran; the quiet time begins anew if the program had spoken. A cancelled turn's rest is still thrown away.

mod line;
mod peer;
#[cfg(test)]
mod tests;

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};
use tokio_util::task::TaskTracker;
use tracing::{Instrument, info_span};

use super::{
    Agent, AgentError, AgentProtocol, BootError, BootPlan, BootTimes, COMMAND_CAPACITY, EVENT_CAPACITY, Mark,
    ResumePlan,
    outbox::Outbox,
    wire::{Reader, Wire},
};
use crate::{sandbox::pipes::AgentPipes, telemetry::labels::Phase};

/// A program that lives this long is taken for ready.
const SETTLE_TIME: Duration = Duration::from_millis(50);
/// Lines that are read while it settles; the others wait.
const SETTLE_LINES: usize = 64;

/// Programs that take one prompt a line.
#[derive(Debug, Clone)]
pub struct Lines {
    quiet_time: Duration,
    tasks: TaskTracker,
}

impl Lines {
    /// The protocol; a turn ends after `quiet_time` without a line. One task for each running agent goes into `tasks`.
    #[must_use]
    pub const fn new(quiet_time: Duration, tasks: TaskTracker) -> Self {
        Self { quiet_time, tasks }
    }

    fn spawn(&self, peer: peer::Peer) {
        self.tasks.spawn(peer.run().instrument(info_span!(parent: None, "agent", protocol = "lines")));
    }
}

#[async_trait]
impl AgentProtocol for Lines {
    async fn boot(&self, pipes: AgentPipes, _plan: BootPlan) -> Result<Agent, BootError> {
        let start = Instant::now();
        let Wire { mut reader, writer, done_with, receipts: _ } = Wire::new(pipes, Mark::default(), 0);
        let (commands, command_queue) = mpsc::channel(COMMAND_CAPACITY);
        let (event_queue, events) = mpsc::channel(EVENT_CAPACITY);
        let mut outbox = Outbox::new(event_queue, Mark::default());
        let settled = settle(&mut reader, &mut outbox).instrument(info_span!("initialize")).await;
        settled.map_err(BootError::within(Phase::Initialize))?;
        let peer = peer::Peer::new(reader, writer, command_queue, outbox, self.quiet_time);
        self.spawn(peer);
        let boot = BootTimes { initialize: start.elapsed(), session: Duration::ZERO };
        Ok(Agent { commands, events, done_with, memory: Value::Null, boot })
    }

    fn resume(&self, pipes: AgentPipes, plan: ResumePlan) -> Result<Agent, AgentError> {
        let Wire { reader, writer, done_with, receipts: _ } = Wire::new(pipes, plan.mark, plan.input_received);
        let (commands, command_queue) = mpsc::channel(COMMAND_CAPACITY);
        let (event_queue, events) = mpsc::channel(EVENT_CAPACITY);
        let outbox = Outbox::new(event_queue, plan.mark);
        let mut peer = peer::Peer::new(reader, writer, command_queue, outbox, self.quiet_time);
        peer.resume(plan.turn, plan.after_cancel);
        self.spawn(peer);
        Ok(Agent { commands, events, done_with, memory: plan.memory, boot: BootTimes::default() })
    }
}

/// Waits whether the program stays; what it says meanwhile is for people.
async fn settle(reader: &mut Reader, outbox: &mut Outbox) -> Result<(), AgentError> {
    let settled = Instant::now() + SETTLE_TIME;
    for _ in 0..SETTLE_LINES {
        match timeout_at(settled, reader.next()).await {
            Ok(heard) => {
                if let Some(event) = peer::log(heard?) {
                    outbox.push(event);
                }
                outbox.reach(reader.mark());
            }
            Err(_) => break,
        }
    }
    Ok(())
}

/// Takes a line as far as the peer would, for [`crate::fuzzing`].
pub(crate) fn understand(line: &[u8]) {
    line::meaning(line);
}
