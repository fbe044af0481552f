//! Others on the same engine: a second server, and containers that look like ours.

use std::{collections::HashMap, time::Duration};

use serde_json::json;

use crate::{
    engine::Container,
    house::House,
    pools::{at_rest, no_orphans},
    settings::Settings,
};

/// Some sweeps of the settings below.
const SWEEPS: Duration = Duration::from_secs(3);

fn settings() -> Settings {
    Settings::new().unlimited().shell().stock("shell", 2, 2).set("pool", "cap", "6").set("pool", "sweep", "\"500ms\"")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_under_load_do_not_disturb_each_other() {
    let (first, mut second) = tokio::join!(House::start(settings()), House::start(settings()));
    let held = first.alice().open(json!({"template": "shell"})).await;
    let visits = |house: &House| {
        let alice = house.alice();
        tokio::spawn(async move {
            for number in 0..12 {
                let session = alice.open(json!({"template": "shell", "queue_timeout_s": 30})).await;
                assert_eq!(alice.ask(&session, &format!("echo {number}")).await.trim(), number.to_string());
                alice.close(&session).await;
            }
        })
    };
    let (ones, others) = tokio::join!(visits(&first), visits(&second));
    ones.and(others).expect("both serve");

    // The second crashes, and another life of it tidies up: only its own.
    let theirs = at_rest_of_first(&first).await;
    second.crash().await;
    second.launch().await;
    tokio::time::sleep(SWEEPS).await;
    assert_eq!(ids(&first.engine().containers(&first.instance).await), theirs);
    assert_eq!(first.alice().ask(&held, "echo untouched").await.trim(), "untouched");
    no_orphans(&second).await;
    second.stop().await;
    assert_eq!(ids(&first.engine().containers(&first.instance).await), theirs);
    first.stop().await;
}

/// The first house's containers, once it neither starts nor ends any: one is held, two are in stock.
async fn at_rest_of_first(house: &House) -> Vec<String> {
    crate::wait::until("three containers", Duration::from_secs(20), async || {
        let pool = crate::pools::pool(house, "shell").await;
        let still = pool["warm"] == 2 && pool["leased"] == 1 && pool["starting"] == 0 && pool["ending"] == 0;
        let containers = house.engine().containers(&house.instance).await;
        (still && containers.len() == 3).then(|| ids(&containers))
    })
    .await
}

fn ids(containers: &[Container]) -> Vec<String> {
    let mut ids = containers.iter().map(|one| one.id.clone()).collect::<Vec<_>>();
    ids.sort_unstable();
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_that_look_like_ours_are_never_touched() {
    let mut house = House::start(settings()).await;
    let engine = house.engine().clone();
    at_rest(&house, "shell").await;
    let ours = engine.containers(&house.instance).await.swap_remove(0);
    let mut strangers = Vec::new();
    for (number, labels) in look_alikes(&ours.labels, &house.instance).into_iter().enumerate() {
        // Even the name is ours, but for its end.
        let name = format!("{}{number}", ours.name.trim_start_matches('/'));
        strangers.push(engine.start_stranger(&name, labels).await);
    }

    // Sweeps, a refill, a crash, a start that tidies up, and a stop.
    tokio::time::sleep(SWEEPS).await;
    let session = house.alice().open(json!({"template": "shell"})).await;
    house.alice().close(&session).await;
    house.crash().await;
    house.launch().await;
    tokio::time::sleep(SWEEPS).await;
    house.terminate();
    let ended = house.ended().await;
    assert_eq!(ended.code(), Some(0));

    let mut touched = Vec::new();
    for stranger in &strangers {
        if engine.init(stranger).await.is_none() {
            touched.push(stranger.clone());
        }
        engine.remove(stranger).await;
    }
    assert_eq!(touched, [] as [String; 0], "of {strangers:?}");
    assert_eq!(engine.containers(&house.instance).await, [], "its own are gone");
}

/// Labels as like ours as can be, none of them ours: another instance's, ours under longer and shorter keys, and ours in another case.
fn look_alikes(ours: &HashMap<String, String>, instance: &str) -> Vec<HashMap<String, String>> {
    let change = |change: &dyn Fn(&str, &str) -> (String, String)| {
        ours.iter().map(|(key, value)| change(key, value)).collect::<HashMap<_, _>>()
    };
    let other = |name: String| {
        change(&|key, value| {
            let value = if value == instance { name.clone() } else { value.to_owned() };
            (key.to_owned(), value)
        })
    };
    vec![
        other(format!("{instance}-2")),
        other(instance[..instance.len() - 1].to_owned()),
        other(instance.to_uppercase()),
        other(String::new()),
        change(&|key, value| (format!("{key}.old"), value.to_owned())),
        change(&|key, value| (format!("x{key}"), value.to_owned())),
        change(&|key, value| (key.to_uppercase(), value.to_owned())),
        // The name of the instance alone, under some other key.
        HashMap::from([("com.example.instance".to_owned(), instance.to_owned())]),
        HashMap::new(),
    ]
}
