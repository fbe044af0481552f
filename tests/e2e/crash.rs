//! After a crash of the server nothing is left, neither containers nor loss.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{
    client::id,
    house::{House, model},
    settings::Settings,
    wait::until,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_crash_sandboxes_end_by_themselves_and_the_next_server_tidies_up() {
    let settings = Settings::new().shell().set("pool", "size", "2").set("sandbox", "orphan_grace", "\"2s\"");
    let mut house = House::start(settings).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell", "workspace": "kept"})).await;
    alice.ask(&session, "echo survived >/sandbox/workspace/file").await;

    // Somebody else's container, as like ours as can be.
    let ours = house.engine().containers(&house.instance).await;
    let look_alike = |value: &String| if *value == house.instance { format!("{value}-other") } else { value.clone() };
    let labels = ours[0].labels.iter().map(|(key, value)| (key.clone(), look_alike(value))).collect();
    let name = format!("{}x", ours[0].name.trim_start_matches('/'));
    let stranger = house.engine().start_stranger(&name, labels).await;

    house.crash().await;
    let crashed = Instant::now();
    until("all supervisors have ended", Duration::from_secs(12), async || {
        house.engine().running(&house.instance).await.is_empty().then_some(())
    })
    .await;
    assert!(crashed.elapsed() > Duration::from_secs(1), "they waited for the server to come back");

    house.launch().await;
    let now = house.engine().containers(&house.instance).await;
    for old in &ours {
        assert!(now.iter().all(|one| one.id != old.id), "{old:?} is left");
    }
    alice.get(&format!("/v1/sessions/{}", id(&session))).await.problem(404, "NOT_FOUND");
    let again = alice.open(json!({"template": "shell", "workspace": "kept"})).await;
    assert_eq!(alice.ask(&again, "cat /sandbox/workspace/file").await.trim(), "survived");

    let untouched = house.engine().init(&stranger).await;
    house.engine().remove(&stranger).await;
    assert!(untouched.is_some(), "somebody else's container was ended");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_back_at_once_clears_what_still_runs() {
    let settings = Settings::new().gemini(model(None).await).set("sandbox", "orphan_grace", "\"60s\"");
    let mut house = House::start(settings).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "gemini", "workspace": "kept"})).await;
    let mut turn = alice.prompt(&session, "[hang]").await;
    turn.up_to("turn.started").await;
    let old = house.engine().containers(&house.instance).await;

    house.crash().await;
    assert!(!house.engine().running(&house.instance).await.is_empty(), "the agents outlive the server for a while");
    house.launch().await;
    let now = house.engine().containers(&house.instance).await;
    assert!(old.iter().all(|old| now.iter().all(|one| one.id != old.id)), "old containers are left: {now:?}");
    let again = alice.open(json!({"template": "gemini", "workspace": "kept"})).await;
    assert_eq!(alice.ask(&again, "[words:back]").await, "back");
    house.stop().await;
}
