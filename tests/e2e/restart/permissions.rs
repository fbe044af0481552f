//! Questions outlive the server that passed them on, and so do their answers.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::{now, restart, settings, start};
use crate::{
    client::{Client, id},
    follower::Follower,
    house::{House, model},
    permissions::{WRITE, option},
    processes::files,
    stream::Event,
};

/// What a permission's answer is posted to.
fn answer_path(session: &Value, asked: &Event) -> String {
    let permission = asked.content["permission_id"].as_str().expect("a permission has an id");
    format!("/v1/sessions/{}/permissions/{permission}", id(session))
}

/// A session that waits for an answer.
async fn waiting(client: &Client, workspace: &str) -> (Value, Follower, String, Event) {
    let session = client.open(json!({"template": "gemini", "workspace": workspace})).await;
    let mut follower = Follower::of(client, &session);
    let turn = start(client, &session, WRITE).await;
    let asked = follower.up_to("permission.requested").await;
    (session, follower, turn, asked)
}

/// How often something was asked and resolved in all.
fn asked_and_resolved(follower: &Follower) -> (usize, usize) {
    let count = |kind| follower.read.iter().filter(|event| event.kind == kind).count();
    (count("permission.requested"), count("permission.resolved"))
}

/// Whether the tool that asked has written its file, once its workspace is at home.
fn written(house: &House, workspace: &str) -> bool {
    let home = format!("{workspace}/notes.txt");
    files(&house.state().join("workspaces")).iter().any(|file| file.to_string_lossy().ends_with(&home))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_question_is_still_open_after_a_crash_and_is_answered_once() {
    let mut house = House::start(settings().gemini(model(None).await)).await;
    let alice = house.alice();
    let (session, mut follower, turn, asked) = waiting(&alice, "allowed").await;
    let (path, answer) = (format!("/v1/sessions/{}/permissions", id(&session)), answer_path(&session, &asked));
    let before = alice.get_json(&path).await;

    restart(&mut house).await;
    assert_eq!(alice.get_json(&path).await, before, "the same question, with the same deadline");
    let told = now(&alice, &session).await;
    assert_eq!((&told["state"], &told["pending_permissions"]), (&json!("waiting"), &json!(1)), "{told}");
    let wish = json!({"option_id": option(&asked, "allow_once")});
    alice.post(&answer, &json!({"option_id": "no-such-option"})).await.problem(400, "INVALID_REQUEST");
    let given = alice.post(&answer, &wish).await;
    assert_eq!(given.status, StatusCode::NO_CONTENT, "{}", given.text());
    alice.post(&answer, &wish).await.problem(409, "PERMISSION_ANSWERED");
    let end = follower.turn(&turn).await;
    assert_eq!((end.kind.as_str(), &end.content["stop_reason"]), ("turn.ended", &json!("end_turn")), "{end:?}");

    restart(&mut house).await;
    alice.post(&answer, &wish).await.problem(409, "PERMISSION_ANSWERED");
    alice.post(&answer, &json!({"cancelled": true})).await.problem(409, "PERMISSION_ANSWERED");
    assert_eq!(asked_and_resolved(&follower), (1, 1));
    follower.assert_is_log().await;
    assert_eq!(alice.ask(&session, "[words:what next]").await, "what next");
    alice.close(&session).await;
    assert!(written(&house, "allowed"), "the agent heard the answer");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_was_taken_reaches_the_agent_though_the_server_dies_at_once() {
    let mut house = House::start(settings().gemini(model(None).await)).await;
    let alice = house.alice();
    for (workspace, kind) in [("allowed", "allow_once"), ("denied", "reject_once")] {
        let (session, mut follower, turn, asked) = waiting(&alice, workspace).await;
        let answer = answer_path(&session, &asked);
        let given = alice.post(&answer, &json!({"option_id": option(&asked, kind)})).await;
        assert_eq!(given.status, StatusCode::NO_CONTENT, "{}", given.text());
        restart(&mut house).await;
        alice.post(&answer, &json!({"cancelled": true})).await.problem(409, "PERMISSION_ANSWERED");
        // The model call that follows may have been broken by the crash.
        let end = follower.turn(&turn).await;
        assert!(["turn.ended", "turn.failed"].contains(&end.kind.as_str()), "{end:?}");
        assert_eq!(asked_and_resolved(&follower), (1, 1));
        let resolved = follower.read.iter().find(|event| event.kind == "permission.resolved").expect("one");
        assert_eq!((&resolved.content["by"], &resolved.content["outcome"]), (&json!("user"), &json!("selected")));
        alice.close(&session).await;
        assert_eq!(written(&house, workspace), kind == "allow_once", "{workspace}");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_keeps_its_deadline_over_a_crash_and_can_be_cancelled_with_its_turn() {
    let settings =
        settings().gemini(model(None).await).stock("gemini", 2, 2).set("session", "permission_timeout", "\"12s\"");
    let mut house = House::start(settings).await;
    let alice = house.alice();
    let (late, mut of_late, late_turn, asked) = waiting(&alice, "late").await;
    let (cancelled, mut of_cancelled, turn, _) = waiting(&alice, "cancelled").await;
    house.stocked().await;

    restart(&mut house).await;
    let cancel = format!("/v1/sessions/{}/turns/{turn}/cancel", id(&cancelled));
    let answer = alice.post_text(&cancel, "").await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text());
    let end = of_cancelled.turn(&turn).await;
    assert_eq!((end.kind.as_str(), &end.content["stop_reason"]), ("turn.ended", &json!("cancelled")), "{end:?}");
    assert_eq!(asked_and_resolved(&of_cancelled), (1, 1));

    let resolved = of_late.up_to("permission.resolved").await;
    assert_eq!(resolved.content["by"], "timeout", "{resolved:?}");
    let taken = resolved.time.duration_since(asked.time).as_secs_f64();
    assert!((11.5..16.0).contains(&taken), "denied after {taken} s instead of 12");
    let end = of_late.turn(&late_turn).await;
    assert_eq!(end.kind, "turn.ended", "{end:?}");
    for session in [&late, &cancelled] {
        alice.close(session).await;
    }
    assert!(!written(&house, "late") && !written(&house, "cancelled"));
    house.stop().await;
}
