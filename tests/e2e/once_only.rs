//! A sandbox serves one session, then is gone.

use std::{collections::HashSet, time::Duration};

use serde_json::{Value, json};

use crate::{
    client::Client,
    house::{House, model},
    processes,
    settings::Settings,
    wait::until,
};

/// The container whose pid namespace the session's agent says it is in.
async fn container_of(house: &House, client: &Client, session: &Value) -> String {
    let said = client.ask(session, "readlink /proc/self/ns/pid").await;
    for id in house.engine().running(&house.instance).await {
        let Some(init) = house.engine().init(&id).await else { continue };
        if processes::namespace(init).is_some_and(|namespace| namespace.to_string_lossy() == said.trim()) {
            return id;
        }
    }
    panic!("no container is {said}");
}

async fn gone(house: &House, id: &str) {
    until("a closed session's container is gone", Duration::from_secs(15), async || {
        house.engine().containers(&house.instance).await.iter().all(|one| one.id != id).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_sessions_never_meet_the_same_container_twice() {
    let house = House::start(Settings::new().shell().set("pool", "size", "3")).await;
    let alice = house.alice();
    let mut met = HashSet::new();
    for round in 0..50 {
        let session = alice.open(json!({"template": "shell"})).await;
        let found = alice.ask(&session, "find /tmp /home/agent /sandbox/workspace -type f | tr '\\n' ' '").await;
        assert_eq!(found.trim(), "", "round {round} found something");
        alice
            .ask(&session, "for place in /tmp /home/agent /sandbox/workspace; do echo canary >$place/canary; done")
            .await;
        let container = container_of(&house, &alice, &session).await;
        alice.close(&session).await;
        if round % 10 == 0 {
            gone(&house, &container).await;
        }
        assert!(met.insert(container), "round {round} met a used container");
    }
    assert_eq!(met.len(), 50);
    for id in &met {
        gone(&house, id).await;
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_gemini_sessions_never_meet_the_same_container_twice() {
    let house = House::start(Settings::new().gemini(model(None).await)).await;
    let alice = house.alice();
    let mut met = HashSet::new();
    for round in 0..5 {
        house.stocked().await;
        let session = alice.open(json!({"template": "gemini"})).await;
        let before = house.engine().containers(&house.instance).await;
        assert_eq!(alice.ask(&session, "[words:hello]").await, "hello");
        alice.close(&session).await;
        // Closing one session takes away one container: its own.
        let left = until("a container is gone", Duration::from_secs(15), async || {
            let now = house.engine().containers(&house.instance).await;
            let left = before.iter().filter(|one| now.iter().all(|other| other.id != one.id));
            let left = left.map(|one| one.id.clone()).collect::<Vec<_>>();
            (!left.is_empty()).then_some(left)
        });
        let left = left.await;
        assert_eq!(left.len(), 1, "round {round}: {left:?}");
        assert!(met.insert(left[0].clone()), "round {round} met a used container");
    }
    house.stop().await;
}
