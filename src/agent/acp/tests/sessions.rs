//! New sessions, modes, models.

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{answer, booted, chunk, end_turn, prompt, text, update};
use crate::agent::{AgentCommand, AgentError, AgentEvent, fake};

type Answer = oneshot::Receiver<Result<Value, AgentError>>;

fn open() -> (AgentCommand, Answer) {
    let (reply, answer) = oneshot::channel();
    (AgentCommand::OpenSession { workspace: "/sandbox/moved".to_owned(), reply }, answer)
}

#[tokio::test]
async fn a_new_session_is_used_and_the_former_is_not_heard_again() {
    let (mut fake, mut agent) = booted().await;
    let (command, opened) = open();
    agent.commands.send(command).await.expect("the task lives");
    // Sent at once, but for the new session.
    agent.commands.send(fake::prompt(1, vec![text("hello")])).await.expect("the task lives");
    let params = answer(&mut fake, "session/new", json!({"sessionId": "two"})).await;
    assert_eq!(params["cwd"], "/sandbox/moved");
    let memory = opened.await.expect("a reply").expect("opens");
    assert_eq!(memory, json!({"session": "two", "former": ["one"]}));
    let call = fake.message().await;
    assert_eq!(call["params"]["sessionId"], "two");
    fake.say(&chunk("from the former")).await;
    let stale = json!({"id": 0, "method": "session/request_permission", "params": {"sessionId": "one"}});
    fake.say(&stale).await;
    fake.say(&update("two", &json!({"sessionUpdate": "agent_message_chunk", "content": text("new")}))).await;
    assert!(matches!(agent.event().await, AgentEvent::Message(block) if block == text("new")));
    assert_eq!(fake.message().await["result"]["outcome"]["outcome"], "cancelled");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_not_opened_in_time_leaves_the_former() {
    let (mut fake, agent) = booted().await;
    let (command, opened) = open();
    agent.commands.send(command).await.expect("the task lives");
    let call = fake.message().await;
    let error = opened.await.expect("a reply").expect_err("is late");
    assert!(matches!(error, AgentError::Deadline { call: "session/new", seconds: 20 }));
    // The answer comes after all: nobody waits for it any more.
    fake.say(&json!({"id": call["id"], "result": {"sessionId": "two"}})).await;
    prompt(&mut fake, &agent).await;
}

#[tokio::test]
async fn a_session_cannot_be_changed_under_a_running_turn() {
    let (mut fake, mut agent) = booted().await;
    let id = prompt(&mut fake, &agent).await;
    let (command, opened) = open();
    agent.commands.send(command).await.expect("the task lives");
    opened.await.expect("a reply").expect_err("is refused");
    end_turn(&mut fake, &id, "end_turn").await;
    assert!(matches!(agent.event().await, AgentEvent::TurnEnded { .. }));
}

#[tokio::test]
async fn mode_and_model_are_set_for_the_session_even_in_a_turn() {
    let (mut fake, agent) = booted().await;
    prompt(&mut fake, &agent).await;
    let (reply, done) = oneshot::channel();
    agent.commands.send(AgentCommand::SetMode { mode: "yolo".to_owned(), reply }).await.expect("the task lives");
    let params = answer(&mut fake, "session/set_mode", json!({})).await;
    assert_eq!(params, json!({"sessionId": "one", "modeId": "yolo"}));
    done.await.expect("a reply").expect("is set");
    let (reply, done) = oneshot::channel();
    agent.commands.send(AgentCommand::SetModel { model: "small".to_owned(), reply }).await.expect("the task lives");
    let call = fake.message().await;
    assert_eq!((&call["method"], &call["params"]["modelId"]), (&json!("session/set_model"), &json!("small")));
    let details = json!({"code": -32603, "message": "Internal error", "data": {"details": "Unknown model"}});
    fake.say(&json!({"id": call["id"], "error": details})).await;
    let error = done.await.expect("a reply").expect_err("is refused");
    assert_eq!(error.to_string(), "the agent refused session/set_model: Internal error: Unknown model");
}

#[tokio::test]
async fn whoever_waits_for_a_reply_is_told_that_the_agent_is_gone() {
    let (mut fake, mut agent) = booted().await;
    let (command, opened) = open();
    agent.commands.send(command).await.expect("the task lives");
    fake.message().await;
    fake.exit(1).await;
    assert!(matches!(opened.await.expect("a reply"), Err(AgentError::Exited(_))));
    assert_eq!(agent.gone().await, "the agent exited (code 1)");
}
