//! One line of the audit log. What a field may hold is in `docs/operations.md`; content of any kind is in none.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Serialize;

use crate::ids::{PermissionId, SessionId, TemplateName, TurnId, UserId, WorkspaceName};

/// The outcome of what worked.
pub(super) const OK: &str = "ok";
/// The outcome of a call whose client left before it was answered: it may have come to something or not.
pub(super) const CLIENT_LEFT: &str = "client_left";

/// Everything a line can say; what is none is left out.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Line {
    /// When it was known.
    pub time: Timestamp,
    /// The operation's id in the document, or the event's name.
    pub action: Cow<'static, str>,
    /// `ok`, a problem's code, or `client_left`.
    pub outcome: &'static str,
    #[serde(flatten)]
    pub facts: Facts,
}

/// What a line says beside that.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Facts {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// `operators` for their calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub door: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// Whose thing it is, where that is somebody else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<UserId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace: Option<WorkspaceName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn: Option<TurnId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permission: Option<PermissionId>,
    /// An API key's id, a stored key's name, a sandbox's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// The host and port of a way out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Why, in a word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// Who answered: `user`, `policy`, `timeout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<&'static str>,
    /// What somebody tried who did not prove who they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<&'static str>,
    /// How many lines are missing here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lines: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
}

impl Line {
    /// What happened now.
    pub fn new(action: impl Into<Cow<'static, str>>, outcome: &'static str, facts: Facts) -> Self {
        Self { time: Timestamp::now(), action: action.into(), outcome, facts }
    }

    /// The line as it is written, its end included.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).expect("texts and numbers are JSON");
        bytes.push(b'\n');
        bytes
    }
}
