//! Events on their way to the driver: what every protocol hands them on through.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use super::{AgentError, AgentEvent};

/// The driver takes no more events: it is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DriverGone;

/// Events that wait for room in the driver's queue. Few: a protocol reads the next line when none waits.
#[derive(Debug)]
pub(crate) struct Outbox {
    events: mpsc::Sender<AgentEvent>,
    waiting: VecDeque<AgentEvent>,
}

impl Outbox {
    pub(crate) const fn new(events: mpsc::Sender<AgentEvent>) -> Self {
        Self { events, waiting: VecDeque::new() }
    }

    /// Puts an event behind those that wait.
    pub(crate) fn push(&mut self, event: AgentEvent) {
        self.waiting.push_back(event);
    }

    /// Whether none waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Waits for room and hands on one event; with none to hand on, waits for the driver to go. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The driver is gone.
    pub(crate) async fn hand_on(&mut self) -> Result<(), DriverGone> {
        if self.waiting.is_empty() {
            self.events.closed().await;
            return Err(DriverGone);
        }
        let room = self.events.reserve().await.map_err(|_| DriverGone)?;
        if let Some(event) = self.waiting.pop_front() {
            room.send(event);
        }
        Ok(())
    }

    /// Hands on what waits and says last that the agent is gone. Ends early if the driver is gone too.
    pub(crate) async fn finish(mut self, error: AgentError) {
        self.push(AgentEvent::Gone(error));
        while !self.is_empty() && self.hand_on().await.is_ok() {}
    }
}
