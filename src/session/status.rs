//! What a session is doing: written by its driver alone, read by everybody.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::policy::Stage;
use crate::{
    agent::{PermissionOption, Pieces},
    config::{HostPattern, PermissionPolicy},
    gateway::Egress,
    ids::{CredentialName, PermissionId, SlotId, TemplateName, TierName, TurnId, UserId, WorkspaceName},
    problem::Code,
};

/// Turns whose outcome is remembered; the log has them all.
const TURNS_KEPT: usize = 256;
/// Permissions that are remembered as answered; older ones are not found.
const ANSWERED_KEPT: usize = 256;

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The user closed it.
    Closed,
    /// No turn for too long.
    Idle,
    /// Too old.
    Expired,
    /// The agent ended by itself.
    AgentExited,
    /// The sandbox ran out of memory.
    OutOfMemory,
    /// The sandbox is gone.
    SandboxLost,
    /// The server stopped.
    Shutdown,
}

impl EndReason {
    /// Its text in events and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Idle => "idle",
            Self::Expired => "expired",
            Self::AgentExited => "agent_exited",
            Self::OutOfMemory => "out_of_memory",
            Self::SandboxLost => "sandbox_lost",
            Self::Shutdown => "shutdown",
        }
    }
}

/// Why a lease did not start warm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColdReason {
    /// The stock was empty.
    Empty,
    /// An existing workspace needed a new agent session.
    Workspace,
    /// The stock was being replaced because the template changed.
    TemplateChanged,
    /// The template keeps no stock at present.
    OverTarget,
}

impl ColdReason {
    /// Its text in events and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Workspace => "workspace",
            Self::TemplateChanged => "template_changed",
            Self::OverTarget => "over_target",
        }
    }
}

/// How a session came to its sandbox.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct LeaseTimes {
    /// Why a warm start could not be; none: it was one.
    pub cold: Option<ColdReason>,
    /// Waiting for the sandbox.
    pub wait: Duration,
    /// Moving the workspace.
    pub workspace: Duration,
    /// Making the agent ready for it.
    pub agent: Duration,
    /// All together.
    pub total: Duration,
}

/// Tokens, summed up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// Read by the model.
    pub input: u64,
    /// Written by the model.
    pub output: u64,
}

impl std::ops::AddAssign for Tokens {
    fn add_assign(&mut self, other: Self) {
        self.input += other.input;
        self.output += other.output;
    }
}

/// How a turn is or was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TurnState {
    /// The agent works.
    Running,
    /// Over, with ACP's stop reason.
    Ended(String),
    /// Failed, with a public sentence.
    Failed(#[serde(with = "super::record::code")] Code, String),
}

/// One turn.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Turn {
    /// Counts the session's turns from 1; also the number of its request to the agent.
    pub number: u64,
    /// Its id.
    pub id: TurnId,
    /// How it is.
    pub state: TurnState,
    /// Its tokens so far.
    pub tokens: Tokens,
    /// Its first event.
    pub first_seq: u64,
    /// Its last event, once it is over.
    pub last_seq: Option<u64>,
    /// When it began.
    pub created_at: Timestamp,
    /// Which pieces of the agent's input its prompt is.
    pub pieces: Pieces,
    /// It was asked to end.
    pub cancelling: bool,
    /// A deadline asked it to end: why.
    pub overdue: Option<String>,
}

/// A permission: open, or with its answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Permission {
    /// Counts the session's permissions from 1.
    pub number: u64,
    /// Its id.
    pub id: PermissionId,
    /// The turn that asks.
    pub turn: TurnId,
    /// The agent's number for it.
    pub request: u64,
    /// The agent's own id of the request.
    pub agent_id: Value,
    /// What the agent wants to do.
    pub tool_call: Value,
    /// The answers on offer.
    pub options: Vec<PermissionOption>,
    /// When it was asked.
    pub requested_at: Timestamp,
    /// When it is denied if nobody answers.
    pub expires_at: Timestamp,
    /// Its answer: the chosen option, or none for cancelled. None: it is open.
    pub answer: Option<Option<String>>,
}

/// Kinds of options as ACP names them; agents may make up others.
const OPTION_KINDS: [&str; 4] = ["allow_once", "allow_always", "reject_once", "reject_always"];

impl Permission {
    /// What kind of answer this option is; none cancels.
    #[must_use]
    pub fn answer_kind(&self, option_id: Option<&str>) -> &'static str {
        let Some(option_id) = option_id else { return "cancelled" };
        let chosen = self.options.iter().find(|option| option.option_id == option_id);
        let kind = OPTION_KINDS.into_iter().find(|kind| chosen.is_some_and(|option| option.kind == *kind));
        kind.unwrap_or("other")
    }
}

/// What never changes in a session's life.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Identity {
    /// Whose it is.
    pub user: UserId,
    /// The tier it was opened under: its budget is that tier's. None: the usual one.
    #[serde(default)]
    pub tier: Option<TierName>,
    /// Its template.
    pub template: TemplateName,
    /// Its workspace.
    pub workspace: WorkspaceName,
    /// The workspace is kept when it is empty: its user gave it its name.
    pub named: bool,
    /// Its sandbox's slot.
    pub slot: SlotId,
    /// What its agent's protocol must know to take it up again.
    pub memory: Value,
    /// It is its user's session for the simple door.
    pub default: bool,
    /// When it was opened.
    pub created_at: Timestamp,
    /// How it came to its sandbox.
    pub lease: LeaseTimes,
}

/// What its user may change.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Preferences {
    /// Counts the changes, from 1.
    pub version: u64,
    /// The agent's mode, if the user set it.
    pub mode: Option<String>,
    /// The model, if the user set it.
    pub model: Option<String>,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// When it ends at the latest.
    pub expires_at: Timestamp,
    /// It ends after this long without a turn.
    pub idle_timeout: Duration,
    /// What is allowed without asking.
    pub permissions: PermissionPolicy,
    /// What its tools may reach beyond its template's list, within the template's offer.
    #[serde(default)]
    pub egress: Vec<HostPattern>,
    /// Its user brought a key of their own for the model, which is written down nowhere.
    pub own_key: bool,
    /// The name of the user's key for the model that it uses, if it uses one that is kept.
    #[serde(default)]
    pub credential: Option<CredentialName>,
}

#[cfg(test)]
impl Identity {
    /// Some session of this user's, for tests that care about something else.
    pub(super) fn sample(user: UserId) -> Self {
        let lease = LeaseTimes {
            cold: None,
            wait: Duration::ZERO,
            workspace: Duration::ZERO,
            agent: Duration::ZERO,
            total: Duration::ZERO,
        };
        Self {
            user,
            tier: None,
            template: TemplateName::parse("gemini").expect("a good name"),
            workspace: WorkspaceName::parse("notes").expect("a good name"),
            named: true,
            slot: SlotId::random(),
            memory: Value::Null,
            default: false,
            created_at: Timestamp::now(),
            lease,
        }
    }
}

#[cfg(test)]
impl Preferences {
    /// Some preferences, for tests that care about something else.
    pub(super) fn sample() -> Self {
        Self {
            version: 1,
            mode: None,
            model: None,
            labels: BTreeMap::new(),
            expires_at: Timestamp::MAX,
            idle_timeout: Duration::from_secs(600),
            permissions: PermissionPolicy::default(),
            egress: Vec::new(),
            own_key: false,
            credential: None,
        }
    }
}

/// What changes.
#[derive(Debug)]
pub struct Status {
    /// Where it is.
    pub stage: Stage,
    /// The last prompt, answer or end of a turn.
    pub last_active_at: Timestamp,
    /// What its user may change.
    pub preferences: Preferences,
    /// Its user's own key is not known any more: the server was restarted, or the key was taken away where it was kept.
    pub needs_credential: bool,
    /// Its latest turns, oldest first.
    pub turns: VecDeque<Turn>,
    /// How many there were.
    pub turn_count: u64,
    /// Open permissions.
    pub permissions: BTreeMap<PermissionId, Permission>,
    /// The latest permissions that have their answer, oldest first.
    pub answered: VecDeque<PermissionId>,
    /// How many permissions there were.
    pub permission_count: u64,
    /// Tokens so far.
    pub tokens: Tokens,
    /// What its tools may reach now, and have sent and received. Shared with its gateway.
    pub egress: Egress,
    /// Why it is over, and a sentence for people.
    pub end: Option<(EndReason, String)>,
}

impl Status {
    /// Of a session that was just opened.
    #[must_use]
    pub fn new(preferences: Preferences) -> Self {
        Self {
            stage: Stage::Ready,
            last_active_at: Timestamp::now(),
            preferences,
            needs_credential: false,
            turns: VecDeque::new(),
            turn_count: 0,
            permissions: BTreeMap::new(),
            answered: VecDeque::new(),
            permission_count: 0,
            tokens: Tokens::default(),
            egress: Egress::nothing(),
            end: None,
        }
    }

    /// The turn that runs.
    #[must_use]
    pub fn running(&self) -> Option<&Turn> {
        self.turns.back().filter(|turn| turn.state == TurnState::Running)
    }

    pub(super) fn running_mut(&mut self) -> Option<&mut Turn> {
        self.turns.back_mut().filter(|turn| turn.state == TurnState::Running)
    }

    pub(super) fn add_permission(&mut self, permission: Permission) {
        self.permission_count = self.permission_count.max(permission.number);
        if permission.answer.is_none() {
            self.permissions.insert(permission.id.clone(), permission);
        } else {
            self.remember_answered(permission.id);
        }
    }

    /// Takes an open permission out: it has its answer.
    pub(super) fn take_permission(&mut self, id: &PermissionId) -> Option<Permission> {
        let permission = self.permissions.remove(id)?;
        self.remember_answered(id.clone());
        Some(permission)
    }

    fn remember_answered(&mut self, id: PermissionId) {
        self.answered.push_back(id);
        if self.answered.len() > ANSWERED_KEPT {
            self.answered.pop_front();
        }
    }

    pub(super) fn add_turn(&mut self, turn: Turn) {
        self.turn_count = self.turn_count.max(turn.number);
        self.turns.push_back(turn);
        if self.turns.len() > TURNS_KEPT {
            self.turns.pop_front();
        }
    }
}
