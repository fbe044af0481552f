//! What an agent tells in `session/update`, as events.
//!
//! The agent's own fields are passed on as they are, also those nobody knows; only the names that API.md gives in
//! `snake_case` are translated, and only at the top of a tool call.

use serde_json::Value;

use crate::agent::{AgentEvent, PermissionOption};

/// One `session/update`.
pub(crate) fn event(update: Value) -> AgentEvent {
    match (update["sessionUpdate"].as_str(), update.get("content").is_some_and(Value::is_object)) {
        (Some("agent_message_chunk"), true) => AgentEvent::Message(content(update)),
        (Some("agent_thought_chunk"), true) => AgentEvent::Thought(content(update)),
        (Some("tool_call"), _) => AgentEvent::ToolStarted(fields(update)),
        (Some("tool_call_update"), _) => AgentEvent::ToolUpdated(fields(update)),
        (Some("plan"), _) => AgentEvent::Plan(fields(update)),
        _ => AgentEvent::Update(update),
    }
}

/// A notification we don't know.
pub(crate) fn unknown(method: String, params: Value) -> AgentEvent {
    let fields = [("method".to_owned(), Value::String(method)), ("params".to_owned(), params)];
    AgentEvent::Update(Value::Object(fields.into_iter().collect()))
}

/// The fields of an update or a tool call under the names of API.md.
pub(crate) fn fields(value: Value) -> Value {
    let Value::Object(given) = value else { return value };
    // Made anew rather than changed: so the agent's order stays.
    let named = given.into_iter().filter(|(name, _)| name != "sessionUpdate").map(|(name, value)| {
        let name = match name.as_str() {
            "toolCallId" => "tool_call_id".to_owned(),
            "rawInput" => "raw_input".to_owned(),
            "rawOutput" => "raw_output".to_owned(),
            _ => name,
        };
        (name, value)
    });
    Value::Object(named.collect())
}

/// The answers a permission request offers; those without an id can't be chosen and are left out.
pub(crate) fn permission_options(params: &Value) -> Vec<PermissionOption> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let offered = params["options"].as_array().into_iter().flatten();
    offered
        .filter(|option| option["optionId"].is_string())
        .map(|option| PermissionOption {
            option_id: text(&option["optionId"]),
            name: text(&option["name"]),
            kind: text(&option["kind"]),
        })
        .collect()
}

fn content(mut update: Value) -> Value {
    update.get_mut("content").map(Value::take).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{AgentEvent, event, permission_options};

    #[test]
    fn a_tool_call_keeps_every_field_and_only_its_known_names_change() {
        let update = json!({
            "sessionUpdate": "tool_call_update", "toolCallId": "t1", "status": "completed", "rawInput": {"filePath": "a"},
            "content": [{"type": "diff", "oldText": ""}], "newThing": 1, "_meta": {"x": 2}
        });
        let AgentEvent::ToolUpdated(tool) = event(update) else { panic!("a tool event") };
        assert_eq!(
            tool,
            json!({
                "tool_call_id": "t1", "status": "completed", "raw_input": {"filePath": "a"},
                "content": [{"type": "diff", "oldText": ""}], "newThing": 1, "_meta": {"x": 2}
            })
        );
    }

    #[test]
    fn what_nobody_knows_is_passed_on_raw() {
        for strange in [
            json!({"sessionUpdate": "current_mode_update", "currentModeId": "plan"}),
            json!({"sessionUpdate": "agent_message_chunk"}),
            json!({"sessionUpdate": 5}),
            json!(null),
            json!("text"),
        ] {
            let AgentEvent::Update(raw) = event(strange.clone()) else { panic!("raw: {strange}") };
            assert_eq!(raw, strange);
        }
    }

    #[test]
    fn options_without_an_id_are_left_out() {
        let params = json!({"options": [{"optionId": "a", "name": "A", "kind": "allow_once"}, {"name": "?"}, 5]});
        let options = permission_options(&params);
        assert_eq!(options.len(), 1);
        assert_eq!((options[0].option_id.as_str(), options[0].kind.as_str()), ("a", "allow_once"));
        assert!(permission_options(&json!({})).is_empty());
    }
}
