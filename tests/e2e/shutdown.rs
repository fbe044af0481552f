//! A server that is told to stop ends everything truthfully, or leaves it to the next one.

use serde_json::json;

use crate::{
    house::{House, model},
    settings::Settings,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_server_ends_sessions_streams_and_containers() {
    let mut house = House::start(Settings::new().gemini(model(None).await)).await;
    let alice = house.alice();
    let idle = alice.open(json!({"template": "gemini"})).await;
    let busy = alice.open(json!({"template": "gemini"})).await;
    let (idle_events, mut busy_events) = (alice.events(&idle, 0).await, alice.events(&busy, 0).await);
    let mut turn = alice.prompt(&busy, "[hang]").await;
    turn.up_to("turn.started").await;
    busy_events.up_to("turn.started").await;

    house.terminate();
    let (idle_end, busy_end, turn_end) = tokio::join!(idle_events.rest(), busy_events.rest(), turn.rest());
    for events in [&idle_end, &busy_end] {
        let last = events.last().expect("there are events");
        assert_eq!((last.kind.as_str(), &last.content["reason"]), ("session.ended", &json!("shutdown")), "{events:?}");
    }
    assert!(busy_end.iter().any(|event| event.kind == "turn.failed" || event.kind == "turn.ended"), "{busy_end:?}");
    assert!(!turn_end.is_empty(), "a turn's own stream tells its end");
    let status = house.ended().await;
    assert_eq!(status.code(), Some(0), "{status:?}");
    assert_eq!(house.engine().containers(&house.instance).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_stopped_while_it_starts_leaves_nothing() {
    let mut house = House::start(Settings::new().shell()).await;
    house.terminate();
    assert_eq!(house.ended().await.code(), Some(0));
    house.launch_unready();
    // As soon as there is a container, which is long before it is ready.
    crate::wait::until("there is a container", std::time::Duration::from_secs(20), async || {
        (!house.engine().containers(&house.instance).await.is_empty()).then_some(())
    })
    .await;
    house.terminate();
    house.ended().await;
    assert_eq!(house.engine().containers(&house.instance).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hands_over_leaves_its_sessions_and_one_that_is_interrupted_ends_them() {
    let settings = Settings::new().gemini(model(None).await).set("sandbox", "orphan_grace", "\"60s\"").hands_over();
    let mut house = House::start(settings).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "gemini"})).await;
    let mut events = alice.events(&session, 0).await;
    events.up_to("session.ready").await;
    house.stocked().await;
    let before = house.engine().running(&house.instance).await;
    house.terminate();
    let end = events.rest().await;
    assert!(end.iter().all(|event| event.kind != "session.ended"), "{end:?}");
    assert_eq!(house.ended().await.code(), Some(0));
    assert_eq!(house.engine().running(&house.instance).await, before);

    house.launch().await;
    assert_eq!(alice.ask(&session, "[words:still here]").await, "still here");
    let mut events = alice.events(&session, 0).await;
    events.up_to("turn.ended").await;
    house.signal(rustix::process::Signal::INT);
    let end = events.rest().await;
    let last = end.last().expect("there are events");
    assert_eq!((last.kind.as_str(), &last.content["reason"]), ("session.ended", &json!("shutdown")), "{end:?}");
    assert_eq!(house.ended().await.code(), Some(0));
    assert_eq!(house.engine().containers(&house.instance).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_ready_when_a_server_hands_over_is_not_left() {
    let slow = Settings::new().template("slow", crate::settings::BUSYBOX, &["sh", "-c", crate::settings::SLOW]);
    let mut house = House::prepare(Some(crate::engine::Engine::of_machine().await), slow.hands_over()).await;
    house.launch_unready();
    // The proof comes and goes; then its first sandbox boots.
    let what = "a sandbox is being started";
    crate::wait::until(what, std::time::Duration::from_secs(20), async || {
        let log = String::from_utf8_lossy(&house.log()).into_owned();
        let starts = log.contains("listening") && !house.engine().containers(&house.instance).await.is_empty();
        starts.then_some(())
    })
    .await;
    house.terminate();
    assert_eq!(house.ended().await.code(), Some(0));
    // Its agent takes half a second for its first answer.
    assert_eq!(house.engine().containers(&house.instance).await, []);
    assert_eq!(std::fs::read_dir(house.state().join("slots")).expect("listed").count(), 0);
}
