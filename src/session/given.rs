//! What a driver is given: a session to begin with, and commands to obey.

use std::{any::Any, collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Span;

use super::{
    Registry,
    policy::Refusal,
    status::{Identity, Preferences, Turn},
};
use crate::{
    agent::{Agent, AgentError, EarlyEvents, Mark},
    config::{HostPattern, PermissionPolicy},
    gateway::{Binding, ModelKey, Report},
    ids::{CredentialName, PermissionId, SessionId, TurnId},
    log::EventLog,
    pool::Lease,
    store,
    telemetry::{Audit, Metrics},
};

/// What can be asked of a session.
#[derive(Debug)]
pub enum Command {
    /// Starts a turn.
    Prompt {
        /// What the turn will be called. Known before there is one, so that `also` can name it.
        turn: TurnId,
        /// ACP content blocks.
        content: Vec<Value>,
        /// The span of the use case; the turn lives in it.
        span: Span,
        /// Written in the same transaction as `turn.started`.
        also: Vec<store::Change>,
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
    /// Ends a turn that takes more than it may: it fails with `RESOURCE_LIMIT`.
    Overrun {
        /// Which.
        turn: TurnId,
        /// Of what, in a public sentence.
        why: String,
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
    /// Changes what its user may change. All of it or nothing.
    Change {
        /// What is to be different.
        change: SessionChange,
        /// Only if the session's version is one of these; none: whatever it is.
        versions: Option<Vec<u64>>,
        /// Done, or why not. The new version can be read with the status.
        reply: oneshot::Sender<Result<(), ChangeError>>,
    },
    /// Tells what is kept under the name of the session's key now. Nobody waits for an answer.
    Key {
        /// The name that was looked up.
        name: CredentialName,
        /// What is there.
        found: FoundKey,
    },
    /// Ends the session; answered when its sandbox is gone.
    Close {
        /// Done.
        reply: oneshot::Sender<()>,
    },
}

/// What a user changes of a session; what is none stays.
#[derive(Debug, Clone, Default)]
pub struct SessionChange {
    /// All labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// The agent's mode. The agent may refuse it.
    pub mode: Option<String>,
    /// The model. The agent may refuse it.
    pub model: Option<String>,
    /// How long it lives without a turn; counts from the last one.
    pub idle: Option<Duration>,
    /// The age it ends at; counts from its opening.
    pub max_age: Option<Duration>,
    /// The policy in force, within the template's.
    pub permissions: Option<PermissionPolicy>,
    /// All that its tools may reach beyond its template's list, within the template's offer.
    pub egress: Option<Vec<HostPattern>>,
    /// The user's own key for the model API.
    pub key: Option<ChosenKey>,
}

/// A user's key for the model API, and its name, if it is kept.
#[derive(Debug, Clone)]
pub struct ChosenKey {
    /// The key.
    pub key: ModelKey,
    /// Its name.
    pub name: Option<CredentialName>,
}

/// What is kept under a name.
#[derive(Debug, Clone)]
pub enum FoundKey {
    /// This key.
    Key(ModelKey),
    /// None: it was taken away.
    Gone,
    /// Nobody knows, and that for too long.
    Unknown,
}

/// Why a session was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// It can't be changed now.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It has another version than those named.
    #[error("the session was changed by somebody else")]
    Stale,
    /// Another change is being made.
    #[error("another change of the session is being made; try again in a moment")]
    Busy,
    /// It would have ended already at that age.
    #[error("the session is older than that already")]
    OverAlready,
    /// The agent did not take it.
    #[error("{field}: {error}")]
    Agent {
        /// `mode` or `model`.
        field: &'static str,
        /// Why.
        #[source]
        error: AgentError,
    },
}

impl Command {
    /// Says no to everything but a close, which gets what it wants: its sender is given back.
    pub(super) fn refuse(self) -> Option<oneshot::Sender<()>> {
        match self {
            Self::Prompt { reply, .. } => drop(reply.send(Err(Refusal::Ended))),
            Self::Cancel { reply, .. } | Self::Answer { reply, .. } | Self::Overrun { reply, .. } => {
                let _caller_may_have_left = reply.send(Err(Refusal::Ended));
            }
            Self::Change { reply, .. } => drop(reply.send(Err(Refusal::Ended.into()))),
            Self::Key { .. } => {}
            Self::Close { reply } => return Some(reply),
        }
        None
    }
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
}

/// A session that was opened and needs a driver.
#[derive(Debug)]
pub struct Opened {
    /// Its id.
    pub id: SessionId,
    /// What never changes.
    pub identity: Identity,
    /// What its user may change.
    pub preferences: Preferences,
    /// Its log, still empty.
    pub log: Arc<EventLog>,
    /// Its agent, ready for a prompt.
    pub agent: Agent,
    /// What the agent said while it waited.
    pub early: EarlyEvents,
    /// Its sandbox.
    pub lease: Lease,
    /// Fires when the sandbox is gone and the workspace at home.
    pub gone: oneshot::Receiver<()>,
    /// What its gateway is bound to.
    pub binding: Binding,
    /// What the gateway says of its calls.
    pub reports: mpsc::Receiver<Report>,
    /// Held for as long as the session takes up room: the user's quota.
    pub permit: Box<dyn Any + Send>,
    /// Its times.
    pub settings: Settings,
    /// Written in the same transaction as `session.ready`.
    pub also: Vec<store::Change>,
}

/// What a driver drives.
#[derive(Debug)]
pub(super) struct Driven {
    pub(super) agent: Agent,
    pub(super) early: EarlyEvents,
    pub(super) lease: Lease,
    pub(super) gone: oneshot::Receiver<()>,
    pub(super) binding: Binding,
    pub(super) reports: mpsc::Receiver<Report>,
    /// How far the agent was heard, by the log.
    pub(super) mark: Mark,
    pub(super) settings: Settings,
}

/// How all drivers are ended.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// Ends every session.
    pub end: CancellationToken,
    /// Leaves every session to the next server.
    pub hand_over: CancellationToken,
}

impl Stop {
    /// Whether they are being ended.
    #[must_use]
    pub fn has_come(&self) -> bool {
        self.end.is_cancelled() || self.hand_over.is_cancelled()
    }
}

/// What all drivers share.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Where sessions are found.
    pub registry: Arc<Registry>,
    /// Instruments.
    pub metrics: Metrics,
    /// Who did what.
    pub audit: Audit,
    /// Who waits for all drivers waits here.
    pub tracker: TaskTracker,
    /// How they are ended.
    pub stop: Stop,
}
