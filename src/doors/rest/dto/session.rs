//! Sessions.

use std::{collections::BTreeMap, time::Duration};

use poem_openapi::{
    Enum, Object,
    types::{Example, Password},
};
use secrecy::SecretString;

use super::{Time, Usage, milliseconds};
use crate::{
    ids::{NameError, TemplateName, WorkspaceName},
    problem::{Code, Problem},
    service::view::{self, ColdReason, EndReason, LeaseView, Page, SessionState, SessionView},
};

/// Labels a session may have.
const LABELS_MAX: usize = 16;
/// The longest key or value of a label, in characters.
const LABEL_LENGTH_MAX: usize = 64;
/// The longest name of a mode or model, in bytes.
const NAME_LENGTH_MAX: usize = 128;
/// The longest API key, in bytes.
const API_KEY_LENGTH_MAX: usize = 512;

/// A request to open a session. Everything may be left out.
#[derive(Default, Object)]
#[oai(deny_unknown_fields, example)]
pub struct OpenSession {
    /// Which template; left out: the only one, or `gemini`.
    #[oai(validator(pattern = "^[a-z0-9][a-z0-9._-]{0,63}$"))]
    pub template: Option<String>,
    /// Which of the user's workspaces; left out: a new one. Held by one session at a time.
    #[oai(validator(pattern = "^[a-z0-9][a-z0-9._-]{0,63}$"))]
    pub workspace: Option<String>,
    /// The user's own access to the model API; left out: the server's.
    pub credential: Option<Credential>,
    /// The agent's mode, in its own words, such as `yolo` or `plan`.
    pub mode: Option<String>,
    /// The model, in the agent's own words.
    pub model: Option<String>,
    /// The user's labels: at most 16, keys and values of at most 64 characters.
    pub labels: Option<BTreeMap<String, String>>,
    /// The session ends after this long without a turn, in seconds. Never longer than the server allows.
    #[oai(validator(minimum(value = "1")))]
    pub idle_timeout_s: Option<u32>,
    /// The session ends at this age, in seconds. Never longer than the server allows.
    #[oai(validator(minimum(value = "1")))]
    pub max_age_s: Option<u32>,
    /// How long to wait for a sandbox when none is free, in seconds; 0: not at all. Never longer than the server allows.
    pub queue_timeout_s: Option<u32>,
}

impl Example for OpenSession {
    fn example() -> Self {
        Self {
            template: Some("gemini".to_owned()),
            workspace: Some("notes".to_owned()),
            labels: Some(BTreeMap::from([("team".to_owned(), "docs".to_owned())])),
            idle_timeout_s: Some(600),
            ..Self::default()
        }
    }
}

/// The user's own access to the model API. Kept in memory while the session lives, sent to the model API only.
#[derive(Object)]
#[oai(deny_unknown_fields)]
pub struct Credential {
    /// The API key.
    pub api_key: Password,
}

impl TryFrom<OpenSession> for view::OpenSession {
    type Error = Problem;

    fn try_from(request: OpenSession) -> Result<Self, Problem> {
        let seconds = |value: Option<u32>| value.map(|value| Duration::from_secs(value.into()));
        Ok(Self {
            template: checked("template", request.template, TemplateName::parse)?,
            workspace: checked("workspace", request.workspace, WorkspaceName::parse)?,
            api_key: request.credential.map(|credential| api_key(credential.api_key)).transpose()?,
            mode: short_name("mode", request.mode)?,
            model: short_name("model", request.model)?,
            labels: labels(request.labels.unwrap_or_default())?,
            idle_timeout: seconds(request.idle_timeout_s),
            max_age: seconds(request.max_age_s),
            queue_timeout: seconds(request.queue_timeout_s),
        })
    }
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Code::InvalidRequest, detail)
}

fn checked<T>(
    field: &str,
    text: Option<String>,
    parse: impl Fn(&str) -> Result<T, NameError>,
) -> Result<Option<T>, Problem> {
    text.map(|text| parse(&text).map_err(|fault| invalid(format!("{field} {fault}")))).transpose()
}

fn short_name(field: &str, text: Option<String>) -> Result<Option<String>, Problem> {
    match text {
        Some(text) if text.is_empty() || text.len() > NAME_LENGTH_MAX || text.contains(char::is_control) => {
            Err(invalid(format!("{field} must have 1 to {NAME_LENGTH_MAX} bytes and no control characters")))
        }
        text => Ok(text),
    }
}

fn api_key(key: Password) -> Result<SecretString, Problem> {
    let key = key.0;
    if key.is_empty() || key.len() > API_KEY_LENGTH_MAX || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(invalid(format!(
            "credential.api_key must have 1 to {API_KEY_LENGTH_MAX} visible ASCII characters"
        )));
    }
    Ok(key.into())
}

fn labels(labels: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Problem> {
    let fits = |text: &str| text.chars().count() <= LABEL_LENGTH_MAX && !text.contains(char::is_control);
    if labels.len() > LABELS_MAX {
        return Err(invalid(format!("there may be {LABELS_MAX} labels")));
    }
    if !labels.iter().all(|(key, value)| !key.is_empty() && fits(key) && fits(value)) {
        return Err(invalid(format!(
            "labels must have keys of 1 to {LABEL_LENGTH_MAX} characters and values of at most {LABEL_LENGTH_MAX}, without control characters"
        )));
    }
    Ok(labels)
}

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

impl From<LeaseView> for Lease {
    fn from(lease: LeaseView) -> Self {
        Self {
            start: if lease.warm { Start::Warm } else { Start::Cold },
            reason: lease.reason.map(|reason| match reason {
                ColdReason::Empty => Cold::Empty,
                ColdReason::Workspace => Cold::Workspace,
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
    /// How it came to its sandbox.
    pub lease: Lease,
    /// The number of the newest event.
    pub last_seq: u64,
    /// Permissions that are open.
    pub pending_permissions: u64,
    /// Tokens so far.
    pub usage: Usage,
    /// Why it is over, if it is.
    #[oai(nullable)]
    pub end: Option<SessionEnd>,
}

impl From<SessionView> for Session {
    fn from(session: SessionView) -> Self {
        Self {
            id: session.id.to_string(),
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
            lease: session.lease.into(),
            last_seq: session.last_seq,
            pending_permissions: session.pending_permissions as u64,
            usage: session.usage.into(),
            end: session.end.map(Into::into),
        }
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
