//! Too fast, too many, and nothing left: the answers say how long to wait.

use std::time::{Duration, Instant};

use hyper::StatusCode;
use serde_json::json;

use crate::{client::id, house::House, settings::Settings, wait::until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_prompts_too_fast_is_slowed_down_and_no_one_else() {
    let settings = Settings::new().shell().set("pool", "size", "2");
    let settings = settings.set("limits", "prompts_per_minute", "2").set("limits", "prompts_burst", "2");
    let house = House::start(settings).await;
    let (alice, bob) = (house.alice(), house.bob());
    let session = alice.open(json!({"template": "shell"})).await;
    for _ in 0..2 {
        alice.ask(&session, "true").await;
    }
    let turns = format!("/v1/sessions/{}/turns", id(&session));
    let reply = alice.post(&turns, &json!({"prompt": "true"})).await;
    reply.problem(429, "RATE_LIMITED");
    let seconds = reply.header("retry-after").parse::<u64>().expect("whole seconds");
    assert!((1..=31).contains(&seconds), "{reply:?}");
    assert!(!reply.header("ratelimit").is_empty() && !reply.header("ratelimit-policy").is_empty(), "{reply:?}");

    let others = bob.open(json!({"template": "shell"})).await;
    assert_eq!(bob.ask(&others, "echo fast").await.trim(), "fast");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opens_are_limited_in_pace_and_in_number() {
    let settings = Settings::new().shell().set("limits", "sessions", "2").set("pool", "size", "2");
    let house = House::start(settings.set("limits", "opens_per_minute", "1").set("limits", "opens_burst", "3")).await;
    let alice = house.alice();
    let first = alice.open(json!({"template": "shell"})).await;
    alice.open(json!({"template": "shell"})).await;
    let third = alice.post("/v1/sessions", &json!({"template": "shell"})).await;
    third.problem(429, "RESOURCE_LIMIT");
    alice.close(&first).await;
    let too_fast = alice.post("/v1/sessions", &json!({"template": "shell"})).await;
    too_fast.problem(429, "RATE_LIMITED");
    assert!(!too_fast.header("ratelimit").is_empty(), "{too_fast:?}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_past_the_last_sandbox_waits_its_time_and_is_refused() {
    let house = House::start(Settings::new().shell().set("pool", "cap", "1").set("limits", "waiting", "8")).await;
    let (alice, bob) = (house.alice(), house.bob());
    let held = alice.open(json!({"template": "shell"})).await;

    let asked = Instant::now();
    let refused = bob.post("/v1/sessions", &json!({"template": "shell", "queue_timeout_s": 1})).await;
    refused.problem(503, "POOL_EXHAUSTED");
    assert!((Duration::from_millis(900)..Duration::from_secs(5)).contains(&asked.elapsed()), "{:?}", asked.elapsed());

    // Someone who waits long enough gets the next one.
    let body = json!({"template": "shell", "queue_timeout_s": 30});
    let (waited, ()) = tokio::join!(bob.post("/v1/sessions", &body), alice.close(&held));
    let waited = waited.expect(StatusCode::CREATED);
    assert_eq!(bob.ask(&waited, "echo mine").await.trim(), "mine");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_hangs_up_while_waiting_takes_no_sandbox() {
    let house = House::start(Settings::new().shell().set("pool", "cap", "1")).await;
    let (alice, bob) = (house.alice(), house.bob());
    let held = alice.open(json!({"template": "shell"})).await;
    let pool = async || house.alice().get_json("/v1/pools").await["items"][0].clone();

    let impatient = tokio::spawn(async move { bob.open(json!({"template": "shell"})).await });
    let waits = async || (pool().await["waiting"] == 1).then_some(());
    until("bob is in the queue", Duration::from_secs(5), waits).await;
    impatient.abort();
    let left = async || (pool().await["waiting"] == 0).then_some(());
    until("bob has left the queue", Duration::from_secs(5), left).await;

    alice.close(&held).await;
    let warm = async || {
        let now = pool().await;
        (now["warm"] == 1 && now["leased"] == 0).then_some(())
    };
    until("the next sandbox is in stock", Duration::from_secs(20), warm).await;
    assert_eq!(house.bob().get_json("/v1/sessions").await["items"], json!([]));
    house.stop().await;
}
