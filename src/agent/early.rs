//! What an agent says before it has a session to say it in.

use std::collections::VecDeque;

use super::{AgentEvent, Mark, Said};

/// Events an agent may have said before its session begins; of more than these the oldest go.
const EARLY_EVENTS: usize = 64;
/// Chunks of output that are held for them, so that they are said again after a restart. Well within the link's window: an agent that says more is
/// not held back.
const CHUNKS_HELD: u64 = 8;

/// What an agent said before its session began; kept for its user.
#[derive(Debug, Default)]
pub struct EarlyEvents {
    events: VecDeque<AgentEvent>,
    mark: Mark,
    /// The newest chunk that could have been forgotten when the first of them was said.
    held_from: Option<u64>,
}

impl EarlyEvents {
    /// Keeps one more.
    pub fn keep(&mut self, said: Said) {
        self.mark = said.mark;
        let Some(event) = said.event else { return };
        self.held_from.get_or_insert(said.mark.forgettable());
        if self.events.len() == EARLY_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// Newest chunk the supervisor may forget while these are kept in memory only. None: it is to keep what it has.
    #[must_use]
    pub fn forgettable(&self) -> Option<u64> {
        let newest = self.mark.forgettable();
        match self.held_from {
            Some(from) if newest <= from + CHUNKS_HELD => None,
            _ => Some(newest),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::Place;

    fn said(event: Option<AgentEvent>, chunk: u64) -> Said {
        let place = Place { chunk, offset: 0 };
        Said { event, mark: Mark { stdout: place, stderr: place, torn: false } }
    }

    #[test]
    fn what_is_kept_is_held_at_the_supervisor_unless_it_is_much() {
        let event = || Some(AgentEvent::Update(serde_json::json!({})));
        let mut early = EarlyEvents::default();
        early.keep(said(None, 3));
        assert_eq!(early.forgettable(), Some(2));
        early.keep(said(event(), 5));
        early.keep(said(None, 5 + CHUNKS_HELD));
        assert_eq!(early.forgettable(), None);
        early.keep(said(event(), 6 + CHUNKS_HELD));
        assert_eq!(early.forgettable(), Some(5 + CHUNKS_HELD));
    }
}
