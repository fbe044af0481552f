//! What the store keeps of a session, and a session made of it again. Pure.
//!
//! The documents are this room's own: the store doesn't look into them. A field that comes later has a default, so that what an earlier version
//! wrote can be read.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    policy::Stage,
    status::{EndReason, Identity, Permission, Preferences, Status, Tokens, Turn},
};
use crate::{
    agent::Mark,
    gateway::{Egress, Traffic},
    ids::{SessionId, SlotId},
    store::{Change, Document, SessionRow, StoredSession},
};

/// A stored document can't be read.
#[derive(Debug, thiserror::Error)]
#[error("the {what} can't be read")]
pub struct Unreadable {
    /// Which document.
    what: &'static str,
    #[source]
    source: serde_json::Error,
}

#[derive(Serialize, Deserialize)]
struct SessionDocument<I = Identity, P = Preferences> {
    identity: I,
    preferences: P,
    last_active_at: Timestamp,
    tokens: Tokens,
    end: Option<(EndReason, String)>,
    /// Of its log, once it is over.
    #[serde(default)]
    log_bytes: usize,
    /// Between its tools and the hosts they reached.
    #[serde(default)]
    traffic: Traffic,
}

/// A session as it was written down.
#[derive(Debug)]
pub struct Restored {
    /// What never changes.
    pub identity: Identity,
    /// What does.
    pub status: Status,
    /// How far its agent was heard.
    pub mark: Mark,
    /// Answers of permissions of the turn that runs, which the agent may not have heard: its own id of each, and the option.
    pub answers: Vec<(serde_json::Value, Option<String>)>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The bytes of its log, if it is over.
    pub log_bytes: usize,
}

/// The session as it is now. `ended_at` is set once it is over.
pub(super) fn session(
    id: &SessionId,
    identity: &Identity,
    status: &Status,
    ended_at: Option<Timestamp>,
    log_bytes: usize,
) -> Change {
    let document = SessionDocument {
        identity,
        preferences: &status.preferences,
        last_active_at: status.last_active_at,
        tokens: status.tokens,
        end: status.end.clone(),
        log_bytes,
        traffic: status.egress.traffic(),
    };
    let document = write(&document);
    Change::Session(SessionRow { session: id.clone(), user: identity.user.clone(), ended_at, document })
}

pub(super) fn turn(id: &SessionId, turn: &Turn) -> Change {
    Change::Turn { session: id.clone(), number: turn.number, document: write(turn) }
}

/// One that has its answer is kept without what was asked for, which may be large and is in the log.
pub(super) fn permission(id: &SessionId, permission: &Permission) -> Change {
    let document = match &permission.answer {
        None => write(permission),
        Some(_) => {
            let (id, turn) = (permission.id.clone(), permission.turn.clone());
            let (agent_id, answer) = (permission.agent_id.clone(), permission.answer.clone());
            write(&Permission {
                id,
                turn,
                agent_id,
                answer,
                tool_call: serde_json::Value::Null,
                options: Vec::new(),
                ..*permission
            })
        }
    };
    Change::Permission { session: id.clone(), number: permission.number, document }
}

pub(super) fn mark(id: &SessionId, mark: &Mark) -> Change {
    Change::Mark { session: id.clone(), document: write(mark) }
}

/// The slot of a stored session's sandbox.
#[must_use]
pub fn slot_of(stored: &StoredSession) -> Option<SlotId> {
    parse::<SessionDocument>("session", &stored.row.document).ok().map(|document| document.identity.slot)
}

/// Reads what was written.
///
/// # Errors
/// It isn't what this version, or an earlier one, writes.
pub fn read(stored: &StoredSession) -> Result<Restored, Unreadable> {
    let SessionDocument { identity, preferences, last_active_at, tokens, end, log_bytes, traffic } =
        parse("session", &stored.row.document)?;
    let mut status = Status::new(preferences);
    status.last_active_at = last_active_at;
    status.tokens = tokens;
    status.egress = Egress::used(traffic);
    status.end = end;
    for document in &stored.turns {
        status.add_turn(parse("turn", document)?);
    }
    let running = status.running().map(|turn| (turn.id.clone(), turn.cancelling));
    let mut answers = BTreeMap::new();
    for document in &stored.permissions {
        let permission: Permission = parse("permission", document)?;
        let current = running.as_ref().is_some_and(|(turn, _)| *turn == permission.turn);
        if let Some(answer) = permission.answer.as_ref().filter(|_| current) {
            answers.insert(permission.number, (permission.agent_id.clone(), answer.clone()));
        }
        status.add_permission(permission);
    }
    status.stage = match (&stored.row.ended_at, running) {
        (Some(_), _) => Stage::Ended,
        (None, Some((_, cancelling))) => Stage::Turn { cancelling },
        (None, None) => Stage::Ready,
    };
    let mark = stored.mark.as_deref().map_or(Ok(Mark::default()), |mark| parse("mark", mark))?;
    let answers = answers.into_values().collect();
    Ok(Restored { identity, status, mark, answers, ended_at: stored.row.ended_at, log_bytes })
}

fn write(document: &impl Serialize) -> Document {
    serde_json::to_string(document).expect("maps with text keys and plain values always serialise")
}

fn parse<'text, T: Deserialize<'text>>(what: &'static str, document: &'text str) -> Result<T, Unreadable> {
    serde_json::from_str(document).map_err(|source| Unreadable { what, source })
}

/// A code by its stable text.
pub(super) mod code {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use crate::problem::Code;

    pub(in crate::session) fn serialize<S: Serializer>(code: &Code, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(code.as_str())
    }

    pub(in crate::session) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Code, D::Error> {
        let text = String::deserialize(deserializer)?;
        Code::ALL
            .iter()
            .copied()
            .find(|code| code.as_str() == text)
            .ok_or_else(|| D::Error::custom(format!("there is no code {text}")))
    }
}
