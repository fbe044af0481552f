//! Events on their way to the driver: what every protocol hands them on through, each with its mark.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use super::{AgentError, AgentEvent, Mark, Said};

/// The driver takes no more events: it is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DriverGone;

/// Events that are collected before they go to the driver.
const AT_ONCE: usize = 64;

/// Events that wait for room in the driver's queue. Few: a protocol reads the next chunk when none waits.
#[derive(Debug)]
pub(crate) struct Outbox {
    events: mpsc::Sender<Said>,
    waiting: VecDeque<Said>,
    /// What has been heard is done with up to here, once everything that was pushed is.
    reached: Mark,
    /// The mark that was pushed last.
    said: Mark,
}

impl Outbox {
    /// For a protocol that goes on reading behind `mark`.
    pub(crate) const fn new(events: mpsc::Sender<Said>, mark: Mark) -> Self {
        Self { events, waiting: VecDeque::new(), reached: mark, said: mark }
    }

    /// Puts an event behind those that wait. It covers what was reached before the line it came of.
    pub(crate) fn push(&mut self, event: AgentEvent) {
        self.waiting.push_back(Said { event: Some(event), mark: self.reached });
        self.said = self.reached;
    }

    /// All events of what was heard up to the mark were pushed: the last of them, if it waits here, covers it. If there is none and the
    /// supervisor could forget something, the mark goes alone, so that an agent whose lines come to nothing isn't held back by them.
    pub(crate) fn reach(&mut self, mark: Mark) {
        self.reached = mark;
        if let Some(last) = self.waiting.back_mut() {
            last.mark = mark;
            self.said = mark;
        } else if mark.forgettable() > self.said.forgettable() {
            self.waiting.push_back(Said { event: None, mark });
            self.said = mark;
        }
    }

    /// Whether none waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether the events of another line may be pushed. Events go to the driver some at a time, because waking it costs more than most events
    /// do; whoever pushes while it may hands them on at the end.
    pub(crate) fn takes_more(&mut self) -> bool {
        self.waiting.len() < AT_ONCE || self.hand_on_now()
    }

    /// Hands on what the driver's queue has room for; whether that was all.
    pub(crate) fn hand_on_now(&mut self) -> bool {
        while !self.waiting.is_empty()
            && let Ok(room) = self.events.try_reserve()
            && let Some(said) = self.waiting.pop_front()
        {
            room.send(said);
        }
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
        if let Some(said) = self.waiting.pop_front() {
            room.send(said);
        }
        Ok(())
    }

    /// Hands on what waits and says last that the agent is gone. Ends early if the driver is gone too.
    pub(crate) async fn finish(mut self, error: AgentError) {
        self.push(AgentEvent::Gone(error));
        while !self.is_empty() && self.hand_on().await.is_ok() {}
    }
}
