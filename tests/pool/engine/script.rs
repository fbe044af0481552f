//! What the fake engine, its supervisors and its agents do when they are asked: a way for each call.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// How long a slow answer takes: well under every deadline.
pub const SLOW: Duration = Duration::from_millis(15);
/// The engine's own deadline for a call; a call that is never answered ends with it.
pub const ENGINE_DEADLINE: Duration = Duration::from_millis(60);

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// The engine: make a container.
    Create,
    /// The engine: start it.
    Start,
    /// The engine: look at it.
    Inspect,
    /// The supervisor: call the server.
    Link,
    /// The agent: `initialize`.
    Initialize,
    /// The agent: `authenticate`.
    Authenticate,
    /// The agent: `session/new`.
    Session,
    /// The supervisor: a ping over the link.
    Ping,
    /// The agent: a request it needn't know.
    Probe,
    /// The engine: destroy a container.
    Remove,
    /// The engine: name every container.
    List,
    /// The engine: what a container uses of its memory.
    Memory,
}

/// How a call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// It is done and answered.
    Ok,
    /// It is refused and not done.
    Error,
    /// It is done and answered after [`SLOW`].
    Slow,
    /// It is done, and the answer never comes. A supervisor never calls; an agent stays silent.
    Never,
    /// It is done, and answered twice. An engine that is asked a second time refuses, and that is the answer the caller gets; a list
    /// names everything twice.
    Twice,
    /// The engine says that its deadline has passed, and does it after that all the same.
    Late,
}

/// The ways to go, call by call.
#[derive(Debug, Default)]
pub struct Script {
    next: BTreeMap<Call, VecDeque<Way>>,
    always: BTreeMap<Call, Way>,
}

impl Script {
    /// The next calls of this kind go these ways, each once.
    pub fn next(&mut self, call: Call, ways: impl IntoIterator<Item = Way>) {
        self.next.entry(call).or_default().extend(ways);
    }

    /// From now on every call of this kind goes this way, unless [`next`](Self::next) says otherwise.
    pub fn always(&mut self, call: Call, way: Way) {
        self.always.insert(call, way);
    }

    /// Everything works again.
    pub fn heal(&mut self) {
        *self = Self::default();
    }

    /// How the next call of this kind goes.
    pub fn take(&mut self, call: Call) -> Way {
        let next = self.next.get_mut(&call).and_then(VecDeque::pop_front);
        next.or_else(|| self.always.get(&call).copied()).unwrap_or(Way::Ok)
    }
}
