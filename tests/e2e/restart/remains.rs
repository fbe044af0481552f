//! What else a restart must leave as it was: sessions and their settings, what has ended, what was spent, who holds what.

use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::{container, now, restart, settings, start};
use crate::{
    client::id,
    follower::{Follower, log},
    house::{House, model},
    pools::{no_orphans, pool},
    stream::{Events, text},
    wait::until,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_ended_can_be_read_after_any_number_of_restarts() {
    let mut house = House::start(settings().shell()).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell", "labels": {"purpose": "history"}})).await;
    let path = format!("/v1/sessions/{}", id(&session));
    let turn = start(&alice, &session, "seq 1 300 | sed s,^,line-,").await;
    Follower::of(&alice, &session).turn(&turn).await;
    alice.close(&session).await;
    let turn = format!("{path}/turns/{turn}");
    let (before, events, turn_before) =
        (now(&alice, &session).await, log(&alice, id(&session)).await, alice.get_json(&turn).await);
    assert_eq!(events.last().map(|event| event.kind.as_str()), Some("session.ended"));

    for _ in 0..2 {
        restart(&mut house).await;
        assert_eq!(now(&alice, &session).await, before);
        assert_eq!(log(&alice, id(&session)).await, events);
        assert_eq!(alice.events(&session, 0).await.rest().await, events, "the stream ends with the session");
        assert_eq!(alice.get_json(&turn).await, turn_before);
        let listed = alice.get_json("/v1/sessions?state=ended&label=purpose:history").await;
        assert_eq!(listed["items"], json!([before]), "{listed}");
        alice.delete(&path).await.problem(404, "NOT_FOUND");
        alice.post(&format!("{path}/turns"), &json!({"prompt": "true"})).await.problem(409, "SESSION_ENDED");
        house.bob().get(&path).await.problem(404, "NOT_FOUND");
        house.bob().get(&format!("{path}/events")).await.problem(404, "NOT_FOUND");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_the_same_after_a_restart_and_holds_what_it_held() {
    let settings = settings().gemini(model(None).await).shell().set("limits", "sessions", "2");
    let mut house = House::start(settings).await;
    let alice = house.alice();
    let wish = json!({
        "template": "gemini", "workspace": "held", "mode": "autoEdit", "model": "gemini-9-test",
        "labels": {"a": "1", "b": "2"}, "idle_timeout_s": 500, "max_age_s": 3000,
        "permissions": {"default": "ask", "kinds": {"edit": "deny"}},
    });
    let session = alice.open(wish).await;
    let shell = alice.open(json!({"template": "shell"})).await;
    let own = container(&alice, &shell).await;
    assert_eq!(alice.ask(&session, "[words:spent something]").await, "spent something");
    let path = format!("/v1/sessions/{}", id(&session));
    let patched = alice.patch(&path, &json!({"labels": {"c": "3"}})).await;
    patched.expect(StatusCode::OK);
    let settled = async || {
        let before = now(&alice, &session).await;
        (before["usage"]["output_tokens"].as_u64() > Some(0)).then_some(before)
    };
    let before = until("the tokens are counted", Duration::from_secs(5), settled).await;
    let (tag, spent) =
        (alice.get(&path).await.header("etag").to_owned(), alice.get_json("/v1/me").await["usage"].clone());
    assert!(spent["input_tokens"].as_u64() > Some(0), "{spent}");

    restart(&mut house).await;
    assert_eq!(now(&alice, &session).await, before);
    assert_eq!(alice.get(&path).await.header("etag"), tag);
    assert_eq!(alice.get_json("/v1/me").await["usage"], spent);
    assert_eq!(alice.get_json("/v1/me").await["sessions"]["held"], 2);
    alice.post("/v1/sessions", &json!({"template": "shell"})).await.problem(429, "RESOURCE_LIMIT");
    alice.close(&shell).await;
    alice
        .post("/v1/sessions", &json!({"template": "shell", "workspace": "held"}))
        .await
        .problem(409, "WORKSPACE_IN_USE");
    assert_eq!(pool(&house, "gemini").await["leased"], 1);
    until("the closed session's sandbox is gone", Duration::from_secs(15), async || {
        house.engine().running(&house.instance).await.iter().all(|one| *one != own).then_some(())
    })
    .await;
    no_orphans(&house).await;

    // The agent has its settings still, and its memory of the talk.
    assert_eq!(alice.ask(&session, "[words:still here]").await, "still here");
    let spent_more = alice.get_json("/v1/me").await["usage"]["input_tokens"].as_u64();
    assert!(spent_more > spent["input_tokens"].as_u64(), "{spent_more:?} after {spent}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_simple_doors_session_is_the_same_after_a_restart() {
    let mut house = House::start(settings().shell()).await;
    let alice = house.alice();
    let chat = async |prompt: &str| {
        let body = Bytes::from(json!({ "prompt": prompt }).to_string());
        let headers = [("content-type", "application/json")];
        text(&Events::of(alice.send(Method::POST, "/v1/chat", &headers, body).await).rest().await)
    };
    chat("echo remembered >/tmp/memory").await;
    restart(&mut house).await;
    assert_eq!(chat("cat /tmp/memory").await.trim(), "remembered");
    assert_eq!(alice.get_json("/v1/sessions").await["items"].as_array().map(Vec::len), Some(1));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_whose_sandboxes_died_with_the_server_end_truthfully_and_their_workspaces_are_free() {
    let mut house = House::start(settings().shell().stock("shell", 3, 3)).await;
    let alice = house.alice();
    let mut sessions = Vec::new();
    for (workspace, is_busy) in [("busy", true), ("idle", false), ("well", true)] {
        let session = alice.open(json!({"template": "shell", "workspace": workspace})).await;
        alice.ask(&session, &format!("echo {workspace} >/sandbox/workspace/file")).await;
        let own = container(&alice, &session).await;
        let turn =
            if is_busy { Some(start(&alice, &session, "echo begun-1; sleep 6; echo done-1").await) } else { None };
        let mut follower = Follower::of(&alice, &session);
        if is_busy {
            follower.until(|event| event.content["text"].as_str().is_some_and(|said| said.contains("begun"))).await;
        }
        sessions.push((own, turn, follower));
    }
    house.crash().await;
    for (own, ..) in &sessions[..2] {
        house.engine().kill(own).await;
    }
    house.launch().await;

    let mut followers = sessions.into_iter();
    let (_, busy_turn, mut busy) = followers.next().expect("three");
    let (_, _, mut idle) = followers.next().expect("three");
    let (_, well_turn, mut well) = followers.next().expect("three");
    let (busy_end, idle_end) = (busy.end().await, idle.end().await);
    for end in [&busy_end, &idle_end] {
        assert_eq!((end.kind.as_str(), &end.content["reason"]), ("session.ended", &json!("sandbox_lost")), "{end:?}");
    }
    let failed = &busy.read[busy.read.len() - 2];
    assert_eq!((failed.kind.as_str(), &failed.turn), ("turn.failed", &busy_turn), "{failed:?}");
    assert!(idle.read.iter().all(|event| event.kind != "turn.failed"), "{:?}", idle.read);
    for workspace in ["busy", "idle"] {
        let again = alice.open(json!({"template": "shell", "workspace": workspace})).await;
        assert_eq!(alice.ask(&again, "cat /sandbox/workspace/file").await.trim(), workspace);
        alice.close(&again).await;
    }
    assert_eq!(well.turn(&well_turn.expect("it is busy")).await.kind, "turn.ended");
    for follower in [&busy, &idle, &well] {
        follower.assert_is_log().await;
    }
    let states: Vec<Value> =
        alice.get_json("/v1/sessions?state=running").await["items"].as_array().expect("a list").clone();
    assert_eq!(states, Vec::<Value>::new(), "nothing runs");
    no_orphans(&house).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_lost_its_oldest_events_says_so_after_a_restart_as_well() {
    let mut house = House::start(settings().shell().set("session", "log_bytes", "20000")).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell"})).await;
    let path = format!("/v1/sessions/{}", id(&session));
    let first = start(&alice, &session, "seq 1 2000").await;
    let ended = async || (alice.get_json(&format!("{path}/turns/{first}")).await["state"] == "ended").then_some(());
    until("the turn has ended", Duration::from_secs(10), ended).await;
    let page = async |after: u64| {
        let path = format!("{path}/events?after={after}&limit=256");
        alice.call(Method::GET, &path, &[("accept", "application/json")], Bytes::new()).await
    };
    let expired = page(0).await.problem(410, "EVENT_CURSOR_EXPIRED");
    let earliest = expired["earliest_seq"].as_u64().expect("a number");
    let before = page(earliest - 1).await.expect(StatusCode::OK);

    restart(&mut house).await;
    assert_eq!(page(0).await.problem(410, "EVENT_CURSOR_EXPIRED")["earliest_seq"], earliest);
    assert_eq!(page(earliest - 1).await.expect(StatusCode::OK), before);
    assert_eq!(alice.ask(&session, "echo on").await.trim(), "on");
    house.stop().await;
}
