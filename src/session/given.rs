//! What a driver is given: a session to begin with, and commands to obey.

use std::{any::Any, time::Duration};

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tracing::Span;

use super::{
    policy::Refusal,
    status::{Identity, Turn},
};
use crate::{
    agent::{Agent, EarlyEvents},
    gateway::Usage,
    ids::{PermissionId, SessionId, TurnId},
    pool::Lease,
};

/// What can be asked of a session.
#[derive(Debug)]
pub enum Command {
    /// Starts a turn.
    Prompt {
        /// ACP content blocks.
        content: Vec<Value>,
        /// The span of the use case; the turn lives in it.
        span: Span,
        /// The turn, or why not.
        reply: oneshot::Sender<Result<Turn, Refusal>>,
    },
    /// Asks a turn to end.
    Cancel {
        /// Which.
        turn: TurnId,
        /// Done, or why not.
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    /// Answers a permission.
    Answer {
        /// Which.
        permission: PermissionId,
        /// The chosen option; none cancels.
        option_id: Option<String>,
        /// Done, or why not.
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    /// Ends the session; answered when its sandbox is gone.
    Close {
        /// Done.
        reply: oneshot::Sender<()>,
    },
}

/// The times a driver keeps.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Deadline for a turn's first output.
    pub first_output: Duration,
    /// Deadline for a turn.
    pub turn: Duration,
    /// Between asking a turn to end and killing its agent.
    pub cancel_grace: Duration,
    /// A permission nobody answers is denied after this.
    pub permission: Duration,
    /// The session ends after this long without a turn.
    pub idle: Duration,
    /// The session ends at this age.
    pub max_age: Duration,
    /// Event text that is kept, in bytes.
    pub log_bytes: usize,
}

/// A session that was opened and needs a driver.
#[derive(Debug)]
pub struct Opened {
    /// Its id.
    pub id: SessionId,
    /// What never changes.
    pub identity: Identity,
    /// Its agent, ready for a prompt.
    pub agent: Agent,
    /// What the agent said while it waited.
    pub early: EarlyEvents,
    /// Its sandbox.
    pub lease: Lease,
    /// Fires when the sandbox is gone and the workspace at home.
    pub gone: oneshot::Receiver<()>,
    /// Token counts from the gateway.
    pub usage: mpsc::Receiver<Usage>,
    /// Held for as long as the session takes up room: the user's quota.
    pub permit: Box<dyn Any + Send>,
    /// Its times.
    pub settings: Settings,
}
