//! The container engine goes away and comes back; the server stays.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::json;

use crate::{
    client::id,
    daemon::Daemon,
    engine::Engine,
    house::House,
    settings::{BUSYBOX, Settings},
    wait::until,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_outlives_its_engine_and_recovers_with_it() {
    let (mut daemon, engine) = Daemon::start().await;
    Engine::of_machine().await.copy_image(BUSYBOX, &engine).await;
    let settings = Settings::new().shell().set("pool", "backoff", "\"200ms\"").set("pool", "backoff_max", "\"1s\"");
    let settings = settings.set("pool", "sweep", "\"1s\"").set("runtime", "call_timeout", "\"2s\"");
    let mut house = House::start_on(Some(engine), settings).await;
    let alice = house.alice();
    let held = alice.open(json!({"template": "shell"})).await;

    daemon.crash().await;
    let reason = until("/readyz says no", Duration::from_secs(20), async || {
        let reply = house.visitor().get("/readyz").await;
        (reply.status == StatusCode::SERVICE_UNAVAILABLE).then(|| reply.text())
    });
    let reason = reason.await;
    assert!(reason.to_lowercase().contains("engine"), "it says why: {reason}");
    assert_eq!(house.visitor().get("/healthz").await.status, StatusCode::OK);

    // The engine is not between a user and their agent.
    assert_eq!(alice.ask(&held, "echo still here").await.trim(), "still here");

    // What is in stock may still be had; then the answer is the truth.
    let refused = until("an open is refused", Duration::from_secs(20), async || {
        let reply = alice.post("/v1/sessions", &json!({"template": "shell", "queue_timeout_s": 2})).await;
        (reply.status != StatusCode::CREATED).then_some(reply)
    });
    let refused = refused.await;
    refused.problem(503, "ENGINE_UNAVAILABLE");
    assert!(!refused.text().contains("/var/"), "{}", refused.text());
    assert!(house.runs());

    daemon.launch().await;
    until("/readyz says yes", Duration::from_secs(40), async || {
        (house.visitor().get("/readyz").await.status == StatusCode::OK).then_some(())
    })
    .await;
    let fresh = alice.open(json!({"template": "shell"})).await;
    assert_eq!(alice.ask(&fresh, "echo back").await.trim(), "back");

    // The engine ended the containers it found when it came back: their sessions say so.
    let path = format!("/v1/sessions/{}", id(&held));
    let end = until("the lost session has ended", Duration::from_secs(20), async || {
        let session = alice.get_json(&path).await;
        (session["state"] == "ended").then(|| session["end"]["reason"].clone())
    });
    let end = end.await;
    assert!([json!("sandbox_lost"), json!("agent_exited")].contains(&end), "{end}");
    house.stop().await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_an_engine_says_so_and_does_not_start() {
    let settings = Settings::new().shell().set("runtime", "host", "\"unix:///var/tmp/no-engine-here.sock\"");
    let mut house = House::prepare(None, settings).await;
    house.launch_unready();
    let status = house.ended().await;
    assert_eq!(status.code(), Some(69), "{status:?}");
    let log = String::from_utf8_lossy(&house.log()).into_owned();
    let last = log.lines().last().expect("it says why");
    assert!(last.contains("engine"), "{log}");
}
