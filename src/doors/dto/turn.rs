//! Turns.

use poem_openapi::{Enum, Object};

use super::{Time, Usage, text::CodeText};
use crate::service::view::{TurnState, TurnView};

/// What a turn is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "TurnState", rename_all = "snake_case")]
pub enum State {
    /// The agent works.
    Running,
    /// Over; `stop_reason` says how.
    Ended,
    /// Failed; `failure` says why.
    Failed,
}

/// Why a turn failed.
#[derive(Debug, Clone, Object)]
pub struct TurnFailure {
    /// The stable code.
    pub code: CodeText,
    /// A sentence for people.
    pub detail: String,
}

/// A turn: one prompt, to its end.
#[derive(Debug, Clone, Object)]
pub struct Turn {
    /// Its id.
    pub id: String,
    /// Its session.
    pub session_id: String,
    /// What it is doing.
    pub state: State,
    /// Why it stopped, in ACP's words: `end_turn`, `max_tokens`, `max_turn_requests`, `refusal` or `cancelled`.
    #[oai(nullable)]
    pub stop_reason: Option<String>,
    /// Why it failed, if it did.
    #[oai(nullable)]
    pub failure: Option<TurnFailure>,
    /// Tokens so far.
    pub usage: Usage,
    /// The number of its first event.
    pub first_seq: u64,
    /// The number of its last event, once it is over.
    #[oai(nullable)]
    pub last_seq: Option<u64>,
    /// When it began.
    pub created_at: Time,
}

impl From<TurnView> for Turn {
    fn from(turn: TurnView) -> Self {
        let (state, stop_reason, failure) = match turn.state {
            TurnState::Running => (State::Running, None, None),
            TurnState::Ended(reason) => (State::Ended, Some(reason), None),
            TurnState::Failed(code, detail) => {
                (State::Failed, None, Some(TurnFailure { code: CodeText(code), detail }))
            }
        };
        Self {
            id: turn.id.to_string(),
            session_id: turn.session.to_string(),
            state,
            stop_reason,
            failure,
            usage: turn.usage.into(),
            first_seq: turn.first_seq,
            last_seq: turn.last_seq,
            created_at: Time(turn.created_at),
        }
    }
}
