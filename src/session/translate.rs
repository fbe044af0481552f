//! Turns what an agent says into events' contents. Pure.

use serde_json::{Value, json};

use super::{
    event::EventType,
    status::{LeaseTimes, Tokens},
};
use crate::{
    agent::{AgentError, AgentEvent, PermissionOption},
    ids::PermissionId,
    problem::Code,
};

/// The event that a plain saying of the agent becomes; none for those that need the driver's own hand.
pub fn event_of(said: AgentEvent) -> Option<(EventType, Value)> {
    Some(match said {
        AgentEvent::Message(block) => (EventType::MessageDelta, delta(block)),
        AgentEvent::Thought(block) => (EventType::ThoughtDelta, delta(block)),
        AgentEvent::ToolStarted(call) => (EventType::ToolStarted, call),
        AgentEvent::ToolUpdated(call) => (EventType::ToolUpdated, call),
        AgentEvent::Plan(plan) => (EventType::PlanUpdated, plan),
        AgentEvent::Update(update) => (EventType::AgentUpdate, update),
        AgentEvent::Log { stream, text } => (EventType::AgentLog, json!({"stream": stream.as_str(), "text": text})),
        AgentEvent::PermissionRequested { .. }
        | AgentEvent::TurnEnded { .. }
        | AgentEvent::TurnFailed(_)
        | AgentEvent::Gone(_) => return None,
    })
}

/// A text block is sent as `{text}`, any other as it is.
fn delta(mut block: Value) -> Value {
    match &mut block {
        Value::Object(fields) if fields.get("type").is_some_and(|kind| kind == "text") => {
            fields.retain(|name, _| name == "text");
            fields.entry("text").or_insert_with(|| Value::String(String::new()));
            block
        }
        _ => block,
    }
}

pub fn options(options: &[PermissionOption]) -> Value {
    options
        .iter()
        .map(|option| json!({"option_id": option.option_id, "name": option.name, "kind": option.kind}))
        .collect()
}

/// A permission's answer.
pub fn resolved(id: &PermissionId, option_id: Option<&str>, by: &str) -> Value {
    let outcome = if option_id.is_some() { "selected" } else { "cancelled" };
    json!({"permission_id": id, "outcome": outcome, "option_id": option_id, "by": by})
}

pub fn tokens(tokens: Tokens) -> Value {
    json!({"input_tokens": tokens.input, "output_tokens": tokens.output})
}

pub fn lease(lease: &LeaseTimes) -> Value {
    let millis = |duration: std::time::Duration| (duration.as_secs_f64() * 1e6).round() / 1e3;
    json!({
        "start": if lease.cold.is_none() { "warm" } else { "cold" },
        "reason": lease.cold.map(super::status::ColdReason::as_str),
        "wait_ms": millis(lease.wait),
        "workspace_ms": millis(lease.workspace),
        "agent_ms": millis(lease.agent),
        "total_ms": millis(lease.total),
    })
}

/// A problem as `turn.failed` carries it.
pub fn problem(code: Code, detail: &str) -> Value {
    json!({
        "type": code.urn(),
        "title": code.title(),
        "status": code.status(),
        "detail": detail,
        "code": code.as_str(),
    })
}

/// The code and public sentence for an agent's failure in a turn.
pub fn failure(error: &AgentError) -> (Code, String) {
    match error {
        AgentError::Deadline { .. } => (Code::AgentTimeout, error.to_string()),
        AgentError::Lost(_) => (Code::AgentFailed, "the sandbox was lost".to_owned()),
        AgentError::Condemned(_) | AgentError::Exited(_) | AgentError::Refused { .. } | AgentError::Protocol(_) => {
            (Code::AgentFailed, error.to_string())
        }
    }
}
