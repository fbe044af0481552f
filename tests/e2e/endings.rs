//! Sessions that end by themselves, each with its reason.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{
    client::id,
    house::{House, model},
    settings::{BUSYBOX, Settings},
    wait::until,
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
    // It takes the first prompt, then everything.
    let settings = Settings::new().lines("greedy", BUSYBOX, &["sh", "-c", "read -r line; exec tail /dev/zero"]);
    let settings = settings.set("templates.greedy.limits", "memory_mib", "64");
    let settings =
        settings.set("templates.greedy.limits", "tmp_mib", "8").set("templates.greedy.limits", "home_mib", "8");
    let house = House::start(settings).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "greedy"})).await;
    let mut events = alice.events(&session, 0).await;
    alice.prompt(&session, "eat").await.rest().await;
    let seen = events.up_to("session.ended").await;
    let [.., turn, end] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!((turn.kind.as_str(), &turn.content["code"]), ("turn.failed", &json!("AGENT_FAILED")), "{seen:?}");
    assert_eq!((end.kind.as_str(), &end.content["reason"]), ("session.ended", &json!("out_of_memory")), "{seen:?}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_without_memory_left_does_not_end_its_agent() {
    let settings = Settings::new().shell().set("templates.shell.limits", "memory_mib", "64");
    let settings =
        settings.set("templates.shell.limits", "tmp_mib", "8").set("templates.shell.limits", "home_mib", "8");
    let house = House::start(settings).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell"})).await;
    alice.prompt(&session, "tail /dev/zero").await.rest().await;
    assert_eq!(alice.ask(&session, "echo alive").await.trim(), "alive");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_somebody_removes_ends_its_session_without_waiting_for_the_link() {
    // A link may take an hour to come back: the end must be known from the container's own death.
    let settings = Settings::new().shell().set("templates.shell", "min_warm", "0");
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sandbox_that_stops_answering_ends_its_session_and_is_removed() {
    let settings = Settings::new().shell().set("templates.shell", "min_warm", "0");
    let house = House::start(settings.set("sandbox", "relink_timeout", "\"1s\"")).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell"})).await;
    let events = alice.events(&session, 0).await;
    let containers = house.engine().containers(&house.instance).await;
    house.engine().pause(&containers[0].id).await;
    let last = events.rest().await.pop().expect("there are events");
    assert_eq!((last.kind.as_str(), &last.content["reason"]), ("session.ended", &json!("sandbox_lost")), "{last:?}");
    until("the frozen container is removed", Duration::from_secs(10), async || {
        house.engine().containers(&house.instance).await.is_empty().then_some(())
    })
    .await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_is_suspended_for_a_while_loses_no_sandbox() {
    let settings = Settings::new().shell().set("pool", "size", "2").set("sandbox", "relink_timeout", "\"2s\"");
    let house = House::start(settings).await;
    house.stocked().await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell"})).await;
    house.stocked().await;
    let mut before = house.engine().running(&house.instance).await;
    let mut supervisors = Vec::new();
    for id in &before {
        let init = house.engine().init(id).await.expect("it runs");
        supervisors.push(Pid::from_raw(init.cast_signed()).expect("a process"));
    }
    let all = |signal| {
        supervisors.iter().for_each(|pid| kill_process(*pid, signal).expect("it runs"));
    };
    // There is nothing to look at here: what is tested is that time passes. First as much as makes every supervisor owe an answer.
    all(Signal::STOP);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    house.signal(Signal::STOP);
    // More than a supervisor may owe one.
    tokio::time::sleep(Duration::from_secs(4)).await;
    // The server wakes first, and finds everybody silent.
    house.signal(Signal::CONT);
    tokio::time::sleep(Duration::from_millis(300)).await;
    all(Signal::CONT);
    assert_eq!(alice.ask(&session, "echo here").await.trim(), "here");
    let mut after = house.engine().running(&house.instance).await;
    before.sort();
    after.sort();
    assert_eq!(before, after);
    house.stop().await;
}
