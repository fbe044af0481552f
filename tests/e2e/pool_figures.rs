//! The pool explains itself: every lease says why it was cold, and the figures of `/v1/pools` add up.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::{
    client::Client,
    house::House,
    pools::{at_rest, counted, number, pool},
    settings::Settings,
    wait::until,
};

/// Opens, and says how the lease began.
async fn lease(client: &Client, wish: &Value) -> (Value, Value) {
    let session = client.open(wish.clone()).await;
    let lease = session["lease"].clone();
    let times = ["wait_ms", "workspace_ms", "agent_ms"].map(|phase| lease[phase].as_f64().expect("a time"));
    let total = lease["total_ms"].as_f64().expect("a time");
    assert!(times.iter().all(|time| *time >= 0.0) && times.iter().sum::<f64>() <= total + 1.0, "{lease}");
    (lease, session)
}

/// All opens are in one of the figures, and every open that was served or given up is in the histogram.
#[track_caller]
fn adds_up(pool: &Value) {
    for reason in ["empty", "workspace", "template_changed", "over_target", "refused"] {
        assert!(pool["misses"][reason].is_u64(), "no {reason}: {pool}");
    }
    let (hits, opens) = (number(pool, "hits"), number(pool, "opens"));
    assert_eq!(hits + missed(pool), opens, "{pool}");
    let unserved = ["refused", "given_up"].iter().filter_map(|reason| pool["misses"][*reason].as_u64()).sum::<u64>();
    let waits = counted(pool, "wait_ms");
    assert!((opens - unserved..=opens).contains(&waits), "{pool}");
    assert!(counted(pool, "refill_lag_ms") <= opens, "{pool}");
    match pool["hit_rate"].as_f64() {
        #[expect(clippy::cast_precision_loss, reason = "a handful of opens")]
        Some(rate) => assert!((rate - hits as f64 / opens as f64).abs() < 0.01, "{pool}"),
        None => assert_eq!(opens, 0, "{pool}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hits_and_misses_have_their_reasons_and_add_up() {
    let settings = Settings::new().unlimited().shell().stock("shell", 1, 1).set("pool", "cap", "3");
    let house = House::start(settings).await;
    let alice = house.alice();
    let fresh = at_rest(&house, "shell").await;
    assert_eq!((&fresh["opens"], &fresh["hit_rate"]), (&json!(0), &Value::Null), "{fresh}");
    adds_up(&fresh);

    // One is in stock: of two at once, one finds it empty.
    let wish = json!({"template": "shell", "queue_timeout_s": 20});
    let (one, two) = tokio::join!(lease(&alice, &wish), lease(&alice, &wish));
    let (mut warm, mut cold) = (one, two);
    if warm.0["start"] == "cold" {
        std::mem::swap(&mut warm, &mut cold);
    }
    assert_eq!((&warm.0["start"], &warm.0["reason"]), (&json!("warm"), &Value::Null), "{}", warm.0);
    assert_eq!((&cold.0["start"], &cold.0["reason"]), (&json!("cold"), &json!("empty")), "{}", cold.0);
    let (_, third) = lease(&alice, &wish).await;
    // At the cap, and nobody goes.
    alice
        .post("/v1/sessions", &json!({"template": "shell", "queue_timeout_s": 1}))
        .await
        .problem(503, "POOL_EXHAUSTED");
    for session in [&warm.1, &cold.1, &third] {
        alice.close(session).await;
    }
    let after = at_rest(&house, "shell").await;
    adds_up(&after);
    assert_eq!((number(&after, "opens"), number(&after, "hits")), (4, 4 - missed(&after)), "{after}");
    assert_eq!(after["misses"]["refused"], 1, "{after}");
    assert!(after["misses"]["empty"].as_u64() >= Some(1), "{after}");
    assert!(counted(&after, "refill_lag_ms") >= 1, "{after}");

    // Without a target every open is cold, and that is why.
    let resize = json!({"min_warm": 0, "max_warm": 0});
    house.operator().patch("/pools/shell", &resize).await.expect(StatusCode::OK);
    at_rest(&house, "shell").await;
    let (cold, session) = lease(&alice, &wish).await;
    assert_eq!((&cold["start"], &cold["reason"]), (&json!("cold"), &json!("over_target")), "{cold}");
    alice.close(&session).await;
    let last = at_rest(&house, "shell").await;
    adds_up(&last);
    assert_eq!(last["misses"]["over_target"], 1, "{last}");
    house.stop().await;
}

#[track_caller]
fn missed(pool: &Value) -> u64 {
    pool["misses"].as_object().expect("misses").values().filter_map(Value::as_u64).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_cold_with_the_reason_that_the_template_was_changed() {
    // A cap of one: there is no room for old and new, so the old one goes at once and its caller meets an empty stock.
    let settings = |version: &str| {
        let settings = Settings::new().unlimited().shell().stock("shell", 1, 1).set("pool", "cap", "1");
        settings.set("templates.shell", "env", &format!("{{ VERSION = \"{version}\" }}"))
    };
    let mut house = House::start(settings("1")).await;
    let alice = house.alice();
    let mut reasons = Vec::new();
    for version in 2..8 {
        at_rest(&house, "shell").await;
        house.rewrite(settings(&version.to_string()));
        let told = house.operator().post("/reload", &json!({})).await.expect(StatusCode::OK);
        assert_eq!(told["changed"], json!(["shell"]), "{told}");
        let (lease, session) = lease(&alice, &json!({"template": "shell", "queue_timeout_s": 20})).await;
        let said = alice.ask(&session, "echo $VERSION").await;
        if lease["start"] == "cold" {
            assert_eq!(said.trim(), version.to_string());
            reasons.push(lease["reason"].clone());
        }
        alice.close(&session).await;
    }
    assert!(!reasons.is_empty(), "every open found stock");
    assert!(reasons.iter().all(|reason| reason == "template_changed"), "{reasons:?}");
    let pool = at_rest(&house, "shell").await;
    adds_up(&pool);
    assert_eq!(pool["misses"]["template_changed"], reasons.len(), "{pool}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stock_follows_demand_between_its_bounds() {
    let settings = Settings::new().unlimited().shell().stock("shell", 1, 6).set("pool", "cap", "12");
    let house = House::start(settings).await;
    let alice = house.alice();
    at_rest(&house, "shell").await;
    let crowd = (0..4).map(|_| {
        let alice = alice.clone();
        tokio::spawn(async move {
            for _ in 0..15 {
                let session = alice.open(json!({"template": "shell", "queue_timeout_s": 20})).await;
                alice.close(&session).await;
            }
        })
    });
    let crowd = crowd.collect::<Vec<_>>();
    let grown = until("the target grows", Duration::from_secs(20), async || {
        let pool = pool(&house, "shell").await;
        (number(&pool, "target") > 1).then_some(pool)
    })
    .await;
    assert!(number(&grown, "target") <= 6, "{grown}");
    for one in crowd {
        one.await.expect("all are served");
    }
    let pool = pool(&house, "shell").await;
    adds_up(&pool);
    assert!((1..=6).contains(&number(&pool, "target")), "{pool}");
    house.stop().await;
}
