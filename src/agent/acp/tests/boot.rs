//! Shaking hands, and everything that can go wrong with it.

use bytes::Bytes;
use serde_json::json;

use super::{Acp, answer};
use crate::{
    agent::{
        Agent, AgentError, AgentEvent, AgentProtocol, BootError,
        fake::{Fake, fake, plan},
    },
    sandbox::pipes::Stream,
    telemetry::labels::Phase,
};

/// Boots while the script plays the agent.
async fn boot(script: impl AsyncFnOnce(&mut Fake)) -> (Result<Agent, BootError>, Fake) {
    let (mut fake, pipes) = fake();
    let acp = Acp::default();
    let (agent, ()) = tokio::join!(acp.boot(pipes, plan()), script(&mut fake));
    (agent, fake)
}

#[tokio::test]
async fn an_agent_that_knows_the_gateway_is_sent_there_without_a_key() {
    let (agent, _fake) = boot(async |fake| {
        let hello = answer(
            fake,
            "initialize",
            json!({"protocolVersion": 1, "authMethods": [{"id": "oauth"}, {"id": "gateway"}], "more": [1]}),
        )
        .await;
        assert_eq!(hello["protocolVersion"], 1);
        assert_eq!(hello["clientCapabilities"]["fs"], json!({"readTextFile": false, "writeTextFile": false}));
        assert_eq!(hello["clientCapabilities"]["terminal"], false);
        assert_eq!(hello["clientInfo"]["name"], "greenroom");
        let gateway = answer(fake, "authenticate", json!(null)).await;
        let wanted = json!({"baseUrl": "http://127.0.0.1:41000", "headers": {}});
        assert_eq!(gateway, json!({"methodId": "gateway", "_meta": {"gateway": wanted}}));
        let session = answer(fake, "session/new", json!({"sessionId": "one"})).await;
        assert_eq!(session, json!({"cwd": "/sandbox/workspace", "mcpServers": []}));
    })
    .await;
    agent.expect("boots");
}

#[tokio::test]
async fn an_agent_without_authentication_needs_none() {
    super::booted().await;
}

#[tokio::test]
async fn an_agent_that_authenticates_in_other_ways_only_is_refused() {
    let methods = json!({"protocolVersion": 1, "authMethods": [{"id": "oauth"}]});
    let (agent, _fake) = boot(async |fake| drop(answer(fake, "initialize", methods).await)).await;
    assert!(matches!(agent, Err(BootError { error: AgentError::Refused { call: "authenticate", .. }, .. })));
}

#[tokio::test]
async fn another_version_of_the_protocol_is_refused() {
    for version in [json!(2), json!("1"), json!(null)] {
        let hello = json!({"protocolVersion": version});
        let (agent, _fake) = boot(async |fake| drop(answer(fake, "initialize", hello).await)).await;
        assert!(matches!(agent, Err(BootError { error: AgentError::Protocol(_), .. })));
    }
}

#[tokio::test]
async fn a_refused_login_is_told_in_the_agents_words() {
    let (agent, _fake) = boot(async |fake| {
        answer(fake, "initialize", json!({"protocolVersion": 1, "authMethods": [{"id": "gateway"}]})).await;
        let call = fake.message().await;
        fake.say(&json!({"id": call["id"], "error": {"code": -32000, "message": "no such gateway"}})).await;
    })
    .await;
    let error = agent.expect_err("is refused");
    assert_eq!(error.to_string(), "the agent refused authenticate: no such gateway");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_never_answers_misses_its_deadline() {
    let (agent, _fake) = boot(async |_| ()).await;
    assert!(matches!(agent, Err(BootError { error: AgentError::Deadline { call: "initialize", seconds: 20 }, .. })));
}

#[tokio::test(start_paused = true)]
async fn talking_is_not_answering() {
    let (mut fake, pipes) = fake();
    let acp = Acp::default();
    let chatter = async {
        let mut tick = tokio::time::interval(std::time::Duration::from_secs(1));
        loop {
            tick.tick().await;
            fake.write_to(Stream::Stderr, Bytes::from_static(b"loading\n")).await;
        }
    };
    tokio::select! {
        agent = acp.boot(pipes, plan()) => assert!(matches!(agent, Err(BootError { error: AgentError::Deadline { .. }, .. }))),
        () = chatter => {}
    }
}

#[tokio::test]
async fn an_agent_that_exits_at_once_fails_its_boot() {
    let (agent, _fake) = boot(async |fake| {
        fake.write_to(Stream::Stderr, Bytes::from_static(b"no such file")).await;
        fake.exit(3).await;
    })
    .await;
    assert_eq!(agent.expect_err("is gone").to_string(), "the agent exited (code 3)");
}

#[tokio::test]
async fn an_agent_that_exits_while_it_opens_its_session_fails_in_that_phase() {
    let (agent, _fake) = boot(async |fake| {
        answer(fake, "initialize", json!({"protocolVersion": 1})).await;
        fake.exit(3).await;
    })
    .await;
    let BootError { phase, error } = agent.expect_err("is gone");
    assert_eq!((phase, error.to_string().as_str()), (Phase::Session, "the agent exited (code 3)"));
}

#[tokio::test]
async fn a_lost_link_fails_the_boot() {
    let (fake, pipes) = fake();
    drop(fake);
    let agent = Acp::default().boot(pipes, plan()).await;
    assert!(matches!(agent, Err(BootError { error: AgentError::Lost(_), .. })));
}

#[tokio::test]
async fn noise_before_the_answer_is_passed_over_and_requests_are_refused() {
    let (agent, mut fake) = boot(async |fake| {
        fake.write("Loaded cached credentials.\n{\"id\":99,\"result\":{}}\n[[[\n\u{0}\n").await;
        for number in 0..1000 {
            fake.write_to(Stream::Stderr, Bytes::from(format!("line {number}\n"))).await;
        }
        fake.say(&json!({"id": "mine", "method": "terminal/create", "params": {}})).await;
        answer(fake, "initialize", json!({"protocolVersion": 1})).await;
        let refusal = fake.message().await;
        assert_eq!((&refusal["id"], &refusal["error"]["code"]), (&json!("mine"), &json!(-32601)));
        answer(fake, "session/new", json!({"sessionId": "one"})).await;
    })
    .await;
    // What comes right behind the last answer belongs to the session.
    let mut agent = agent.expect("boots");
    fake.write("for people\n").await;
    assert!(matches!(agent.event().await, AgentEvent::Log { text, .. } if text == "for people"));
}

#[tokio::test]
async fn a_session_without_an_id_is_no_session() {
    let (agent, _fake) = boot(async |fake| {
        answer(fake, "initialize", json!({"protocolVersion": 1})).await;
        answer(fake, "session/new", json!({"session": "one"})).await;
    })
    .await;
    assert!(matches!(agent, Err(BootError { error: AgentError::Protocol(_), .. })));
}
