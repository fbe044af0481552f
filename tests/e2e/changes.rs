//! Changing a session: what can be changed, by whom, and how two who change at once don't overwrite each other.

use std::time::Duration;

use futures_util::future::join_all;
use hyper::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::{
    chance::Chance,
    client::{Client, id},
    house::{House, model},
    pools::tell,
    settings::Settings,
};

fn path(session: &Value) -> String {
    format!("/v1/sessions/{}", id(session))
}

/// The session's tag.
async fn tag(client: &Client, session: &Value) -> String {
    let reply = client.get(&path(session)).await;
    let tag = reply.header("etag").to_owned();
    assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() > 2, "no strong tag: {tag}");
    tag
}

fn seconds_until(session: &Value, from: &str) -> f64 {
    let time = |field: &str| session[field].as_str().expect("a time").parse::<Timestamp>().expect("a time");
    time("expires_at").duration_since(time(from)).as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_made_whole_or_not_at_all_and_only_on_what_was_seen() {
    let house = House::start(Settings::new().gemini(model(None).await)).await;
    let alice = house.alice();
    let opened = alice.post("/v1/sessions", &json!({"labels": {"a": "1", "b": "2"}})).await;
    let session = opened.expect(StatusCode::CREATED);
    let (path, first) = (path(&session), opened.header("etag").to_owned());
    assert_eq!(tag(&alice, &session).await, first);
    // Turns and events don't change what can be changed.
    alice.ask(&session, "[words:hello]").await;
    assert_eq!(tag(&alice, &session).await, first);

    let patched = alice.patch_with(&path, &[("if-match", &first)], &json!({"labels": {"c": "3"}})).await;
    assert_eq!(patched.expect(StatusCode::OK)["labels"], json!({"c": "3"}), "all labels are replaced");
    let second = patched.header("etag").to_owned();
    assert!(second != first && second == tag(&alice, &session).await, "{first} then {second}");

    // Who has seen something older changes nothing, and a weak tag is never strong enough.
    let weak = format!("W/{second}");
    for stale in [first.as_str(), "\"no-such-tag\"", &format!("{first}, \"x\""), &weak] {
        let refused = alice.patch_with(&path, &[("if-match", stale)], &json!({"labels": {}})).await;
        refused.problem(412, "PRECONDITION_FAILED");
    }
    assert_eq!(alice.get_json(&path).await["labels"], json!({"c": "3"}));
    assert_eq!(tag(&alice, &session).await, second);
    for current in ["*", &format!("{first} , {second}"), &format!("{weak}, {second}")] {
        let now = tag(&alice, &session).await;
        let current = current.replace(&second, &now);
        let patched = alice.patch_with(&path, &[("if-match", &current)], &json!({"labels": {"now": "4"}})).await;
        assert_eq!(patched.status, StatusCode::OK, "{current}: {}", patched.text());
    }

    // What the agent refuses isn't done, nor is what was asked for beside it.
    let before = (alice.get_json(&path).await, tag(&alice, &session).await);
    for refused in [
        json!({"mode": "no-such-mode", "labels": {"half": "done"}}),
        json!({"labels": {"": "empty"}}),
        json!({"labels": {"a": "x".repeat(65)}}),
        json!({"labels": 5}),
        json!({"idle_timeout_s": 0}),
        json!({"max_age_s": 0, "labels": {"half": "done"}}),
        json!({"template": "gemini"}),
        json!({"workspace": "other"}),
        json!({"state": "ended"}),
        json!({"credential": {}}),
        json!([]),
    ] {
        let reply = alice.patch(&path, &refused).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{refused}: {}", reply.text());
        reply.problem(400, "INVALID_REQUEST");
    }
    assert_eq!((alice.get_json(&path).await, tag(&alice, &session).await), before);

    let patched = alice.patch(&path, &json!({"mode": "plan", "model": "gemini-9-test"})).await.expect(StatusCode::OK);
    assert_eq!((&patched["mode"], &patched["model"]), (&json!("plan"), &json!("gemini-9-test")));
    let events = alice.prompt(&session, "[words:with another model]").await.rest().await;
    let used = events.iter().find(|event| event.kind == "usage.updated").expect("tokens are counted");
    assert_eq!(used.content["model"], "gemini-9-test", "the agent was told");

    house.bob().patch(&path, &json!({"labels": {}})).await.problem(404, "NOT_FOUND");
    alice.close(&session).await;
    alice.patch(&path, &json!({"labels": {}})).await.problem(409, "SESSION_ENDED");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_change_what_they_saw_at_once_one_does() {
    let house = House::start(Settings::new().shell()).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell"})).await;
    for round in 0..5 {
        let (seen, path) = (tag(&alice, &session).await, path(&session));
        let change = |number: usize| {
            let (alice, seen, path) = (alice.clone(), seen.clone(), path.clone());
            async move {
                let body = json!({"labels": {"winner": number.to_string()}});
                (number, alice.patch_with(&path, &[("if-match", &seen)], &body).await)
            }
        };
        let answers = join_all((0..10).map(change)).await;
        let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(_, reply)| reply.status == StatusCode::OK);
        let [(winner, _)] = &won[..] else { panic!("round {round}: {} won", won.len()) };
        for (_, reply) in lost {
            reply.problem(412, "PRECONDITION_FAILED");
        }
        assert_eq!(alice.get_json(&path).await["labels"]["winner"], winner.to_string());
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_can_be_changed_within_what_the_server_allows() {
    let settings =
        Settings::new().shell().set("session", "idle_timeout", "\"100s\"").set("session", "max_age", "\"1000s\"");
    let house = House::start(settings).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell", "max_age_s": 60, "idle_timeout_s": 20})).await;
    let path = path(&session);
    let patched = alice.patch(&path, &json!({"idle_timeout_s": 30, "max_age_s": 500})).await.expect(StatusCode::OK);
    assert_eq!(patched["idle_timeout_s"], 30, "{patched}");
    assert!((seconds_until(&patched, "created_at") - 500.0).abs() < 1.0, "{patched}");
    // As at the open, what is more than the server allows is what the server allows.
    let patched = alice.patch(&path, &json!({"idle_timeout_s": 5000, "max_age_s": 5000})).await.expect(StatusCode::OK);
    assert_eq!(patched["idle_timeout_s"], 100, "{patched}");
    assert!((899.0..1001.0).contains(&seconds_until(&patched, "created_at")), "{patched}");

    // An age that is over already is no wish that could be granted.
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    alice.patch(&path, &json!({"max_age_s": 1})).await.problem(400, "INVALID_REQUEST");
    assert_eq!(alice.get_json(&path).await["state"], "ready");
    alice.patch(&path, &json!({"max_age_s": 4})).await.expect(StatusCode::OK);
    let end = alice.events(&session, 0).await.rest().await.pop().expect("events");
    assert_eq!((end.kind.as_str(), &end.content["reason"]), ("session.ended", &json!("expired")), "{end:?}");
    house.stop().await;
}

/// Sessions whose users want to keep them in the very moment of their end.
const MOMENTS: usize = 24;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_in_the_moment_of_the_end_is_honoured_or_comes_too_late_and_never_both() {
    let settings = Settings::new().unlimited().shell().stock("shell", 6, 6);
    let house = House::start(settings).await;
    let alice = house.alice();
    let (mut honoured, mut late) = (0, 0);
    for group in 0..MOMENTS / 6 {
        house.stocked().await;
        let one = |number: usize| {
            let (alice, mut chance) = (alice.clone(), Chance::of(group * 6 + number));
            async move {
                let (limit, longer, reason) = [
                    (json!({"template": "shell", "idle_timeout_s": 1}), json!({"idle_timeout_s": 60}), "idle"),
                    (json!({"template": "shell", "max_age_s": 1}), json!({"max_age_s": 60}), "expired"),
                ][number % 2]
                    .clone();
                let session = alice.open(limit).await;
                let opened = Instant::now();
                sleep_until(opened + Duration::from_millis(965 + chance.below(30))).await;
                let reply = alice.patch(&path(&session), &longer).await;
                sleep_until(opened + Duration::from_millis(2_500)).await;
                let now = alice.get_json(&path(&session)).await;
                if reply.status == StatusCode::OK {
                    assert_eq!(now["state"], "ready", "renewed, and ended all the same: {now}");
                    assert_eq!(alice.ask(&session, "echo alive").await.trim(), "alive");
                    alice.close(&session).await;
                    true
                } else {
                    reply.problem(409, "SESSION_ENDED");
                    assert_eq!((&now["state"], &now["end"]["reason"]), (&json!("ended"), &json!(reason)), "{now}");
                    false
                }
            }
        };
        for was_honoured in join_all((0..6).map(one)).await {
            if was_honoured { honoured += 1 } else { late += 1 }
        }
    }
    tell(&format!("renewals in the last moment: {honoured} honoured, {late} too late, never both"));
    house.stop().await;
}
