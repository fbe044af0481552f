//! Agents: the programs that take prompts, and the protocols they speak.
//!
//! A protocol boots an agent over its pipes until it is ready for a prompt, then runs it as a task: commands go in, events
//! come out in the order the agent said them. Both queues are bounded; an event that isn't taken holds the agent back. The task ends
//! when the agent does, when the command side is dropped, or when the agent breaks a limit, and its last event says which.
//!
//! An agent outlives the server that booted it. Each event says how far the agent's output is done with once the event is kept
//! ([`Mark`]), each prompt says in which pieces of input it goes out ([`Pieces`]); with both written down, another server takes the running
//! agent up again ([`AgentProtocol::resume`]) and nothing the agent said, and nothing it was told, is lost or doubled.

pub mod acp;
mod early;
#[cfg(test)]
mod fake;
pub(crate) mod framing;
pub mod lines;
mod mark;
mod outbox;
mod resume;
mod wire;

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};

pub use early::EarlyEvents;
pub use mark::{LINE_HELD, Mark, Place};
pub use resume::{Pieces, ResumePlan, RunningTurn};

use crate::{
    sandbox::pipes::{AgentExit, AgentPipes, Stream},
    telemetry::labels::Phase,
};

/// Events an agent may be ahead of its session's driver.
pub const EVENT_CAPACITY: usize = 256;
/// Permissions an agent may have open at once; further requests are answered `cancelled`.
pub const OPEN_PERMISSIONS: usize = 64;
/// Commands that may wait for an agent: an answer to each open permission, and what else a driver may say meanwhile.
pub const COMMAND_CAPACITY: usize = OPEN_PERMISSIONS + 8;

/// What a protocol must know to boot an agent.
#[derive(Debug, Clone)]
pub struct BootPlan {
    /// The working folder, as the agent sees it.
    pub workspace: String,
    /// Where the agent finds its model: the supervisor's relay on the sandbox's own loopback, such as `http://127.0.0.1:41000`.
    pub model_base_url: String,
    /// Deadline for each answer of the agent during boot.
    pub answer_deadline: Duration,
}

/// How long the phases of a boot took.
#[derive(Debug, Clone, Copy, Default)]
pub struct BootTimes {
    /// First byte to the agent until its `initialize` answer.
    pub initialize: Duration,
    /// Authentication and opening its session.
    pub session: Duration,
}

/// Why an agent could not be booted or went wrong later.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AgentError {
    /// It ended.
    #[error("the agent exited ({})", describe_exit(.0))]
    Exited(AgentExit),
    /// The link to its sandbox was lost. The text is for the log.
    #[error("the sandbox was lost: {0}")]
    Lost(String),
    /// Its sandbox was ended from outside. The text is for its user.
    #[error("{0}")]
    Condemned(String),
    /// It didn't answer in time.
    #[error("the agent did not answer {call} within {seconds} s")]
    Deadline {
        /// Which call.
        call: &'static str,
        /// The deadline.
        seconds: u64,
    },
    /// It answered with an error. The text is the agent's own.
    #[error("the agent refused {call}: {message}")]
    Refused {
        /// Which call.
        call: &'static str,
        /// The agent's words, shortened.
        message: String,
    },
    /// It broke the protocol or one of our limits.
    #[error("the agent broke its protocol: {0}")]
    Protocol(String),
}

/// Why an agent could not be booted, and how far it had come.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{error}")]
pub struct BootError {
    /// [`Phase::Initialize`] or [`Phase::Session`].
    pub phase: Phase,
    /// Why.
    pub error: AgentError,
}

impl BootError {
    /// Makes one of an error in this phase.
    pub const fn within(phase: Phase) -> impl Fn(AgentError) -> Self {
        move |error| Self { phase, error }
    }
}

fn describe_exit(exit: &AgentExit) -> String {
    match (exit.code, exit.signal) {
        (_, Some(signal)) => format!("signal {signal}"),
        (Some(code), None) => format!("code {code}"),
        (None, None) => "reason unknown".to_owned(),
    }
}

/// One of the answers a permission offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermissionOption {
    /// The agent's id for it.
    pub option_id: String,
    /// For people.
    pub name: String,
    /// `allow_once`, `allow_always`, `reject_once` or `reject_always` (ACP).
    pub kind: String,
}

/// What a driver asks of its agent. Whoever waits for a reply goes on taking events: the answer is behind them. A reply
/// that is dropped means the agent is gone.
#[derive(Debug)]
pub enum AgentCommand {
    /// Opens a new session in the folder (a workspace was moved in); the former one is forgotten.
    OpenSession {
        /// The working folder, as the agent sees it.
        workspace: String,
        /// The answer: what the agent's memory is from now on.
        reply: oneshot::Sender<Result<Value, AgentError>>,
    },
    /// Sets the agent's mode (such as `yolo` or `plan`) for its session.
    SetMode {
        /// The agent's id of the mode.
        mode: String,
        /// The answer.
        reply: oneshot::Sender<Result<(), AgentError>>,
    },
    /// Sets the model for the agent's session.
    SetModel {
        /// The model's name.
        model: String,
        /// The answer.
        reply: oneshot::Sender<Result<(), AgentError>>,
    },
    /// Starts a turn. Content blocks as in ACP. The turn ends with [`AgentEvent::TurnEnded`] or [`AgentEvent::TurnFailed`], or with the
    /// agent: [`AgentEvent::Gone`]. One turn at a time: a prompt while one runs is dropped with a warning, for its end would be
    /// taken for the running one's; then `planned` is dropped too.
    ///
    /// Nothing is written before `go`: the driver first writes down which pieces of input the prompt will be. Dropping `go` takes the
    /// prompt back. Between the two nothing else is written, and no other command is taken.
    Prompt {
        /// The driver's number of the prompt, unique in the agent's life.
        request: u64,
        /// ACP content blocks.
        content: Vec<Value>,
        /// Where the protocol says in which pieces the prompt will go out.
        planned: oneshot::Sender<Pieces>,
        /// Says that it may.
        go: oneshot::Receiver<()>,
    },
    /// Asks the agent to end the running turn; it still ends by its event. All open permission requests are answered `cancelled`.
    Cancel,
    /// Answers a permission request.
    AnswerPermission {
        /// The number of [`AgentEvent::PermissionRequested`].
        request: u64,
        /// The chosen option, or none for `cancelled`.
        option_id: Option<String>,
    },
    /// Asks a waiting agent for a sign of life. Any answer is one; no event comes of it. A protocol that has nothing to ask answers at once.
    Probe {
        /// How long the agent may take.
        deadline: Duration,
        /// The answer.
        reply: oneshot::Sender<Result<(), AgentError>>,
    },
}

/// What an agent says, in order.
#[derive(Debug, Clone)]
pub enum AgentEvent {
    /// A piece of its answer: an ACP content block.
    Message(Value),
    /// A piece of its thinking: an ACP content block.
    Thought(Value),
    /// A tool call began: ACP `tool_call`, its fields in `snake_case` as API.md names them.
    ToolStarted(Value),
    /// A tool call changed.
    ToolUpdated(Value),
    /// Its plan: `{entries}`.
    Plan(Value),
    /// Any other update, raw.
    Update(Value),
    /// A line for people.
    Log {
        /// Where it was written.
        stream: Stream,
        /// The line, shortened to the limit.
        text: String,
    },
    /// It wants to be allowed something. Open until it is answered, the turn is cancelled, or the turn ends.
    PermissionRequested {
        /// Names the request in [`AgentCommand::AnswerPermission`].
        request: u64,
        /// The agent's own id for the request: what the answer has to carry.
        agent_id: Value,
        /// The tool call, fields in `snake_case`.
        tool_call: Value,
        /// The answers on offer.
        options: Vec<PermissionOption>,
    },
    /// The turn is over.
    TurnEnded {
        /// ACP's stop reason: `end_turn`, `max_tokens`, `max_turn_requests`, `refusal`, `cancelled`.
        stop_reason: String,
    },
    /// The turn failed; the agent lives.
    TurnFailed(AgentError),
    /// The agent is gone; nothing follows.
    Gone(AgentError),
}

/// An event, and how far the agent's output is done with once it is kept.
#[derive(Debug, Clone)]
pub struct Said {
    /// None: what the agent wrote came to nothing, and only the mark moved.
    pub event: Option<AgentEvent>,
    /// Covers everything up to this event and nothing behind it.
    pub mark: Mark,
}

/// A booted agent, ready for a prompt.
#[derive(Debug)]
pub struct Agent {
    /// Commands; dropping this ends the agent's task.
    pub commands: mpsc::Sender<AgentCommand>,
    /// What it says.
    pub events: mpsc::Receiver<Said>,
    /// Newest chunk of output the supervisor may forget. Whoever takes the events moves it, to [`Mark::forgettable`], when they are kept as
    /// safely as they have to be; an agent for whom nobody does is held back when its window is full.
    pub done_with: watch::Sender<u64>,
    /// What its protocol must know to take it up again.
    pub memory: Value,
    /// How long its boot took.
    pub boot: BootTimes,
}

/// A way of talking with an agent.
#[async_trait]
pub trait AgentProtocol: Send + Sync + 'static {
    /// Boots the agent until it takes a prompt.
    ///
    /// # Errors
    /// The agent exits, refuses, breaks the protocol or misses a deadline. Its pipes are dropped then.
    async fn boot(&self, pipes: AgentPipes, plan: BootPlan) -> Result<Agent, BootError>;

    /// Takes up an agent that was booted before, by us or by a server before us. It may be in the middle of a turn. What it said behind
    /// the mark comes as events, and whether it is still well too: nothing is waited for here.
    ///
    /// # Errors
    /// The plan's memory is none of this protocol's. The pipes are dropped then.
    fn resume(&self, pipes: AgentPipes, plan: ResumePlan) -> Result<Agent, AgentError>;
}
