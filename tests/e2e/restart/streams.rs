//! Turns go on over a restart, and their readers with them.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::json;

use super::{container, now, restart, settings, start};
use crate::{
    client::id,
    follower::{Follower, assert_counts, lines},
    house::{House, model},
    stream::text,
    wait::until,
};

/// A prompt that counts to `count`, a number every 20 ms.
fn counting(count: usize) -> String {
    format!("for n in $(seq 1 {count}); do echo line-$n; sleep 0.02; done")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_streams_on_over_two_crashes_and_nothing_of_it_is_lost_or_repeated() {
    let mut house = House::start(settings().shell().stock("shell", 2, 2)).await;
    let alice = house.alice();
    let (busy, idle) = (alice.open(json!({"template": "shell"})).await, alice.open(json!({"template": "shell"})).await);
    let (of_busy, of_idle) = (container(&alice, &busy).await, container(&alice, &idle).await);
    let mut follower = Follower::of(&alice, &busy);
    let turn = start(&alice, &busy, &counting(250)).await;

    for number in [40, 110] {
        follower
            .until(|event| event.content["text"].as_str().is_some_and(|said| said.contains(&format!("line-{number}"))))
            .await;
        restart(&mut house).await;
        let path = format!("/v1/sessions/{}", id(&busy));
        alice.post(&format!("{path}/turns"), &json!({"prompt": "true"})).await.problem(409, "TURN_IN_PROGRESS");
        assert_eq!(now(&alice, &busy).await["state"], "running");
        assert_eq!(alice.get_json(&format!("{path}/turns/{turn}")).await["state"], "running");
    }
    let end = follower.turn(&turn).await;
    assert_eq!((end.kind.as_str(), &end.content["stop_reason"]), ("turn.ended", &json!("end_turn")), "{end:?}");
    assert!(follower.returns >= 2, "the reader was there all the time");
    assert_counts(&follower.read, "line", 250);
    follower.assert_is_log().await;

    // The very same sandboxes, and their agents are well.
    assert_eq!(container(&alice, &busy).await, of_busy);
    assert_eq!(container(&alice, &idle).await, of_idle);
    let told = alice.get_json(&format!("/v1/sessions/{}/turns/{turn}", id(&busy))).await;
    assert_eq!((&told["state"], &told["last_seq"]), (&json!("ended"), &json!(end.seq)), "{told}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_agent_says_while_there_is_no_server_waits_for_the_next_one() {
    // More is said than the supervisor keeps: the agent has to wait, too.
    let mut house = House::start(settings().shell().stock("shell", 2, 2).set("sandbox", "ring_bytes", "1048576")).await;
    let alice = house.alice();
    let (much, little) =
        (alice.open(json!({"template": "shell"})).await, alice.open(json!({"template": "shell"})).await);
    let (mut much_read, mut little_read) = (Follower::of(&alice, &much), Follower::of(&alice, &little));
    let flood =
        start(&alice, &much, &format!("echo ready; sleep 0.5; seq 1 20000 | sed 's,.*,flood-& {},'", "x".repeat(100)))
            .await;
    let ending = start(&alice, &little, "echo ready; sleep 0.5; echo last-1").await;
    for follower in [&mut much_read, &mut little_read] {
        follower.up_to("message.delta").await;
    }

    house.crash().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    house.launch().await;
    let (flood, ending) = (much_read.turn(&flood).await, little_read.turn(&ending).await);
    assert_eq!((flood.kind.as_str(), ending.kind.as_str()), ("turn.ended", "turn.ended"));
    assert_counts(&much_read.read, "flood", 20_000);
    assert_counts(&little_read.read, "last", 1);
    for follower in [&much_read, &little_read] {
        follower.assert_is_log().await;
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gemini_whose_model_call_the_crash_broke_ends_its_turn_and_takes_the_next() {
    let mut house = House::start(settings().gemini(model(None).await)).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "gemini"})).await;
    let mut follower = Follower::of(&alice, &session);
    let turn = start(&alice, &session, "[chunks:300] [delay:20]").await;
    follower.until(|event| event.content["text"].as_str().is_some_and(|said| said.contains("chunk-20 "))).await;
    house.stocked().await;
    let before = house.engine().running(&house.instance).await;

    restart(&mut house).await;
    // The gateway went with the server: the agent may ask its model again, or say that it failed. It must not hang, nor may the session.
    let end = follower.turn(&turn).await;
    assert!(["turn.ended", "turn.failed"].contains(&end.kind.as_str()), "{end:?}");
    let said = follower.read.iter().filter(|event| event.turn.as_deref() == Some(&turn)).cloned().collect::<Vec<_>>();
    let once: String = (1..=20).map(|number| format!("chunk-{number} ")).collect();
    assert!(text(&said).starts_with(&once), "{}", text(&said));
    assert_eq!(alice.ask(&session, "[words:still here]").await, "still here");
    let after = house.engine().running(&house.instance).await;
    assert!(before.iter().all(|container| after.contains(container)), "{before:?}, then {after:?}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_that_hangs_over_a_restart_can_be_cancelled_and_has_its_deadline() {
    let settings = settings().gemini(model(None).await).stock("gemini", 2, 2).set("session", "turn_timeout", "\"12s\"");
    let mut house = House::start(settings).await;
    let alice = house.alice();
    let (cancelled, late) = (alice.open(json!({})).await, alice.open(json!({})).await);
    let (mut of_cancelled, mut of_late) = (Follower::of(&alice, &cancelled), Follower::of(&alice, &late));
    let turn = start(&alice, &cancelled, "[hang]").await;
    let late_turn = start(&alice, &late, "[hang]").await;
    let begun = of_late.up_to("turn.started").await.time;
    of_cancelled.up_to("turn.started").await;

    restart(&mut house).await;
    let path = format!("/v1/sessions/{}/turns/{turn}/cancel", id(&cancelled));
    assert_eq!(alice.post_text(&path, "").await.status, StatusCode::ACCEPTED);
    let end = of_cancelled.turn(&turn).await;
    assert_eq!((end.kind.as_str(), &end.content["stop_reason"]), ("turn.ended", &json!("cancelled")), "{end:?}");
    assert_eq!(alice.ask(&cancelled, "[words:free again]").await, "free again");

    // The other's time went on while there was no server.
    let end = of_late.turn(&late_turn).await;
    assert_eq!((end.kind.as_str(), &end.content["code"]), ("turn.failed", &json!("AGENT_TIMEOUT")), "{end:?}");
    let taken = end.time.duration_since(begun).as_secs_f64();
    assert!((11.5..16.0).contains(&taken), "the turn ended after {taken} s instead of 12");
    assert_eq!(alice.ask(&late, "[words:in time]").await, "in time");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prompt_that_was_taken_is_given_to_the_agent_once_whenever_the_server_dies() {
    let mut house = House::start(settings().counting()).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "counting", "workspace": "counted"})).await;
    let mut follower = Follower::of(&alice, &session);
    for number in 1..=5 {
        // Killed as soon as the prompt was taken, which may be before the agent has it.
        let turn = start(&alice, &session, &format!("echo answer-{number}")).await;
        restart(&mut house).await;
        assert_eq!(follower.turn(&turn).await.kind, "turn.ended");
    }
    assert_counts(&follower.read, "answer", 5);
    follower.assert_is_log().await;
    // A large prompt goes in several pieces; the agent gets it whole.
    let large = "x".repeat(400_000);
    let turn = start(&alice, &session, &format!(": {large}; echo answer-6")).await;
    restart(&mut house).await;
    assert_eq!(follower.turn(&turn).await.kind, "turn.ended");
    assert_counts(&follower.read, "answer", 6);
    assert_eq!(
        alice.ask(&session, "wc -lc </sandbox/workspace/prompts | tr -s ' '").await.trim().split(' ').next(),
        Some("7")
    );
    assert_eq!(lines(&follower.read, "answer-").len(), 6);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_ended_while_there_was_no_server_is_told_truthfully() {
    let mut house = House::start(settings().shell()).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell", "workspace": "kept"})).await;
    let mut follower = Follower::of(&alice, &session);
    let turn = start(
        &alice,
        &session,
        "echo ready-1; echo kept >/sandbox/workspace/file; sleep 1; echo ready-2; kill -9 $PPID $$",
    )
    .await;
    follower.up_to("message.delta").await;
    house.crash().await;
    until("the agent has ended", Duration::from_secs(10), async || {
        house.engine().running(&house.instance).await.len().le(&1).then_some(())
    })
    .await;
    house.launch().await;

    let end = follower.end().await;
    let kinds = follower.read.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>();
    assert_eq!(kinds[kinds.len() - 2..], ["turn.failed", "session.ended"], "{kinds:?}");
    assert_eq!(follower.read[kinds.len() - 2].turn.as_deref(), Some(turn.as_str()));
    assert!([json!("agent_exited"), json!("sandbox_lost")].contains(&end.content["reason"]), "{end:?}");
    follower.assert_is_log().await;
    let again = alice.open(json!({"template": "shell", "workspace": "kept"})).await;
    assert_eq!(alice.ask(&again, "cat /sandbox/workspace/file").await.trim(), "kept");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_cancelled_before_a_crash_is_not_heard_after_it() {
    let mut house = House::start(settings().shell()).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell"})).await;
    let mut follower = Follower::of(&alice, &session);
    let cancelled = start(&alice, &session, "echo begun-1; sleep 4; echo late-1").await;
    follower.up_to("message.delta").await;
    let path = format!("/v1/sessions/{}/turns/{cancelled}/cancel", id(&session));
    assert_eq!(alice.post_text(&path, "").await.status, StatusCode::ACCEPTED);
    assert_eq!(follower.turn(&cancelled).await.content["stop_reason"], "cancelled");
    // The program is still at it; whatever it says now is nobody's answer.
    let next = start(&alice, &session, "sleep 1; echo next-1").await;

    restart(&mut house).await;
    assert_eq!(follower.turn(&next).await.kind, "turn.ended");
    let said = follower.read.iter().filter(|event| event.turn.as_deref() == Some(&next)).cloned().collect::<Vec<_>>();
    assert_eq!(text(&said).trim(), "next-1");
    assert_eq!(alice.ask(&session, "echo last-1").await.trim(), "last-1");
    house.stop().await;
}
