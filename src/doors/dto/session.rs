//! Sessions.

use std::collections::BTreeMap;

use poem_openapi::{Enum, Object};

use super::{Time, Usage, budget::Budget, credential::SessionCredential, milliseconds, policy::PermissionPolicy};
use crate::{
    config::HostPattern,
    service::view::{ColdReason, EndReason, LeaseTimes, Page, SessionState, SessionView, Traffic},
};

/// What a session is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "SessionState", rename_all = "snake_case")]
pub enum State {
    /// It takes a prompt.
    Ready,
    /// A turn runs.
    Running,
    /// A permission is open.
    Waiting,
    /// It is over.
    Ended,
}

impl From<SessionState> for State {
    fn from(state: SessionState) -> Self {
        match state {
            SessionState::Ready => Self::Ready,
            SessionState::Running => Self::Running,
            SessionState::Waiting => Self::Waiting,
            SessionState::Ended => Self::Ended,
        }
    }
}

impl From<State> for SessionState {
    fn from(state: State) -> Self {
        match state {
            State::Ready => Self::Ready,
            State::Running => Self::Running,
            State::Waiting => Self::Waiting,
            State::Ended => Self::Ended,
        }
    }
}

/// Whether a ready sandbox was waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub enum Start {
    /// Yes, and nothing had to be started.
    Warm,
    /// No.
    Cold,
}

/// Why a start was not warm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "ColdReason", rename_all = "snake_case")]
pub enum Cold {
    /// The stock was empty.
    Empty,
    /// An existing workspace needed a new agent session.
    Workspace,
    /// The stock was being replaced because the template changed.
    TemplateChanged,
    /// The template keeps no stock at present.
    OverTarget,
}

/// How a session came to its sandbox.
#[derive(Debug, Clone, Object)]
pub struct Lease {
    /// Whether a ready sandbox was waiting.
    pub start: Start,
    /// Why the start was not warm.
    #[oai(nullable)]
    pub reason: Option<Cold>,
    /// Waiting for the sandbox, in milliseconds.
    pub wait_ms: f64,
    /// Moving the workspace, in milliseconds.
    pub workspace_ms: f64,
    /// Making the agent ready for it, in milliseconds.
    pub agent_ms: f64,
    /// All together, in milliseconds.
    pub total_ms: f64,
}

impl From<LeaseTimes> for Lease {
    fn from(lease: LeaseTimes) -> Self {
        Self {
            start: if lease.cold.is_none() { Start::Warm } else { Start::Cold },
            reason: lease.cold.map(|reason| match reason {
                ColdReason::Empty => Cold::Empty,
                ColdReason::Workspace => Cold::Workspace,
                ColdReason::TemplateChanged => Cold::TemplateChanged,
                ColdReason::OverTarget => Cold::OverTarget,
            }),
            wait_ms: milliseconds(lease.wait),
            workspace_ms: milliseconds(lease.workspace),
            agent_ms: milliseconds(lease.agent),
            total_ms: milliseconds(lease.total),
        }
    }
}

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub enum SessionEndReason {
    /// The user closed it.
    Closed,
    /// No turn for too long.
    Idle,
    /// It reached its maximum age.
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

/// Why a session is over, and a sentence for people.
#[derive(Debug, Clone, Object)]
pub struct SessionEnd {
    /// Why.
    pub reason: SessionEndReason,
    /// A sentence for people.
    pub detail: String,
}

impl From<(EndReason, String)> for SessionEnd {
    fn from((reason, detail): (EndReason, String)) -> Self {
        let reason = match reason {
            EndReason::Closed => SessionEndReason::Closed,
            EndReason::Idle => SessionEndReason::Idle,
            EndReason::Expired => SessionEndReason::Expired,
            EndReason::AgentExited => SessionEndReason::AgentExited,
            EndReason::OutOfMemory => SessionEndReason::OutOfMemory,
            EndReason::SandboxLost => SessionEndReason::SandboxLost,
            EndReason::Shutdown => SessionEndReason::Shutdown,
        };
        Self { reason, detail }
    }
}

/// A session.
#[derive(Debug, Clone, Object)]
pub struct Session {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub user: String,
    /// What it is doing.
    pub state: State,
    /// Its template.
    pub template: String,
    /// Its workspace.
    pub workspace: String,
    /// The agent's mode, if it was set.
    #[oai(nullable)]
    pub mode: Option<String>,
    /// The model, if it was set.
    #[oai(nullable)]
    pub model: Option<String>,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// When it was opened.
    pub created_at: Time,
    /// The last prompt, answer or end of a turn.
    pub last_active_at: Time,
    /// When it ends at the latest.
    pub expires_at: Time,
    /// It ends after this long without a turn, in seconds.
    pub idle_timeout_s: u64,
    /// The policy in force: what becomes of the agent's requests for permission.
    pub permissions: PermissionPolicy,
    /// What its agent's tools may reach beside the model.
    pub egress: Egress,
    /// Which of the user's keys that are kept it uses; null: one that was sent with the open, or the server's.
    #[oai(nullable)]
    pub credential: Option<SessionCredential>,
    /// True when its agent's calls of the model API are refused until its user gives it another key: one that was sent with the open is lost with a
    /// restart of the server, for it is never written down; a named one may have been removed.
    pub needs_credential: bool,
    /// How it came to its sandbox.
    pub lease: Lease,
    /// The number of the newest event.
    pub last_seq: u64,
    /// Permissions that are open.
    pub pending_permissions: u64,
    /// Tokens so far.
    pub usage: Usage,
    /// Its own token budget, if it has one; null once it is over.
    #[oai(nullable)]
    pub budget: Option<Budget>,
    /// Why it is over, if it is.
    #[oai(nullable)]
    pub end: Option<SessionEnd>,
}

impl From<SessionView> for Session {
    fn from(session: SessionView) -> Self {
        Self {
            id: session.id.to_string(),
            user: session.user.to_string(),
            state: session.state.into(),
            template: session.template.to_string(),
            workspace: session.workspace.to_string(),
            mode: session.mode,
            model: session.model,
            labels: session.labels,
            created_at: Time(session.created_at),
            last_active_at: Time(session.last_active_at),
            expires_at: Time(session.expires_at),
            idle_timeout_s: session.idle_timeout.as_secs(),
            permissions: session.permissions.into(),
            credential: session.credential.map(|name| SessionCredential { name: name.to_string() }),
            egress: session.egress.into(),
            needs_credential: session.needs_credential,
            lease: session.lease.into(),
            last_seq: session.last_seq,
            pending_permissions: session.pending_permissions as u64,
            usage: session.usage.into(),
            budget: session.budget.map(Into::into),
            end: session.end.map(Into::into),
        }
    }
}

/// What a session's tools may reach beside the model, and what passed.
#[derive(Debug, Clone, Object)]
pub struct Egress {
    /// The template's list and what the session has of its offer. Empty: nothing; so it is once the session is over.
    pub hosts: Vec<String>,
    /// Bytes to those hosts so far, TLS included.
    pub bytes_sent: u64,
    /// Bytes from them so far.
    pub bytes_received: u64,
}

impl From<(Vec<HostPattern>, Traffic)> for Egress {
    fn from((hosts, traffic): (Vec<HostPattern>, Traffic)) -> Self {
        let hosts = hosts.iter().map(ToString::to_string).collect();
        Self { hosts, bytes_sent: traffic.sent, bytes_received: traffic.received }
    }
}

/// Some of the caller's sessions, newest first.
#[derive(Debug, Clone, Object)]
pub struct SessionPage {
    /// The sessions.
    pub items: Vec<Session>,
    /// For `?cursor=`: where the next page begins; null: this was the last.
    #[oai(nullable)]
    pub next_cursor: Option<String>,
}

impl From<Page<SessionView>> for SessionPage {
    fn from(page: Page<SessionView>) -> Self {
        Self { items: page.items.into_iter().map(Into::into).collect(), next_cursor: page.next_cursor }
    }
}
