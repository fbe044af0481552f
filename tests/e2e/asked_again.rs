//! Requests with a key whose client leaves before the answer, and what answers again cost.

use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    client::{Client, Reply, id},
    house::House,
    settings::Settings,
    wait::until,
};

const SOON: Duration = Duration::from_secs(20);

async fn post(client: &Client, path: &str, key: &str, body: &Value) -> Reply {
    client.post_with(path, &[("idempotency-key", key)], body).await
}

async fn open(client: &Client, key: &str, body: &Value) -> Reply {
    post(client, "/v1/sessions", key, body).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_hangs_up_finds_what_came_of_its_request_or_tries_again() {
    let settings = Settings::new().shell().set("pool", "cap", "1").set("pool", "queue_timeout", "\"15s\"");
    let house = House::start(settings).await;
    let alice = house.alice();
    let body = json!({"template": "shell"});
    let session = open(&alice, "key-1", &body).await.expect(StatusCode::CREATED);

    // An open that waits for a sandbox there is none of: nothing comes of it, and the key is free again.
    let headers = [("content-type", "application/json"), ("idempotency-key", "key-2")];
    let waiting = alice.send(Method::POST, "/v1/sessions", &headers, Bytes::from(body.to_string()));
    let gave_up = tokio::time::timeout(Duration::from_millis(500), waiting).await;
    assert!(gave_up.is_err(), "there was no sandbox");

    // Turns whose client leaves at any moment of the first milliseconds.
    let path = format!("/v1/sessions/{}/turns", id(&session));
    for patience in 0..12_u64 {
        let key = format!("turn-{patience}");
        let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
        let body = json!({"prompt": format!("echo {patience} >>runs")});
        let asked = alice.send(Method::POST, &path, &headers, Bytes::from(body.to_string()));
        drop(tokio::time::timeout(Duration::from_millis(patience), asked).await);
        until("the turn was started once", SOON, async || {
            let again = post(&alice, &path, &key, &body).await;
            (again.status == StatusCode::ACCEPTED).then_some(())
        })
        .await;
        until("the turn is over", SOON, async || {
            let state = alice.get_json(&format!("/v1/sessions/{}", id(&session))).await["state"].clone();
            (state == "ready").then_some(())
        })
        .await;
    }
    let runs = alice.ask(&session, "sort -n runs | tr '\\n' ' '").await;
    assert_eq!(runs.trim(), "0 1 2 3 4 5 6 7 8 9 10 11");

    alice.close(&session).await;
    let opened = open(&alice, "key-2", &body).await;
    assert_eq!(opened.header("idempotent-replayed"), "");
    opened.expect(StatusCode::CREATED);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_again_cost_no_pace_and_new_keys_do() {
    let settings = Settings::new().shell();
    let settings = settings.set("limits", "opens_per_minute", "1").set("limits", "opens_burst", "1");
    let house = House::start(settings).await;
    let alice = house.alice();
    let body = json!({"template": "shell"});
    let first = open(&alice, "key-1", &body).await;
    first.expect(StatusCode::CREATED);
    for _ in 0..3 {
        let again = open(&alice, "key-1", &body).await;
        assert_eq!((again.status, &again.body), (first.status, &first.body));
        open(&alice, "key-2", &body).await.problem(429, "RATE_LIMITED");
    }
    house.stop().await;
}
