//! Events, as the document describes them.
//!
//! Nothing is made of these types: an event is serialised once, where it is appended to the log, and every reader is sent the same bytes.
//! A test holds real events against this description.

use poem_openapi::{Enum, Object, Union};
use serde_json::Value;

use super::{
    Time, Usage,
    permission::PermissionOption,
    session::{Lease, SessionEnd},
    text::CodeText,
};

/// A page of events.
#[derive(Object)]
pub struct EventPage {
    /// The events, oldest first; empty: there was none in time.
    pub items: Vec<Event>,
    /// For `?after=`: the number of the last event here, or what was asked for.
    pub next_after: u64,
}

/// The beginning of a turn.
#[derive(Object)]
pub struct TurnBegin {
    /// The turn.
    pub turn_id: String,
    /// What was prompted, as content blocks.
    pub prompt: Vec<Value>,
}

/// A piece of text, or any other content block of the agent.
#[derive(Object)]
pub struct Delta {
    /// The next piece of text.
    pub text: Option<String>,
    /// For other blocks: their kind, such as `image`. The other fields are the block's own.
    #[oai(rename = "type")]
    pub kind: Option<String>,
}

/// A tool call, as the agent gave it.
#[derive(Object)]
pub struct ToolCall {
    /// Names the call.
    pub tool_call_id: String,
    /// For people.
    pub title: Option<String>,
    /// `read`, `edit`, `delete`, `move`, `search`, `execute`, `think`, `fetch` or `other`.
    pub kind: Option<String>,
    /// `pending`, `in_progress`, `completed` or `failed`.
    pub status: Option<String>,
    /// Files it concerns.
    pub locations: Option<Vec<Value>>,
    /// What it produced.
    pub content: Option<Vec<Value>>,
    /// What the tool was given.
    pub raw_input: Option<Value>,
    /// What the tool gave back.
    pub raw_output: Option<Value>,
}

/// The agent's plan.
#[derive(Object)]
pub struct Plan {
    /// Its steps, as the agent gave them.
    pub entries: Vec<Value>,
}

/// The agent asks to be allowed something.
#[derive(Object)]
pub struct PermissionQuestion {
    /// For the answer.
    pub permission_id: String,
    /// What the agent wants to do.
    pub tool_call: Value,
    /// The answers on offer.
    pub options: Vec<PermissionOption>,
}

/// What became of a permission.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub enum PermissionOutcome {
    /// An option was chosen.
    Selected,
    /// None was.
    Cancelled,
}

/// Who answered.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub enum AnsweredBy {
    /// The user.
    User,
    /// The server's policy.
    Policy,
    /// Nobody, in time.
    Timeout,
}

/// The answer to a permission.
#[derive(Object)]
pub struct PermissionResolution {
    /// The permission.
    pub permission_id: String,
    /// What became of it.
    pub outcome: PermissionOutcome,
    /// The option that was chosen.
    #[oai(nullable)]
    pub option_id: Option<String>,
    /// Who answered.
    pub by: AnsweredBy,
}

/// Tokens of one model call.
#[derive(Object)]
pub struct ModelUsage {
    /// The model, as the agent asked for it; empty where neither the call nor its answer named one.
    pub model: String,
    /// Read by the model.
    pub input_tokens: u64,
    /// Written by the model.
    pub output_tokens: u64,
    /// True: the model did not count, such as of a call that was broken off. It is what the call was charged to the budget: the most it can have
    /// used by what passed of it.
    #[oai(skip_serializing_if_is_none)]
    pub estimated: Option<bool>,
}

/// A line the agent wrote for people.
#[derive(Object)]
pub struct LogLine {
    /// `stderr` or `stdout`.
    pub stream: String,
    /// The line.
    pub text: String,
}

/// The end of a turn.
#[derive(Object)]
pub struct TurnEnd {
    /// Why, in ACP's words: `end_turn`, `max_tokens`, `max_turn_requests`, `refusal` or `cancelled`.
    pub stop_reason: String,
    /// The turn's tokens.
    pub usage: Usage,
}

/// The failure of a turn: a problem that has no request.
#[derive(Object)]
pub struct TurnProblem {
    /// A stable name of the code, as a URI.
    #[oai(rename = "type")]
    pub kind: String,
    /// The code in words.
    pub title: String,
    /// The HTTP status that goes with the code.
    pub status: u16,
    /// What happened, and what to do about it.
    pub detail: String,
    /// The stable code.
    pub code: CodeText,
}

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident: $text:literal, $turn:ty, $content:ty;)*) => {
        $($(#[$doc])*
        #[derive(Object)]
        #[oai(skip_serializing_if_is_none)]
        pub struct $name {
            /// The event's number: from 1, without holes. On SSE also the `id`.
            pub seq: u64,
            /// When it was appended to the log.
            pub time: Time,
            /// The session.
            pub session_id: String,
            /// The turn it belongs to.
            pub turn_id: $turn,
            /// What happened.
            pub content: $content,
        })*

        /// One entry of a session's log. New types may come: pass over those you don't know.
        #[derive(Union)]
        #[oai(discriminator_name = "type", one_of)]
        pub enum Event {
            $($(#[$doc])*
            #[oai(mapping = $text)]
            $name($name),)*
        }
    };
}

events! {
    /// The session is open.
    SessionReady: "session.ready", Option<String>, Lease;
    /// A turn began.
    TurnStarted: "turn.started", String, TurnBegin;
    /// A piece of the agent's answer.
    MessageDelta: "message.delta", Option<String>, Delta;
    /// A piece of the agent's thinking.
    ThoughtDelta: "thought.delta", Option<String>, Delta;
    /// A tool call began.
    ToolStarted: "tool.started", Option<String>, ToolCall;
    /// A tool call changed; only what changed is there.
    ToolUpdated: "tool.updated", Option<String>, ToolCall;
    /// The agent's plan changed.
    PlanUpdated: "plan.updated", Option<String>, Plan;
    /// The agent asks to be allowed something and waits for the answer.
    PermissionRequested: "permission.requested", String, PermissionQuestion;
    /// A permission has its answer.
    PermissionResolved: "permission.resolved", Option<String>, PermissionResolution;
    /// The model counted tokens.
    UsageUpdated: "usage.updated", Option<String>, ModelUsage;
    /// Any other update of the agent, raw.
    AgentUpdate: "agent.update", Option<String>, Value;
    /// A line the agent wrote for people.
    AgentLog: "agent.log", Option<String>, LogLine;
    /// The turn is over.
    TurnEnded: "turn.ended", String, TurnEnd;
    /// The turn failed.
    TurnFailed: "turn.failed", String, TurnProblem;
    /// The session is over; always the last event.
    SessionEnded: "session.ended", Option<String>, SessionEnd;
}

#[cfg(test)]
mod tests {
    use poem_openapi::{
        registry::Registry,
        types::{ParseFromJSON as _, Type as _},
    };
    use serde_json::json;

    use super::*;
    use crate::{
        ids::{SessionId, TurnId},
        session::event::{Event as LogEvent, EventType},
    };

    #[test]
    fn every_type_of_the_log_is_described_and_no_other() {
        let mut registry = Registry::new();
        Event::register(&mut registry);
        let described = registry.schemas["Event"].discriminator.as_ref().unwrap();
        let described: Vec<_> = described.mapping.iter().map(|(text, _)| text.as_str()).collect();
        assert_eq!(described, EventType::ALL.map(EventType::as_str));
    }

    #[test]
    fn events_of_the_log_fit_their_description() {
        let problem = json!({
            "type": "urn:greenroom:problem:agent-failed", "title": "x", "status": 502, "detail": "x", "code": "AGENT_FAILED"
        });
        let contents = [
            (
                EventType::SessionReady,
                json!({"start": "warm", "reason": null, "wait_ms": 0.01, "workspace_ms": 0.0, "agent_ms": 0.0, "total_ms": 0.2}),
            ),
            (EventType::TurnStarted, json!({"turn_id": "turn_1", "prompt": [{"type": "text", "text": "x"}]})),
            (EventType::MessageDelta, json!({"text": "x"})),
            (EventType::ThoughtDelta, json!({"type": "image", "data": "AAAA", "mimeType": "image/png"})),
            (EventType::ToolUpdated, json!({"tool_call_id": "1", "status": "completed"})),
            (
                EventType::PermissionResolved,
                json!({"permission_id": "perm_1", "outcome": "cancelled", "option_id": null, "by": "timeout"}),
            ),
            (EventType::AgentUpdate, json!({"sessionUpdate": "available_commands_update"})),
            (
                EventType::TurnEnded,
                json!({"stop_reason": "end_turn", "usage": {"input_tokens": 1, "output_tokens": 2}}),
            ),
            (EventType::TurnFailed, problem),
            (EventType::SessionEnded, json!({"reason": "idle", "detail": "x"})),
        ];
        for (kind, content) in contents {
            let event = LogEvent::new(1, kind, &SessionId::random(), Some(TurnId::random()), &content);
            let text = std::str::from_utf8(&event.json).unwrap();
            let parsed = Event::parse_from_json_string(text);
            assert!(parsed.is_ok(), "{text}: {:?}", parsed.err().map(|fault| fault.into_message()));
        }
    }
}
