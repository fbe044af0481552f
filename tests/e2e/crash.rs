//! After a crash of the server nothing is lost: what still runs goes on, and of what doesn't nothing is left.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

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
    let told = alice.get_json(&format!("/v1/sessions/{}", id(&session))).await;
    assert_eq!((&told["state"], &told["end"]["reason"]), (&json!("ended"), &json!("sandbox_lost")), "{told}");
    let again = alice.open(json!({"template": "shell", "workspace": "kept"})).await;
    assert_eq!(alice.ask(&again, "cat /sandbox/workspace/file").await.trim(), "survived");

    let untouched = house.engine().init(&stranger).await;
    house.engine().remove(&stranger).await;
    assert!(untouched.is_some(), "somebody else's container was ended");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_back_at_once_goes_on_with_what_still_runs() {
    let settings = Settings::new().gemini(model(None).await).set("sandbox", "orphan_grace", "\"60s\"");
    let mut house = House::start(settings).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "gemini", "workspace": "kept"})).await;
    assert_eq!(alice.ask(&session, "[words:before]").await, "before");
    house.stocked().await;
    let old = house.engine().running(&house.instance).await;
    assert_eq!(old.len(), 2);

    house.crash().await;
    assert_eq!(house.engine().running(&house.instance).await, old, "the agents outlive the server for a while");
    house.launch().await;
    house.stocked().await;
    // The throw-away sandbox of the start may still be on its way out.
    until("nothing but what ran before runs", Duration::from_secs(5), async || {
        let now = house.engine().running(&house.instance).await;
        (now.iter().collect::<BTreeSet<_>>() == old.iter().collect()).then_some(())
    })
    .await;
    let told = alice.get_json(&format!("/v1/sessions/{}", id(&session))).await;
    assert_eq!(told["state"], "ready", "{told}");
    assert_eq!(alice.ask(&session, "[words:back]").await, "back");
    alice.close(&session).await;
    until("its sandbox is gone", Duration::from_secs(12), async || {
        let now = house.engine().running(&house.instance).await;
        (old.iter().filter(|one| now.contains(one)).count() == 1).then_some(())
    })
    .await;
    house.stop().await;
}
