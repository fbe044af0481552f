//! What an agent says before it has a session to say it in.

use std::collections::VecDeque;

use super::AgentEvent;

/// Events an agent may have said before its session begins; of more than these the oldest go.
const EARLY_EVENTS: usize = 64;

/// What an agent said before its session began; kept for its user.
#[derive(Debug, Default)]
pub struct EarlyEvents(VecDeque<AgentEvent>);

impl EarlyEvents {
    /// Keeps one more.
    pub fn keep(&mut self, said: AgentEvent) {
        if self.0.len() == EARLY_EVENTS {
            self.0.pop_front();
        }
        self.0.push_back(said);
    }
}

impl IntoIterator for EarlyEvents {
    type Item = AgentEvent;
    type IntoIter = std::collections::vec_deque::IntoIter<AgentEvent>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
