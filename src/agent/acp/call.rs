//! Our requests that wait for an answer, and how long they may.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;
use tokio::{sync::oneshot, time::Instant};

use crate::agent::AgentError;

/// Where a driver waits for a request's end.
pub(super) type Reply<T = ()> = oneshot::Sender<Result<T, AgentError>>;

/// Whom an answer is for.
#[derive(Debug)]
pub(super) enum Asker {
    /// The running turn. Its deadline is the driver's business.
    Turn,
    /// A driver that wants another session.
    Session(Reply<Value>),
    /// A driver that changes a setting.
    Setting {
        /// The method, for errors.
        call: &'static str,
        /// Where it waits.
        reply: Reply,
    },
    /// Somebody who wants to know whether the agent lives.
    Probe(Reply),
}

impl Asker {
    /// Tells the driver that there will be no good answer. A turn's driver is told by an event.
    fn fail(self, error: AgentError) {
        match self {
            Self::Turn => {}
            // The driver may have gone meanwhile.
            Self::Session(reply) => drop(reply.send(Err(error))),
            Self::Setting { reply, .. } | Self::Probe(reply) => drop(reply.send(Err(error))),
        }
    }
}

#[derive(Debug)]
struct Open {
    asker: Asker,
    /// When it is too late, and how long that was in all.
    deadline: Option<(Instant, Duration)>,
    call: &'static str,
}

/// The requests that wait, by our id.
#[derive(Debug, Default)]
pub(super) struct Calls {
    open: BTreeMap<u64, Open>,
}

/// The id of a prompt: even.
pub(super) const fn prompt_id(request: u64) -> u64 {
    request.wrapping_mul(2)
}

/// The id of any other request, by the number of its first piece: odd. Pieces count on when a server takes up the agent of one before it,
/// so an answer that was meant for that one is never taken for another.
pub(super) const fn call_id(first_piece: u64) -> u64 {
    first_piece.wrapping_mul(2).wrapping_add(1)
}

impl Calls {
    /// Notes who waits for the answer to a request.
    pub(super) fn open(&mut self, id: u64, call: &'static str, asker: Asker, allowed: Option<Duration>) {
        let deadline = allowed.map(|allowed| (Instant::now() + allowed, allowed));
        self.open.insert(id, Open { asker, deadline, call });
    }

    /// Who waits for this answer; nobody, if it comes too late or was never asked for.
    pub(super) fn close(&mut self, id: u64) -> Option<Asker> {
        self.open.remove(&id).map(|open| open.asker)
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether a new session is being opened.
    pub(super) fn opening_session(&self) -> bool {
        self.open.values().any(|open| matches!(open.asker, Asker::Session(_)))
    }

    /// The next deadline.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.open.values().filter_map(|open| open.deadline).map(|(deadline, _)| deadline).min()
    }

    /// Fails those whose deadline has passed.
    pub(super) fn expire(&mut self, now: Instant) {
        let late = self.open.extract_if(.., |_, open| open.deadline.is_some_and(|(deadline, _)| deadline <= now));
        for (_, open) in late {
            let seconds = open.deadline.map_or(0, |(_, allowed)| allowed.as_secs());
            open.asker.fail(AgentError::Deadline { call: open.call, seconds });
        }
    }

    /// Fails all: the agent is gone.
    pub(super) fn fail_all(&mut self, error: &AgentError) {
        for open in std::mem::take(&mut self.open).into_values() {
            open.asker.fail(error.clone());
        }
    }
}
