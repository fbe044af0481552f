//! Events: the numbered entries of a session's log, the one shape every door sends.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::{SessionId, TurnId};

/// What an event is about; the text is what clients switch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EventType {
    /// The session is open; content: the lease.
    #[serde(rename = "session.ready")]
    SessionReady,
    /// A turn began.
    #[serde(rename = "turn.started")]
    TurnStarted,
    /// A piece of the agent's answer.
    #[serde(rename = "message.delta")]
    MessageDelta,
    /// A piece of its thinking.
    #[serde(rename = "thought.delta")]
    ThoughtDelta,
    /// A tool call began.
    #[serde(rename = "tool.started")]
    ToolStarted,
    /// A tool call changed.
    #[serde(rename = "tool.updated")]
    ToolUpdated,
    /// The agent's plan changed.
    #[serde(rename = "plan.updated")]
    PlanUpdated,
    /// The agent asks to be allowed something.
    #[serde(rename = "permission.requested")]
    PermissionRequested,
    /// A permission has its answer.
    #[serde(rename = "permission.resolved")]
    PermissionResolved,
    /// Tokens of one model call.
    #[serde(rename = "usage.updated")]
    UsageUpdated,
    /// Any other update of the agent, raw.
    #[serde(rename = "agent.update")]
    AgentUpdate,
    /// A line the agent wrote for people.
    #[serde(rename = "agent.log")]
    AgentLog,
    /// The turn is over.
    #[serde(rename = "turn.ended")]
    TurnEnded,
    /// The turn failed; content: a problem.
    #[serde(rename = "turn.failed")]
    TurnFailed,
    /// The session is over; always the last event.
    #[serde(rename = "session.ended")]
    SessionEnded,
}

impl EventType {
    /// Every type, in the order of the contract.
    pub const ALL: [Self; 15] = [
        Self::SessionReady,
        Self::TurnStarted,
        Self::MessageDelta,
        Self::ThoughtDelta,
        Self::ToolStarted,
        Self::ToolUpdated,
        Self::PlanUpdated,
        Self::PermissionRequested,
        Self::PermissionResolved,
        Self::UsageUpdated,
        Self::AgentUpdate,
        Self::AgentLog,
        Self::TurnEnded,
        Self::TurnFailed,
        Self::SessionEnded,
    ];

    /// The text clients switch on, such as `message.delta`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SessionReady => "session.ready",
            Self::TurnStarted => "turn.started",
            Self::MessageDelta => "message.delta",
            Self::ThoughtDelta => "thought.delta",
            Self::ToolStarted => "tool.started",
            Self::ToolUpdated => "tool.updated",
            Self::PlanUpdated => "plan.updated",
            Self::PermissionRequested => "permission.requested",
            Self::PermissionResolved => "permission.resolved",
            Self::UsageUpdated => "usage.updated",
            Self::AgentUpdate => "agent.update",
            Self::AgentLog => "agent.log",
            Self::TurnEnded => "turn.ended",
            Self::TurnFailed => "turn.failed",
            Self::SessionEnded => "session.ended",
        }
    }

    /// Whether the agent said it, to its user.
    #[must_use]
    pub const fn is_of_the_agent(self) -> bool {
        matches!(
            self,
            Self::MessageDelta
                | Self::ThoughtDelta
                | Self::ToolStarted
                | Self::ToolUpdated
                | Self::PlanUpdated
                | Self::PermissionRequested
                | Self::AgentUpdate
        )
    }

    /// Whether a turn's stream ends with this event.
    #[must_use]
    pub const fn ends_turn(self) -> bool {
        matches!(self, Self::TurnEnded | Self::TurnFailed | Self::SessionEnded)
    }
}

/// One entry of a session's log, serialised once: every reader sends the same bytes, and none makes a copy of a large one.
#[derive(Debug, Clone)]
pub struct Event {
    /// Counts from 1 without holes.
    pub seq: u64,
    /// What it is about.
    pub kind: EventType,
    /// The turn it belongs to, if any.
    pub turn: Option<TurnId>,
    /// The whole object `{seq, type, time, session_id, turn_id?, content}` as JSON text without line breaks.
    pub json: Bytes,
}

impl Event {
    /// Makes and serialises an event.
    #[must_use]
    pub fn new(seq: u64, kind: EventType, session: &SessionId, turn: Option<TurnId>, content: &Value) -> Self {
        #[derive(Serialize)]
        struct Shape<'a> {
            seq: u64,
            r#type: EventType,
            time: Timestamp,
            session_id: &'a SessionId,
            #[serde(skip_serializing_if = "Option::is_none")]
            turn_id: Option<&'a TurnId>,
            content: &'a Value,
        }
        let shape =
            Shape { seq, r#type: kind, time: Timestamp::now(), session_id: session, turn_id: turn.as_ref(), content };
        let json = serde_json::to_vec(&shape).expect("maps with text keys and plain values always serialise");
        Self { seq, kind, turn, json: json.into() }
    }

    /// Reads an event that was written down before; none if the text is not one.
    #[must_use]
    pub fn read(seq: u64, json: Bytes) -> Option<Self> {
        #[derive(Deserialize)]
        struct Head {
            r#type: EventType,
            turn_id: Option<TurnId>,
        }
        let Head { r#type: kind, turn_id: turn } = serde_json::from_slice(&json).ok()?;
        Some(Self { seq, kind, turn, json })
    }
}
