//! Without an engine: sandboxes as plain processes, for fast tests and never for strangers.

use serde_json::json;

use crate::{
    house::House,
    settings::Settings,
    stream::{assert_gapless, text},
};

fn processes_only() -> Settings {
    Settings::new().set("runtime", "kind", "\"process\"").shell()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_processes_serve_the_same_way() {
    let house = House::start(processes_only()).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell", "workspace": "plain"})).await;
    assert_eq!(session["lease"]["start"], "warm", "{session}");

    let mut events = alice.events(&session, 0).await;
    let turn = alice.prompt(&session, "seq 1 9; echo kept >kept").await.rest().await;
    let seen = events.up_to("turn.ended").await;
    assert_gapless(&seen, 1);
    assert_eq!(text(&turn).split_whitespace().collect::<String>(), "123456789");
    assert_eq!(turn.last().map(|event| event.kind.as_str()), Some("turn.ended"));
    alice.close(&session).await;
    assert_eq!(events.rest().await.last().map(|event| event.kind.as_str()), Some("session.ended"));
    house.stop().await;
}

/// Nobody could find them again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_processes_are_never_left_to_another_server() {
    let mut house = House::start(processes_only().hands_over()).await;
    let session = house.alice().open(json!({"template": "shell", "workspace": "plain"})).await;
    let events = house.alice().events(&session, 0).await;
    house.terminate();
    let end = events.rest().await;
    assert_eq!(end.last().map(|event| event.kind.as_str()), Some("session.ended"), "{end:?}");
    assert_eq!(house.ended().await.code(), Some(0));
    assert_eq!(std::fs::read_dir(house.state().join("slots")).expect("listed").count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_processes_are_refused_to_other_machines() {
    let mut house = House::start(processes_only()).await;
    house.terminate();
    assert_eq!(house.ended().await.code(), Some(0));

    house.address.set_ip([0, 0, 0, 0].into());
    house.launch_unready();
    let status = house.ended().await;
    assert!(status.code().is_some_and(|code| code != 0), "{status:?}");
    let log = String::from_utf8_lossy(&house.log()).into_owned();
    assert!(log.lines().last().is_some_and(|line| line.contains("loopback")), "{log}");
}
