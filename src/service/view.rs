//! What the use cases take and give: plain data, the same for every door.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::Value;

use crate::{
    agent::PermissionOption,
    config::{HostPattern, PermissionPolicy},
    identity::Scope,
    ids::{CredentialName, PermissionId, SessionId, SlotId, TemplateName, TierName, TurnId, UserId, WorkspaceName},
    pool::pools::SandboxFigures,
};

pub use crate::gateway::{Standing, Traffic, Window};
pub use crate::limits::FileLimits;
pub use crate::pool::{
    Failure as PoolFailure, Misses as PoolMisses, Mode as PoolMode, PoolFigures, Tally, figures::Histogram,
};
pub use crate::sandbox::census::{Counts, SandboxState};
pub use crate::session::status::{ColdReason, EndReason, LeaseTimes, Tokens, TurnState};

/// A user's access to the model API.
#[derive(Debug, Clone)]
pub enum Credential {
    /// The key itself.
    ApiKey(SecretString),
    /// The name of one that is kept.
    Named(CredentialName),
}

/// A key that is kept, as far as it may be shown.
#[derive(Debug, Clone)]
pub struct CredentialView {
    /// Its name.
    pub name: CredentialName,
    /// When it was first put there.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A request to open a session. Names are checked by the door that took them in.
#[derive(Debug, Clone, Default)]
pub struct OpenSession {
    /// Which template; none: the only one, or `gemini`.
    pub template: Option<TemplateName>,
    /// Which workspace; none: a new one with a made-up name.
    pub workspace: Option<WorkspaceName>,
    /// The user's own key for the model API.
    pub credential: Option<Credential>,
    /// The agent's mode.
    pub mode: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// The user's labels: at most 16, keys and values of at most 64 characters.
    pub labels: BTreeMap<String, String>,
    /// Instead of the configured one; never longer.
    pub idle_timeout: Option<Duration>,
    /// Instead of the configured one; never longer.
    pub max_age: Option<Duration>,
    /// Instead of the configured one; never longer.
    pub queue_timeout: Option<Duration>,
    /// What becomes of the agent's requests, within the template's policy; none: that.
    pub permissions: Option<PermissionPolicy>,
    /// What its tools may reach beyond its template's list, within the template's offer.
    pub egress: Vec<HostPattern>,
    /// It is the user's session for the simple door.
    pub default: bool,
}

/// A request to change a session. What is none stays.
#[derive(Debug, Clone, Default)]
pub struct ChangeSession {
    /// All labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// The agent's mode.
    pub mode: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// Never longer than the configured one.
    pub idle_timeout: Option<Duration>,
    /// Counts from the opening; never longer than the configured one.
    pub max_age: Option<Duration>,
    /// What becomes of the agent's requests, within the template's policy.
    pub permissions: Option<PermissionPolicy>,
    /// All that its tools may reach beyond its template's list, within the template's offer.
    pub egress: Option<Vec<HostPattern>>,
    /// The user's own key for the model API.
    pub credential: Option<Credential>,
}

/// What a session is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    /// Takes a prompt.
    Ready,
    /// A turn runs.
    Running,
    /// A permission is open.
    Waiting,
    /// Over.
    Ended,
}

/// A session as its owner sees it.
#[derive(Debug, Clone)]
pub struct SessionView {
    /// Its id.
    pub id: SessionId,
    /// Whose it is.
    pub user: UserId,
    /// What it is doing.
    pub state: SessionState,
    /// Its template.
    pub template: TemplateName,
    /// Its workspace.
    pub workspace: WorkspaceName,
    /// The agent's mode, if it was set.
    pub mode: Option<String>,
    /// The model, if it was set.
    pub model: Option<String>,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// When it was opened.
    pub created_at: Timestamp,
    /// The last prompt, answer or end of a turn.
    pub last_active_at: Timestamp,
    /// When it ends at the latest.
    pub expires_at: Timestamp,
    /// It ends after this long without a turn.
    pub idle_timeout: Duration,
    /// What becomes of the agent's requests.
    pub permissions: PermissionPolicy,
    /// What its tools may reach now beside the model, and have sent and received.
    pub egress: (Vec<HostPattern>, Traffic),
    /// Counts the changes of what its user may change.
    pub version: u64,
    /// The name of the user's key it uses, if it uses one that is kept.
    pub credential: Option<CredentialName>,
    /// Its key isn't there any more, and its user has to give another: it was lost with a restart, or taken away where it was kept.
    pub needs_credential: bool,
    /// How it came to its sandbox.
    pub lease: LeaseTimes,
    /// The number of the newest event.
    pub last_seq: u64,
    /// Permissions that are open.
    pub pending_permissions: usize,
    /// Tokens so far.
    pub usage: Tokens,
    /// How it stands with its own budget, if it has one.
    pub budget: Option<Standing>,
    /// Why it is over, if it is, with a sentence for people.
    pub end: Option<(EndReason, String)>,
}

/// A turn as its owner sees it.
#[derive(Debug, Clone)]
pub struct TurnView {
    /// Its id.
    pub id: TurnId,
    /// Its session.
    pub session: SessionId,
    /// What it is doing.
    pub state: TurnState,
    /// Tokens so far.
    pub usage: Tokens,
    /// The number of its first event.
    pub first_seq: u64,
    /// The number of its last event, once it is over.
    pub last_seq: Option<u64>,
    /// When it began.
    pub created_at: Timestamp,
}

/// An open permission.
#[derive(Debug, Clone)]
pub struct PermissionView {
    /// Its id.
    pub id: PermissionId,
    /// The turn it belongs to.
    pub turn: TurnId,
    /// What the agent wants to do.
    pub tool_call: Value,
    /// The answers on offer.
    pub options: Vec<PermissionOption>,
    /// When it was asked.
    pub requested_at: Timestamp,
    /// When it is denied if nobody answers.
    pub expires_at: Timestamp,
}

/// The user's answer to a permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PermissionAnswer {
    /// One of its options.
    Option(String),
    /// None of them.
    Cancelled,
}

/// A page of a longer list.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The entries.
    pub items: Vec<T>,
    /// Where the next page begins; none: this was the last.
    pub next_cursor: Option<String>,
}

/// One pool, for operators and the curious.
#[derive(Debug, Clone)]
pub struct PoolView {
    /// Its template.
    pub template: TemplateName,
    /// How it is.
    pub figures: PoolFigures,
}

/// How many warm sandboxes a pool is to keep; none: as many as now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResizePool {
    /// However few are asked for.
    pub min: Option<usize>,
    /// However many are asked for.
    pub max: Option<usize>,
}

/// One sandbox, for operators.
#[derive(Debug, Clone)]
pub struct SandboxView {
    /// Its id.
    pub id: SlotId,
    /// What it was made from.
    pub template: TemplateName,
    /// What it is doing.
    pub state: SandboxState,
    /// How long ago its start began.
    pub age: Duration,
    /// Whether it was made before its template changed.
    pub stale: bool,
    /// The memory it used when it was last looked at, in bytes.
    pub memory_bytes: Option<u64>,
}

impl From<SandboxFigures> for SandboxView {
    fn from(figures: SandboxFigures) -> Self {
        let SandboxFigures { slot, record, stale } = figures;
        let (age, memory_bytes) = (record.since.elapsed(), record.memory_bytes);
        Self { id: slot, template: record.template, state: record.state, age, stale, memory_bytes }
    }
}

/// What a user may and what is left of it.
#[derive(Debug, Clone)]
pub struct MeView {
    /// Who the caller is.
    pub user: String,
    /// What their token allows, also what its scopes include.
    pub scopes: Vec<Scope>,
    /// The tier their limits are of; none: the usual ones.
    pub tier: Option<TierName>,
    /// Open sessions, and how many may be open.
    pub sessions: (usize, usize),
    /// Open streams, and how many may be open.
    pub streams: (usize, usize),
    /// Opens that may be made at once now, and the burst.
    pub opens: (u32, u32),
    /// Prompts that may be sent at once now, and the burst.
    pub prompts: (u32, u32),
    /// Other calls that may be made at once now, and the burst.
    pub reads: (u32, u32),
    /// How large workspaces, files and archives may be.
    pub files: FileLimits,
    /// All tokens they ever used, over restarts too.
    pub usage: Tokens,
    /// How it stands with their budgets of the clock.
    pub budgets: Vec<Standing>,
}

/// Whether the server can serve.
#[derive(Debug, Clone)]
pub struct Readiness {
    /// All is well.
    pub ready: bool,
    /// What isn't, a public sentence each.
    pub reasons: Vec<String>,
}

/// A prompt, as ACP content blocks.
#[derive(Debug, Clone)]
pub struct Prompt {
    /// At least one block.
    pub content: Arc<[Value]>,
}

/// A template, as users see it.
#[derive(Debug, Clone)]
pub struct TemplateView {
    /// Its name.
    pub name: TemplateName,
    /// How its agent talks: `acp` or `lines`.
    pub protocol: &'static str,
    /// Whether it is leased when an open names none.
    pub default: bool,
}
