//! Permission requests and their answers.

use serde_json::{Value, json};

use super::{booted, end_turn, prompt};
use crate::agent::{Agent, AgentCommand, AgentEvent, fake::Fake};

async fn ask(fake: &mut Fake, id: Value) {
    let options = json!([{"optionId": "yes", "name": "Allow", "kind": "allow_once"}]);
    let tool = json!({"toolCallId": "t", "title": "Writing", "content": []});
    let params = json!({"sessionId": "one", "options": options, "toolCall": tool});
    fake.say(&json!({"id": id, "method": "session/request_permission", "params": params})).await;
}

async fn requested(agent: &mut Agent) -> u64 {
    let AgentEvent::PermissionRequested { request, tool_call, options, .. } = agent.event().await else {
        panic!("a permission is asked for")
    };
    assert_eq!(tool_call["tool_call_id"], "t");
    assert_eq!(options[0].option_id, "yes");
    request
}

fn cancelled(id: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": {"outcome": {"outcome": "cancelled"}}})
}

#[tokio::test]
async fn the_answer_goes_back_under_the_agents_own_id() {
    let (mut fake, mut agent) = booted().await;
    prompt(&mut fake, &agent).await;
    for id in [json!(0), json!("a"), json!(1.5)] {
        ask(&mut fake, id.clone()).await;
        let request = requested(&mut agent).await;
        // Only the first answer counts.
        for option in ["yes", "no"] {
            let answer = AgentCommand::AnswerPermission { request, option_id: Some(option.to_owned()) };
            agent.commands.send(answer).await.expect("the task lives");
        }
        let answer = fake.message().await;
        let wanted = json!({"outcome": {"outcome": "selected", "optionId": "yes"}});
        assert_eq!(answer, json!({"jsonrpc": "2.0", "id": id, "result": wanted}));
    }
    ask(&mut fake, json!(7)).await;
    let request = requested(&mut agent).await;
    agent.commands.send(AgentCommand::AnswerPermission { request, option_id: None }).await.expect("the task lives");
    assert_eq!(fake.message().await, cancelled(&json!(7)));
}

#[tokio::test]
async fn cancel_answers_what_is_open_and_what_is_asked_after_it() {
    let (mut fake, mut agent) = booted().await;
    let id = prompt(&mut fake, &agent).await;
    ask(&mut fake, json!(0)).await;
    ask(&mut fake, json!(1)).await;
    requested(&mut agent).await;
    requested(&mut agent).await;
    agent.commands.send(AgentCommand::Cancel).await.expect("the task lives");
    assert_eq!(fake.message().await["method"], "session/cancel");
    assert_eq!(fake.message().await, cancelled(&json!(0)));
    assert_eq!(fake.message().await, cancelled(&json!(1)));
    ask(&mut fake, json!(2)).await;
    assert_eq!(fake.message().await, cancelled(&json!(2)));
    end_turn(&mut fake, &id, "cancelled").await;
    assert!(matches!(agent.event().await, AgentEvent::TurnEnded { .. }));
}

#[tokio::test]
async fn a_turn_that_ends_takes_its_open_requests_along() {
    let (mut fake, mut agent) = booted().await;
    let id = prompt(&mut fake, &agent).await;
    ask(&mut fake, json!(0)).await;
    requested(&mut agent).await;
    end_turn(&mut fake, &id, "end_turn").await;
    assert!(matches!(agent.event().await, AgentEvent::TurnEnded { .. }));
    assert_eq!(fake.message().await, cancelled(&json!(0)));
}

#[tokio::test]
async fn an_agent_that_asks_without_end_is_answered_past_the_limit() {
    let (mut fake, mut agent) = booted().await;
    prompt(&mut fake, &agent).await;
    for id in 0..65 {
        ask(&mut fake, json!(id)).await;
    }
    assert_eq!(fake.message().await, cancelled(&json!(64)));
    for _ in 0..64 {
        requested(&mut agent).await;
    }
}

#[tokio::test]
async fn what_was_not_offered_is_refused() {
    let (mut fake, _agent) = booted().await;
    for method in ["fs/read_text_file", "fs/write_text_file", "terminal/create", "session/elicit", ""] {
        fake.say(&json!({"id": method, "method": method, "params": {"sessionId": "one"}})).await;
        let refusal = fake.message().await;
        assert_eq!((&refusal["id"], &refusal["error"]["code"]), (&json!(method), &json!(-32601)));
    }
}
