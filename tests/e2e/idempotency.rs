//! Asking twice with one key is asking once.

use std::{collections::HashSet, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    client::{Client, Reply, id},
    follower::log,
    house::House,
    settings::Settings,
    stream::Events,
    wait::until,
};

async fn open(client: &Client, key: &str, body: &Value) -> Reply {
    client.post_with("/v1/sessions", &[("idempotency-key", key)], body).await
}

async fn count(client: &Client) -> usize {
    client.get_json("/v1/sessions?limit=100").await["items"].as_array().expect("a list").len()
}

fn settings() -> Settings {
    Settings::new().unlimited().counting().stock("counting", 2, 2).set("sandbox", "orphan_grace", "\"60s\"")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_that_is_repeated_opens_once_even_over_a_crash() {
    let mut house = House::start(settings()).await;
    let (alice, bob) = (house.alice(), house.bob());
    let wish = json!({"template": "counting", "labels": {"a": "1"}});
    let first = open(&alice, "key-1", &wish).await;
    let session = first.expect(StatusCode::CREATED);
    assert_eq!(first.header("idempotent-replayed"), "");
    for _ in 0..2 {
        let again = open(&alice, "key-1", &wish).await;
        assert_eq!(
            (again.status, again.header("idempotent-replayed")),
            (StatusCode::CREATED, "true"),
            "{}",
            again.text()
        );
        assert_eq!(again.json()["id"], session["id"]);
        assert_eq!(again.json(), session, "the stored answer, whatever has become of the session");
    }
    let other = json!({"template": "counting", "labels": {"a": "2"}});
    open(&alice, "key-1", &other).await.problem(422, "IDEMPOTENCY_MISMATCH");
    // Another key, another user, another route: something else.
    assert_ne!(open(&alice, "key-2", &wish).await.expect(StatusCode::CREATED)["id"], session["id"]);
    let bobs = open(&bob, "key-1", &other).await.expect(StatusCode::CREATED);
    assert_ne!(bobs["id"], session["id"]);
    let turns = format!("/v1/sessions/{}/turns", id(&session));
    let turn = alice.post_with(&turns, &[("idempotency-key", "key-1")], &json!({"prompt": "echo one"})).await;
    turn.expect(StatusCode::ACCEPTED);

    house.crash().await;
    house.launch().await;
    let again = open(&alice, "key-1", &wish).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (StatusCode::CREATED, "true"), "{}", again.text());
    assert_eq!(again.json()["id"], session["id"]);
    open(&alice, "key-1", &other).await.problem(422, "IDEMPOTENCY_MISMATCH");
    assert_eq!((count(&alice).await, count(&bob).await), (2, 1));

    // The answer is kept though the session is over.
    alice.close(&session).await;
    assert_eq!(open(&alice, "key-1", &wish).await.expect(StatusCode::CREATED)["id"], session["id"]);

    let longest = "k".repeat(255);
    open(&alice, &longest, &wish).await.expect(StatusCode::CREATED);
    for key in ["", " ", "k".repeat(256).as_str(), "with space", "with\ttab"] {
        open(&alice, key, &wish).await.problem(400, "INVALID_REQUEST");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_at_once_with_one_key_open_one_session() {
    let house = House::start(settings()).await;
    let alice = house.alice();
    let wish = json!({"template": "counting"});
    for round in 0..3 {
        let key = format!("round-{round}");
        let answers = join_all((0..20).map(|_| open(&alice, &key, &wish))).await;
        let mut ids = HashSet::new();
        for answer in answers {
            if answer.status == StatusCode::CREATED {
                ids.insert(id(&answer.json()).to_owned());
            } else {
                answer.problem(409, "CONFLICT");
            }
        }
        assert_eq!((ids.len(), count(&alice).await), (1, round + 1), "round {round}: {ids:?}");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_failed_can_be_tried_again_with_the_same_key() {
    let house = House::start(settings().set("pool", "cap", "2")).await;
    let alice = house.alice();
    let wish = json!({"template": "counting", "workspace": "wanted", "queue_timeout_s": 5});
    open(&alice, "refused", &json!({"template": "no-such-template"})).await.problem(400, "INVALID_REQUEST");
    let held = alice.open(wish.clone()).await;
    open(&alice, "refused", &wish).await.problem(409, "WORKSPACE_IN_USE");
    alice.close(&held).await;
    let opened = open(&alice, "refused", &wish).await;
    assert_eq!(opened.header("idempotent-replayed"), "");
    opened.expect(StatusCode::CREATED);

    // A caller who hangs up while waiting, and comes again with the same key, gets a session and no more than one.
    let other = alice.open(json!({"template": "counting"})).await;
    let waiting = json!({"template": "counting", "queue_timeout_s": 20});
    let impatient = tokio::time::timeout(Duration::from_millis(300), open(&alice, "impatient", &waiting));
    assert!(impatient.await.is_err(), "there was room");
    alice.close(&other).await;
    let again = until("the key is free again", Duration::from_secs(20), async || {
        let reply = open(&alice, "impatient", &waiting).await;
        if reply.status == StatusCode::CREATED {
            return Some(reply.json());
        }
        reply.problem(409, "CONFLICT");
        None
    });
    let again = again.await;
    let ready = alice.get_json("/v1/sessions?state=ready").await;
    let ready = ready["items"].as_array().expect("a list").iter().map(id).collect::<HashSet<_>>();
    assert!(ready.contains(id(&again)) && ready.len() == 2, "{ready:?}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prompt_that_is_repeated_is_given_to_the_agent_once() {
    let mut house = House::start(settings()).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "counting"})).await;
    let path = format!("/v1/sessions/{}/turns", id(&session));
    let prompt = json!({"prompt": "echo once; sleep 1; echo done"});
    let key = [("idempotency-key", "turn-1")];

    // While it runs, and when it is over: the answer it had, or that somebody is at it.
    let first = alice.post_with(&path, &key, &prompt).await.expect(StatusCode::ACCEPTED);
    for answer in join_all((0..10).map(|_| alice.post_with(&path, &key, &prompt))).await {
        assert_eq!(
            (answer.status, answer.header("idempotent-replayed")),
            (StatusCode::ACCEPTED, "true"),
            "{}",
            answer.text()
        );
        assert_eq!(answer.json()["id"], first["id"]);
    }
    alice.post_with(&path, &key, &json!({"prompt": "echo else"})).await.problem(422, "IDEMPOTENCY_MISMATCH");
    alice.post(&path, &json!({"prompt": "echo else"})).await.problem(409, "TURN_IN_PROGRESS");

    // As a stream it is that turn's stream, from its beginning: while it runs, when it is over, and after a crash.
    let stream = async |alice: &Client| {
        let headers = [key[0], ("accept", "text/event-stream"), ("content-type", "application/json")];
        let response = alice.send(Method::POST, &path, &headers, Bytes::from(prompt.to_string())).await;
        assert_eq!(response.headers().get("idempotent-replayed").map(|value| value.as_bytes()), Some(&b"true"[..]));
        Events::of(response).rest().await
    };
    let running = stream(&alice).await;
    assert_eq!(running.first().map(|event| event.kind.as_str()), Some("turn.started"));
    assert_eq!(running.last().map(|event| event.kind.as_str()), Some("turn.ended"));
    assert!(running.iter().all(|event| event.turn.as_deref() == Some(id(&first))), "{running:#?}");
    alice.ask(&session, "echo another turn").await;
    assert_eq!(stream(&alice).await, running);
    house.crash().await;
    house.launch().await;
    assert_eq!(stream(&alice).await, running);
    assert_eq!(alice.post_with(&path, &key, &prompt).await.expect(StatusCode::ACCEPTED)["id"], first["id"]);

    let noted = alice.ask(&session, "grep -c 'sleep 1; echo done' /sandbox/workspace/prompts").await;
    // The question itself has the words, too.
    assert_eq!(noted.trim(), "2");
    let begun = log(&alice, id(&session)).await.into_iter().filter(|event| event.kind == "turn.started").count();
    assert_eq!(begun, 3);
    house.stop().await;
}
