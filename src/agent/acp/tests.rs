//! The peer against a fake agent, rule by rule.

mod boot;
mod limits;
mod permissions;
mod planning;
mod probes;
mod recorded;
mod resume;
mod sessions;
mod turns;

use serde_json::{Value, json};

use super::Acp;
use crate::agent::{
    Agent, AgentProtocol,
    fake::{self, Fake, fake, plan},
};

/// The driver's number of prompts here.
const REQUEST: u64 = 7;

/// Answers the next message, which must be this call; its params.
async fn answer(fake: &mut Fake, method: &str, result: Value) -> Value {
    let mut call = fake.message().await;
    assert_eq!(call["method"], method);
    fake.say(&json!({"jsonrpc": "2.0", "id": call["id"], "result": result})).await;
    call["params"].take()
}

/// An agent that has shaken hands; its session is `one`.
async fn booted() -> (Fake, Agent) {
    let (mut fake, pipes) = fake();
    let shake = async {
        answer(&mut fake, "initialize", json!({"protocolVersion": 1})).await;
        answer(&mut fake, "session/new", json!({"sessionId": "one"})).await;
    };
    let acp = Acp::default();
    let (agent, ()) = tokio::join!(acp.boot(pipes, plan()), shake);
    (fake, agent.expect("boots"))
}

fn update(session: &str, update: &Value) -> Value {
    json!({"jsonrpc": "2.0", "method": "session/update", "params": {"sessionId": session, "update": update}})
}

fn chunk(text: &str) -> Value {
    update("one", &json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}))
}

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

/// Starts a turn; the id of the agent's `session/prompt`.
async fn prompt(fake: &mut Fake, agent: &Agent) -> Value {
    agent.commands.send(fake::prompt(REQUEST, vec![text("hello")])).await.expect("the task lives");
    let call = fake.message().await;
    assert_eq!(call["method"], "session/prompt");
    assert_eq!(call["params"], json!({"sessionId": "one", "prompt": [{"type": "text", "text": "hello"}]}));
    call["id"].clone()
}

async fn end_turn(fake: &mut Fake, id: &Value, stop_reason: &str) {
    fake.say(&json!({"jsonrpc": "2.0", "id": id, "result": {"stopReason": stop_reason}})).await;
}
