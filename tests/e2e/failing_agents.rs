//! Templates that can't work: the server stays up, says so, and serves the others.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::{
    house::House,
    settings::{BUSYBOX, Settings},
    wait::until,
};

/// Opens of a template that never becomes ready; gives back the problem's code.
async fn open_in_vain(house: &House, template: &str) -> Value {
    let body = json!({"template": template, "queue_timeout_s": 3});
    let reply = house.alice().post("/v1/sessions", &body).await;
    let problem = reply.problem(503, reply.json()["code"].as_str().expect("a code"));
    for private in [house.instance.as_str(), "/var/", "sha256:", "no-such-image"] {
        assert!(!reply.text().contains(private), "{private} in {}", reply.text());
    }
    problem["code"].clone()
}

/// What `/v1/pools` says of one template.
async fn pool(house: &House, template: &str) -> Value {
    let pools = house.alice().get_json("/v1/pools").await;
    let items = pools["items"].as_array().or(pools.as_array()).unwrap_or_else(|| panic!("no pools: {pools}")).clone();
    let found = items.into_iter().find(|pool| pool["template"] == template);
    found.unwrap_or_else(|| panic!("no pool {template}: {pools}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn templates_that_cannot_start_are_told_and_do_not_disturb_the_others() {
    let mut settings = Settings::new()
        .shell()
        .template("imageless", "greenroom/no-such-image:test", &["agent"])
        .template("exits", BUSYBOX, &["sh", "-c", "echo oops >&2; exit 3"])
        .template("missing", BUSYBOX, &["/no/such/program"])
        .template("mute", BUSYBOX, &["sleep", "1000"])
        .template("babbles", BUSYBOX, &["sh", "-c", "while :; do echo not json; sleep 0.1; done"])
        .set("sandbox", "boot_timeout", "\"1s\"")
        .set("pool", "backoff", "\"200ms\"")
        .set("pool", "backoff_max", "\"1s\"");
    settings.await_stock = false;
    let mut house = House::start(settings).await;
    let alice = house.alice();

    let healthy = alice.open(json!({"template": "shell"})).await;
    for template in ["imageless", "exits", "missing", "mute", "babbles"] {
        let code = open_in_vain(&house, template).await;
        assert_eq!(code, "CONTAINER_START_FAILED", "{template}");
        let pool = pool(&house, template).await;
        assert_eq!(pool["warm"], 0, "{pool}");
        let failures = pool["last_failures"].as_array().unwrap_or_else(|| panic!("no last_failures: {pool}"));
        assert!(!failures.is_empty(), "{pool}");
        assert!(!pool.to_string().contains(&house.instance), "{pool}");
    }
    assert_eq!(alice.ask(&healthy, "echo well").await.trim(), "well");
    assert!(house.runs());
    assert_eq!(house.visitor().get("/healthz").await.status, StatusCode::OK);

    // Failed starts leave nothing behind: what there is, is the healthy template's, or under way for a moment.
    until("failed sandboxes are removed", Duration::from_secs(15), async || {
        let containers = house.engine().containers(&house.instance).await;
        let failed = containers.iter().filter(|one| !one.labels.values().any(|label| label == "shell"));
        (failed.count() <= 2).then_some(())
    })
    .await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_ends_in_the_middle_of_a_turn_ends_the_session_with_the_reason() {
    let house = House::start(Settings::new().shell()).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell"})).await;
    // The loop is the parent of the prompt's own shell.
    let events = alice.prompt(&session, "kill -9 $PPID $$").await.rest().await;
    assert!(events.iter().any(|event| event.kind == "turn.failed"), "{events:#?}");
    let all = alice.events(&session, 0).await.rest().await;
    let last = all.last().expect("there are events");
    assert_eq!((last.kind.as_str(), &last.content["reason"]), ("session.ended", &json!("agent_exited")), "{all:#?}");
    let path = format!("/v1/sessions/{}/turns", crate::client::id(&session));
    alice.post(&path, &json!({"prompt": "echo hi"})).await.problem(409, "SESSION_ENDED");
    house.stop().await;
}
