//! Prompts that wait until their driver has written them down.

use serde_json::json;
use tokio::sync::oneshot;

use super::{REQUEST, booted, chunk, end_turn, prompt, text};
use crate::{
    agent::{AgentCommand, AgentEvent, Pieces, fake},
    sandbox::pipes::PIECE_MAX,
};

#[tokio::test]
async fn a_prompt_is_written_when_it_may_go_in_the_pieces_that_were_planned() {
    let (mut fake, mut agent) = booted().await;
    let (pieces, allow) = agent.plan(REQUEST, vec![text(&"x".repeat(2 * PIECE_MAX))]).await;
    // Two pieces were the boot.
    assert_eq!(pieces, Pieces { first: 3, last: 5 });
    fake.say(&chunk("meanwhile")).await;
    assert!(matches!(agent.event().await, AgentEvent::Message(_)), "the agent is heard meanwhile");
    assert!(fake.input.try_recv().is_err(), "nothing is written");
    allow.send(()).expect("it is waited for");
    for length in [PIECE_MAX, PIECE_MAX] {
        assert_eq!(fake.input.recv().await.map(|piece| piece.len()), Some(length));
    }
    assert!(fake.input.recv().await.is_some_and(|piece| piece.ends_with(b"\n")));
}

#[tokio::test]
async fn what_the_agent_asks_meanwhile_is_answered_behind_the_prompt() {
    let (mut fake, mut agent) = booted().await;
    let (_, allow) = agent.plan(REQUEST, vec![text("hello")]).await;
    fake.say(&chunk("heard")).await;
    fake.say(&json!({"id": "f", "method": "fs/read_text_file"})).await;
    fake.say(&chunk("heard when that is answered")).await;
    assert!(matches!(agent.event().await, AgentEvent::Message(block) if block == text("heard")));
    allow.send(()).expect("it is waited for");
    assert_eq!(fake.message().await["method"], "session/prompt");
    assert_eq!(fake.message().await["id"], "f");
    assert!(matches!(agent.event().await, AgentEvent::Message(_)));
}

#[tokio::test]
async fn a_prompt_that_is_taken_back_was_never_there() {
    let (mut fake, agent) = booted().await;
    let (pieces, allow) = agent.plan(REQUEST, vec![text("never")]).await;
    fake.say(&json!({"id": "f", "method": "fs/read_text_file"})).await;
    drop(allow);
    assert_eq!(fake.message().await["id"], "f");
    let (again, allow) = agent.plan(REQUEST, vec![text("hello")]).await;
    assert_eq!(again.first, pieces.first + 1, "the answer took its number");
    allow.send(()).expect("it is waited for");
    assert_eq!(fake.message().await["params"]["prompt"][0]["text"], "hello");
}

#[tokio::test]
async fn commands_wait_behind_a_planned_prompt() {
    let (mut fake, mut agent) = booted().await;
    let (_, allow) = agent.plan(REQUEST, vec![text("hello")]).await;
    agent.commands.send(AgentCommand::Cancel).await.expect("the task lives");
    let (reply, done) = oneshot::channel();
    agent.commands.send(AgentCommand::SetMode { mode: "plan".to_owned(), reply }).await.expect("the task lives");
    allow.send(()).expect("it is waited for");
    let call = fake.message().await;
    assert_eq!(call["method"], "session/prompt");
    assert_eq!(fake.message().await["method"], "session/cancel");
    let mode = fake.message().await;
    assert_eq!(mode["method"], "session/set_mode");
    fake.say(&json!({"id": mode["id"], "result": {}})).await;
    done.await.expect("a reply").expect("is set");
    end_turn(&mut fake, &call["id"], "cancelled").await;
    assert!(matches!(agent.event().await, AgentEvent::TurnEnded { stop_reason } if stop_reason == "cancelled"));
}

#[tokio::test]
async fn a_prompt_that_is_dropped_is_never_planned() {
    let (mut fake, agent) = booted().await;
    prompt(&mut fake, &agent).await;
    let (planned, pieces) = oneshot::channel();
    let (_allow, go) = oneshot::channel();
    let second = AgentCommand::Prompt { request: REQUEST + 1, content: vec![text("again")], planned, go };
    agent.commands.send(second).await.expect("the task lives");
    pieces.await.expect_err("a turn is running");
    agent.commands.send(fake::prompt(REQUEST + 2, vec![text("and again")])).await.expect("the task lives");
    agent.commands.send(AgentCommand::Cancel).await.expect("the task lives");
    assert_eq!(fake.message().await["method"], "session/cancel");
}
