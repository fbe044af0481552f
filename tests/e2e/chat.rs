//! The simple door: one call, no session to care about.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use serde_json::json;

use crate::{
    client::id,
    house::{House, model},
    settings::Settings,
    stream::{Events, text},
    wait::until,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_simple_door_opens_a_session_once_and_streams_each_turn() {
    let house = House::start(Settings::new().gemini(model(None).await)).await;
    let alice = house.alice();

    let body = Bytes::from(json!({"prompt": "[words:hello there]"}).to_string());
    let json_headers = [("content-type", "application/json")];
    let first = Events::of(alice.send(Method::POST, "/v1/chat", &json_headers, body).await).rest().await;
    assert_eq!(text(&first), "hello there");
    assert_eq!(first.last().map(|event| event.kind.as_str()), Some("turn.ended"));

    let body = Bytes::from("prompt=%5Bwords%3Aa+form%5D");
    let form_headers = [("content-type", "application/x-www-form-urlencoded")];
    let second = Events::of(alice.send(Method::POST, "/v1/chat", &form_headers, body).await).rest().await;
    assert_eq!(text(&second), "a form");

    let sessions = alice.get_json("/v1/sessions").await;
    assert_eq!(sessions["items"].as_array().map(Vec::len), Some(1), "one default session: {sessions}");

    // Closed or not, the door opens a new one when it needs it.
    alice.close(&sessions["items"][0]).await;
    let body = Bytes::from(json!({"prompt": "[words:again]"}).to_string());
    let third = Events::of(alice.send(Method::POST, "/v1/chat", &json_headers, body).await).rest().await;
    assert_eq!(text(&third), "again");

    alice.post("/v1/chat", &json!({"prompt": ""})).await.problem(400, "INVALID_REQUEST");
    alice.post("/v1/chat", &json!({"prompt": "hi", "shell": true})).await.problem(400, "INVALID_REQUEST");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_calls_at_the_same_time_open_one_session() {
    // The only sandbox is taken, so that opening takes a while.
    let settings = Settings::new().shell().set("pool", "cap", "1").set("limits", "waiting", "8");
    let house = House::start(settings.set("pool", "queue_timeout", "\"10s\"")).await;
    let (alice, bob) = (house.alice(), house.bob());
    let held = bob.open(json!({"template": "shell"})).await;
    let body = || Bytes::from(json!({"prompt": "echo once"}).to_string());
    let call = async || alice.send(Method::POST, "/v1/chat", &[("content-type", "application/json")], body()).await;
    let give_way = async {
        let waits = async || (bob.get_json("/v1/pools").await["items"][0]["waiting"].as_u64() > Some(0)).then_some(());
        until("alice is in the queue", Duration::from_secs(5), waits).await;
        bob.close(&held).await;
    };
    let (first, second, third, ()) = tokio::join!(call(), call(), call(), give_way);
    let mut answered = 0;
    for answer in [first, second, third] {
        // One turn at a time: who comes while the first runs is told so.
        match answer.status().as_u16() {
            200 => {
                let events = Events::of(answer).rest().await;
                assert_eq!(text(&events).trim(), "once");
                answered += 1;
            }
            status => assert_eq!(status, 409),
        }
    }
    assert!(answered > 0);
    let sessions = alice.get_json("/v1/sessions").await;
    assert_eq!(sessions["items"].as_array().map(Vec::len), Some(1), "{sessions}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_have_no_further_stream_gets_no_turn_either() {
    let house = House::start(Settings::new().shell().set("limits", "streams", "1")).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell"})).await;
    let stream = alice.events(&session, 0).await;

    alice.post("/v1/chat", &json!({"prompt": "echo paid for"})).await.problem(429, "RESOURCE_LIMIT");
    // A page is kept for a client who may not take it, as a stream is.
    let page = format!("/v1/sessions/{}/events", id(&session));
    let accept = [("accept", "application/json")];
    alice.call(Method::GET, &page, &accept, Bytes::new()).await.problem(429, "RESOURCE_LIMIT");
    drop(stream);

    let free = async || {
        let page = alice.call(Method::GET, &page, &accept, Bytes::new()).await;
        (page.status == 200).then(|| page.json())
    };
    until("the stream is given back", Duration::from_secs(5), free).await;
    let sessions = alice.get_json("/v1/sessions").await;
    let seen = sessions["items"].as_array().expect("a list").iter().map(|session| &session["last_seq"]);
    assert!(seen.clone().all(|last| last == 1), "a turn was started: {sessions}");
    assert_eq!(seen.count(), 2, "{sessions}");
    house.stop().await;
}
