//! The agent in a fake container: an ACP agent of a few lines that remembers who spoke to it.
//!
//! It answers what a boot asks of it (each answer by script), takes every prompt as the words of a user, and knows no other request, as real
//! agents do. A line that is no JSON-RPC is a prompt as well, so that it serves as a line-oriented program too.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{
    Engine,
    script::{Call, SLOW, Way},
};
use greenroom::ids::SlotId;

/// A line the agent says, and how long it thinks first.
pub type Reply = (Duration, String);

/// What the agent says to a line.
pub fn hear(engine: &Arc<Engine>, slot: &SlotId, line: &str) -> Vec<Reply> {
    let message: Value = serde_json::from_str(line).unwrap_or_default();
    let id = &message["id"];
    match message["method"].as_str() {
        None if message.is_object() => Vec::new(),
        None => {
            engine.heard(slot, line);
            vec![(Duration::ZERO, json!({ "type": "result", "content": "heard" }).to_string())]
        }
        Some(_) if id.is_null() => Vec::new(),
        Some("initialize") => {
            let methods = json!([{ "id": "gateway", "name": "Gateway", "description": null }]);
            let hello = json!({ "protocolVersion": 1, "agentCapabilities": {}, "authMethods": methods });
            boot(engine, slot, Call::Initialize, id, &hello)
        }
        Some("authenticate") => boot(engine, slot, Call::Authenticate, id, &json!({})),
        Some("session/new") => boot(engine, slot, Call::Session, id, &json!({ "sessionId": slot.as_str() })),
        Some("session/prompt") => {
            engine.heard(slot, message["params"]["prompt"][0]["text"].as_str().unwrap_or_default());
            vec![(Duration::ZERO, answer(id, &json!({ "stopReason": "end_turn" })))]
        }
        Some(method) => {
            let unknown = refusal(id, -32601, &format!("\"Method not found\": {method}"));
            go(engine.meet(Call::Probe), unknown.clone(), unknown)
        }
    }
}

/// One step of the boot. Whatever ends the start is noted before it is said, so that the next start never overlaps this one.
fn boot(engine: &Arc<Engine>, slot: &SlotId, call: Call, id: &Value, good: &Value) -> Vec<Reply> {
    let way = engine.meet(call);
    match way {
        Way::Error => engine.start_is_over(slot),
        Way::Never | Way::Late => engine.start_is_over_soon(slot, super::BOOT_TIMEOUT),
        // The answer to the last question: once it is out, the sandbox is ready.
        _ if call == Call::Session => engine.start_is_over(slot),
        _ => {}
    }
    go(way, answer(id, good), refusal(id, -32000, "not today"))
}

fn go(way: Way, good: String, bad: String) -> Vec<Reply> {
    match way {
        Way::Ok => vec![(Duration::ZERO, good)],
        Way::Error => vec![(Duration::ZERO, bad)],
        Way::Slow => vec![(SLOW, good)],
        Way::Never | Way::Late => Vec::new(),
        Way::Twice => vec![(Duration::ZERO, good.clone()), (Duration::ZERO, good)],
    }
}

fn answer(id: &Value, result: &Value) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string()
}

fn refusal(id: &Value, code: i32, message: &str) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } }).to_string()
}
