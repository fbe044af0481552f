//! Whether a waiting agent lives, asked without its user's session noticing.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::oneshot;

use super::{answer, booted, chunk, end_turn, prompt};
use crate::{
    agent::{Agent, AgentCommand, AgentError, AgentEvent},
    sandbox::pipes::Stream,
};

async fn probe(agent: &Agent, deadline: Duration) -> oneshot::Receiver<Result<(), AgentError>> {
    let (reply, answer) = oneshot::channel();
    agent.commands.send(AgentCommand::Probe { deadline, reply }).await.expect("the task lives");
    answer
}

#[tokio::test(start_paused = true)]
async fn any_answer_is_a_sign_of_life_and_no_event() {
    let (mut fake, mut agent) = booted().await;
    for reply in [json!({"error": {"code": -32601, "message": "Method not found"}}), json!({"result": null})] {
        let answer = probe(&agent, Duration::from_secs(1)).await;
        let call = fake.message().await;
        assert_eq!(call["method"], "_greenroom/ping");
        let mut said = json!({"jsonrpc": "2.0", "id": call["id"]});
        said.as_object_mut().expect("an object").extend(reply.as_object().expect("an object").clone());
        fake.say(&said).await;
        assert!(answer.await.expect("answered").is_ok());
    }
    fake.say(&chunk("hello")).await;
    assert!(matches!(agent.event().await, AgentEvent::Message(_)), "the first thing its user hears");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_too_late_disturbs_no_turn() {
    let (mut fake, mut agent) = booted().await;
    let late = probe(&agent, Duration::from_secs(1)).await;
    let call = fake.message().await;
    assert!(matches!(late.await.expect("answered"), Err(AgentError::Deadline { call: "_greenroom/ping", .. })));
    let turn = prompt(&mut fake, &agent).await;
    for _ in 0..2 {
        fake.say(&json!({"jsonrpc": "2.0", "id": call["id"], "error": {"code": -32601, "message": "no"}})).await;
    }
    fake.say(&chunk("hello")).await;
    end_turn(&mut fake, &turn, "end_turn").await;
    assert!(matches!(agent.event().await, AgentEvent::Message(_)));
    assert!(matches!(agent.event().await, AgentEvent::TurnEnded { .. }));
}

#[tokio::test(start_paused = true)]
async fn questions_to_an_agent_that_hangs_keep_no_command_waiting() {
    let (mut fake, agent) = booted().await;
    for _ in 0..40 {
        drop(probe(&agent, Duration::from_secs(1)).await);
        assert_eq!(fake.message().await["method"], "_greenroom/ping");
        tokio::time::advance(Duration::from_millis(500)).await;
    }
    let (reply, opened) = oneshot::channel();
    let open = AgentCommand::OpenSession { workspace: "/elsewhere".to_owned(), reply };
    agent.commands.send(open).await.expect("the task lives");
    answer(&mut fake, "session/new", json!({"sessionId": "two"})).await;
    assert!(opened.await.expect("answered").is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_an_agent_prints_about_the_question_is_kept_from_its_user() {
    let (mut fake, mut agent) = booted().await;
    let printed = "one\nError handling request { method: '_greenroom/ping' } {\n  code: -32601\n}\ntwo\n";
    fake.write_to(Stream::Stderr, Bytes::from(printed)).await;
    for expected in ["one", "two"] {
        assert!(matches!(agent.event().await, AgentEvent::Log { text, .. } if text == expected));
    }
}
