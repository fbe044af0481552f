//! Agents that never work: few tries, and the reason where an operator looks.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::Value;

use crate::{
    house::House,
    pools::{pool, tell},
    settings::{BUSYBOX, Settings},
    wait::until,
};

/// The most starts of one template that may fail in a minute.
const PER_MINUTE: usize = 10;

/// Pauses so short that only the limit per minute is left.
fn settings() -> Settings {
    let broken = ["sh", "-c", "echo cannot work here >&2; exit 3"];
    let mut settings = Settings::new().template("broken", BUSYBOX, &broken).stock("broken", 2, 2);
    settings = settings.set("pool", "backoff", "\"10ms\"").set("pool", "backoff_max", "\"20ms\"");
    settings.await_stock = false;
    settings
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_a_template_cannot_start_is_told_in_its_pool_and_in_readyz() {
    let settings = settings().template("imageless", "greenroom/no-such-image:test", &["agent"]).shell();
    let house = House::start(settings).await;
    for template in ["broken", "imageless"] {
        let failures = until(&format!("{template} has failed"), Duration::from_secs(20), async || {
            let pool = pool(&house, template).await;
            pool["last_failures"].as_array().filter(|failures| !failures.is_empty()).cloned()
        })
        .await;
        assert!(failures.iter().all(|failure| failure.is_object()), "{failures:?}");
    }
    let told = until("/readyz says why", Duration::from_secs(10), async || {
        let reply = house.visitor().get("/readyz").await;
        let text = reply.text();
        (reply.status == StatusCode::SERVICE_UNAVAILABLE && text.contains("broken") && text.contains("imageless"))
            .then_some(text)
    });
    let told = told.await;
    assert!(!told.contains(&house.instance) && !told.contains("/var/"), "{told}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes more than a minute; `make chaos` runs it"]
async fn an_agent_that_never_works_is_tried_ten_times_a_minute_at_most() {
    let house = House::start(settings()).await;
    let minute = async || tokio::time::sleep(Duration::from_secs(60)).await;
    // The server has begun before the count; the worst minute may begin at any moment after that.
    let engine = house.engine();
    let (first, shifted) = tokio::join!(engine.count_creations(&house.instance, minute()), async {
        tokio::time::sleep(Duration::from_secs(7)).await;
        engine.count_creations(&house.instance, minute()).await
    });
    tell(&format!("broken agent: {first} and {shifted} containers made in a minute"));
    assert!(first <= PER_MINUTE && shifted <= PER_MINUTE, "{first}, {shifted}");
    assert!(shifted > 0, "it is tried again");
    let failures = pool(&house, "broken").await["last_failures"].clone();
    assert!(failures.as_array().is_some_and(|failures| !failures.is_empty()), "{failures}");
    let none = Value::from(0);
    assert_eq!(pool(&house, "broken").await["warm"], none);
    house.stop().await;
}
