//! How many containers there may be, and how many may start at once: counted by an observer of the engine's own list.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    client::Client,
    house::House,
    observer::Observer,
    pools::{at_rest_within, no_orphans, pool, tell},
    settings::{BUSYBOX, SLOW, Settings},
    wait::until,
};

const SIZE: usize = 10;
const CAP: usize = 12;
const START_LIMIT: usize = 2;

/// Ten sandboxes, two at a time.
const FILLED: Duration = Duration::from_secs(60);

/// How long a container may be on the engine's list that the server no longer knows: removing one takes a moment.
const FORGOTTEN: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_refills_at_once_keep_to_the_cap_and_to_the_limit_of_starts() {
    // An agent whose starts last long enough to be counted.
    let settings = Settings::new().template("slow", BUSYBOX, &["sh", "-c", SLOW]).unlimited().stock("slow", SIZE, SIZE);
    let settings = settings.set("pool", "cap", &CAP.to_string()).set("pool", "memory_share", "4.0");
    let mut settings = settings.set("runtime", "start_limit", &START_LIMIT.to_string());
    settings.await_stock = false;
    let house = House::start(settings).await;
    let observer = Observer::watch(&house);
    at_rest_within(&house, "slow", FILLED).await;

    let alice = house.alice();
    let sessions = at_once(SIZE, || open(alice.clone())).await;
    assert!(sessions.iter().all(|session| session["lease"]["start"] == "warm"), "{sessions:?}");
    // All are held: two more fill the cap, and the refill has to stop there.
    until("the cap is reached", FILLED, async || {
        let now = pool(&house, "slow").await;
        (now["warm"] == CAP - SIZE && now["leased"] == SIZE && now["starting"] == 0).then_some(())
    })
    .await;
    let mut closing = sessions.into_iter();
    at_once(SIZE, || close(alice.clone(), closing.next().expect("as many as were opened"))).await;
    at_rest_within(&house, "slow", FILLED).await;
    no_orphans(&house).await;

    let seen = observer.finish().await;
    tell(&format!("limits: {seen:?}"));
    assert!(seen.looks > 100, "it looked too seldom: {seen:?}");
    assert!(seen.containers >= 2 * SIZE, "there were no ten refills: {seen:?}");
    assert_eq!(seen.most, CAP, "the cap was reached and never passed: {seen:?}");
    assert!(seen.most_starting <= START_LIMIT && seen.most_starting > 0, "{seen:?}");
    assert!(seen.most_created <= START_LIMIT && seen.most_told_starting <= START_LIMIT, "{seen:?}");
    assert!(seen.longest_unknown < FORGOTTEN, "{seen:?}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limits_of_all_sandboxes_together_stay_within_the_share_of_memory() {
    // Room for three of 64 MiB and no more.
    let settings = Settings::new().unlimited().shell().stock("shell", 2, 2).set("pool", "cap", "10");
    let settings = ["memory_mib", "64", "tmp_mib", "8", "home_mib", "8"]
        .chunks(2)
        .fold(settings, |settings, pair| settings.set("templates.shell.limits", pair[0], pair[1]));
    let house = House::start(settings.set("runtime", "memory_mib", "200")).await;
    let observer = Observer::watch(&house);
    let alice = house.alice();
    let wish = json!({"template": "shell", "queue_timeout_s": 3});
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(alice.open(wish.clone()).await);
    }
    alice.post("/v1/sessions", &wish).await.problem(503, "POOL_EXHAUSTED");
    alice.close(&sessions[0]).await;
    alice.open(json!({"template": "shell", "queue_timeout_s": 20})).await;
    let seen = observer.finish().await;
    assert_eq!(seen.most, 3, "{seen:?}");
    house.stop().await;
}

/// Does the same so many times at once.
async fn at_once<T: Send + 'static>(times: usize, mut begin: impl FnMut() -> tokio::task::JoinHandle<T>) -> Vec<T> {
    let begun = (0..times).map(|_| begin()).collect::<Vec<_>>();
    let mut done = Vec::new();
    for one in begun {
        done.push(one.await.expect("all of them go well"));
    }
    done
}

fn open(client: Client) -> tokio::task::JoinHandle<Value> {
    tokio::spawn(async move { client.open(json!({"template": "slow", "queue_timeout_s": 30})).await })
}

fn close(client: Client, session: Value) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move { client.close(&session).await })
}
