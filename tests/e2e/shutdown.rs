//! A server that is told to stop ends everything truthfully.

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
