//! What an agent says before it has a session to say it in.

use std::collections::VecDeque;

use super::{AgentEvent, Mark, Said};

/// Events an agent may have said before its session begins; of more than these the oldest go.
const EARLY_EVENTS: usize = 64;

/// What an agent said before its session began; kept for its user.
#[derive(Debug, Default)]
pub struct EarlyEvents {
    events: VecDeque<AgentEvent>,
    mark: Mark,
}

impl EarlyEvents {
    /// Keeps one more.
    pub fn keep(&mut self, said: Said) {
        self.mark = said.mark;
        let Some(event) = said.event else { return };
        if self.events.len() == EARLY_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// How far the agent's output is done with once these are kept.
    #[must_use]
    pub const fn mark(&self) -> Mark {
        self.mark
    }
}

impl IntoIterator for EarlyEvents {
    type Item = AgentEvent;
    type IntoIter = std::collections::vec_deque::IntoIter<AgentEvent>;

    fn into_iter(self) -> Self::IntoIter {
        self.events.into_iter()
    }
}
