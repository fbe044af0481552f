//! Sessions that end by themselves, each with its reason.

use serde_json::{Value, json};

use crate::{
    client::id,
    house::{House, model},
    settings::Settings,
};

/// Opens a session, waits for its end and gives back the reason.
async fn end_of(house: &House, wish: Value) -> Value {
    let alice = house.alice();
    let session = alice.open(wish).await;
    let events = alice.events(&session, 0).await.rest().await;
    let last = events.last().expect("there are events");
    assert_eq!(last.kind, "session.ended", "{events:?}");
    let told = alice.get_json(&format!("/v1/sessions/{}", id(&session))).await;
    assert_eq!((&told["state"], &told["end"]), (&json!("ended"), &last.content), "{told}");
    last.content["reason"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_and_old_sessions_end_with_their_reason() {
    let house = House::start(Settings::new().shell().set("pool", "size", "2")).await;
    let idle = end_of(&house, json!({"template": "shell", "idle_timeout_s": 1}));
    let old = end_of(&house, json!({"template": "shell", "max_age_s": 1}));
    assert_eq!(tokio::join!(idle, old), (json!("idle"), json!("expired")));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_waits_too_long_is_denied() {
    let settings = Settings::new().gemini(model(None).await).set("session", "permission_timeout", "\"1s\"");
    let house = House::start(settings).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "gemini"})).await;
    let events = alice.prompt(&session, "[tool:write_file path=notes.txt text=hello]").await.rest().await;
    let resolved = events.iter().find(|event| event.kind == "permission.resolved").expect("the question is settled");
    assert_eq!(resolved.content["by"], "timeout", "{resolved:?}");
    assert_eq!(events.last().map(|event| event.kind.as_str()), Some("turn.ended"), "{events:#?}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_without_memory_left_ends_its_session_truthfully() {
    let settings = Settings::new().shell().set("templates.shell.limits", "memory_mib", "64");
    let settings =
        settings.set("templates.shell.limits", "tmp_mib", "8").set("templates.shell.limits", "home_mib", "8");
    let house = House::start(settings).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell"})).await;
    // Builtins of the loop's own shell, so that it is the agent itself that grows.
    let events = alice.prompt(&session, "exec tail /dev/zero").await.rest().await;
    let ended = alice.get_json(&format!("/v1/sessions/{}", id(&session))).await;
    if ended["state"] == "ended" {
        assert!([json!("out_of_memory"), json!("agent_exited")].contains(&ended["end"]["reason"]), "{ended}");
    } else {
        // The engine ended the prompt's own shell only; the agent goes on.
        assert_eq!(events.last().map(|event| event.kind.as_str()), Some("turn.ended"), "{events:?}");
        assert_eq!(alice.ask(&session, "echo alive").await.trim(), "alive");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_somebody_removes_ends_its_session_without_waiting_for_the_link() {
    // A link may take an hour to come back: the end must be known from the container's own death.
    let settings = Settings::new().shell().set("templates.shell", "warm", "0");
    let house = House::start(settings.set("sandbox", "relink_timeout", "\"1h\"")).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell"})).await;
    let events = alice.events(&session, 0).await;
    let containers = house.engine().containers(&house.instance).await;
    assert_eq!(containers.len(), 1, "{containers:?}");
    house.engine().remove(&containers[0].id).await;
    let last = events.rest().await.pop().expect("there are events");
    assert_eq!((last.kind.as_str(), &last.content["reason"]), ("session.ended", &json!("sandbox_lost")), "{last:?}");
    house.stop().await;
}
