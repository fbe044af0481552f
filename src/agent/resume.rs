//! What a protocol must be told to take up an agent that runs already. Plain data, written down by the agent's driver.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Mark;

/// The pieces of input a prompt goes out in, as the supervisor counts them. None at all when `last` is before `first`: a prompt that is refused
/// without asking the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pieces {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
}

/// An agent that is to be taken up again.
#[derive(Debug, Clone)]
pub struct ResumePlan {
    /// What its protocol wanted to know again ([`Agent::memory`](super::Agent::memory)).
    pub memory: Value,
    /// How far its output was done with. The default: begin with whatever the supervisor still has.
    pub mark: Mark,
    /// Newest piece of input the supervisor has.
    pub input_received: u64,
    /// The turn before the one that runs, or before now, was cancelled. A line-oriented program may still be at it.
    pub after_cancel: bool,
    /// The turn that wasn't over.
    pub turn: Option<RunningTurn>,
    /// Deadline for each answer of the agent, as at its boot.
    pub answer_deadline: Duration,
}

/// A turn that an agent is taken up again in.
#[derive(Debug, Clone)]
pub struct RunningTurn {
    /// The driver's number of the prompt.
    pub request: u64,
    /// The pieces that were planned for it. What the supervisor doesn't have of them is sent.
    pub pieces: Pieces,
    /// The prompt, as it was. May be empty if all its pieces have arrived.
    pub content: Vec<Value>,
    /// The agent has said something of its own since the prompt. A line-oriented program that has may be done already: its silence counts.
    pub spoken: bool,
    /// It was asked to end. The agent is asked again.
    pub cancelling: bool,
    /// Permissions that wait for an answer: the number of the request and the agent's own id.
    pub open: Vec<(u64, Value)>,
    /// Answers that were given: the agent's own id and the option. They are given again; an agent passes over an answer to nothing.
    pub answers: Vec<(Value, Option<String>)>,
}
