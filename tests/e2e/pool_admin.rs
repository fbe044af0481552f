//! What an operator can do with a pool, and nobody else.

use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::json;

use crate::{
    client::Client,
    house::House,
    pools::{at_rest, in_state, no_orphans, number, pool},
    settings::Settings,
    wait::until,
};

/// Longer than a refusal takes, shorter than anybody waits.
const AT_ONCE: Duration = Duration::from_secs(2);

fn settings() -> Settings {
    Settings::new().unlimited().shell().stock("shell", 2, 2).set("pool", "cap", "4")
}

async fn told(operator: &Client, call: &str, status: StatusCode) -> serde_json::Value {
    operator.post(&format!("/pools/shell/{call}"), &json!({})).await.expect(status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_pool_has_no_stock_refuses_at_once_and_comes_back() {
    let house = House::start(settings()).await;
    let (alice, bob, operator) = (house.alice(), house.bob(), house.operator());
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(alice.open(json!({"template": "shell", "queue_timeout_s": 20})).await);
    }
    let waiting =
        tokio::spawn(
            async move { bob.post("/v1/sessions", &json!({"template": "shell", "queue_timeout_s": 40})).await },
        );
    until("bob waits", Duration::from_secs(5), async || (pool(&house, "shell").await["waiting"] == 1).then_some(()))
        .await;

    assert_eq!(told(&operator, "drain", StatusCode::ACCEPTED).await["state"], "draining");
    let refused = tokio::time::timeout(AT_ONCE, waiting).await.expect("who waits is told").expect("an answer");
    let problem = refused.problem(503, "POOL_EXHAUSTED");
    assert!(problem["detail"].to_string().contains("drain"), "{problem}");
    let asked = Instant::now();
    alice.post("/v1/sessions", &json!({"template": "shell"})).await.problem(503, "POOL_EXHAUSTED");
    assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());

    for session in &held {
        assert_eq!(alice.ask(session, "echo untouched").await.trim(), "untouched");
        alice.close(session).await;
    }
    until("nothing is left", Duration::from_secs(20), async || {
        house.engine().containers(&house.instance).await.is_empty().then_some(())
    })
    .await;
    let drained = pool(&house, "shell").await;
    assert_eq!((&drained["state"], &drained["warm"], &drained["starting"]), (&json!("draining"), &json!(0), &json!(0)));

    assert_eq!(told(&operator, "resume", StatusCode::OK).await["state"], "active");
    at_rest(&house, "shell").await;
    alice.open(json!({"template": "shell"})).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_pool_serves_what_it_has_and_then_refuses_until_it_is_resumed() {
    let house = House::start(settings()).await;
    let (alice, operator) = (house.alice(), house.operator());
    at_rest(&house, "shell").await;
    assert_eq!(told(&operator, "pause", StatusCode::OK).await["state"], "paused");
    for _ in 0..2 {
        let session = alice.open(json!({"template": "shell"})).await;
        assert_eq!(session["lease"]["start"], "warm");
    }
    let asked = Instant::now();
    alice.post("/v1/sessions", &json!({"template": "shell"})).await.problem(503, "POOL_EXHAUSTED");
    assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let paused = pool(&house, "shell").await;
    assert_eq!((&paused["state"], &paused["warm"], &paused["starting"]), (&json!("paused"), &json!(0), &json!(0)));
    assert_eq!(house.engine().containers(&house.instance).await.len(), 2, "only the leased ones");

    assert_eq!(told(&operator, "resume", StatusCode::OK).await["state"], "active");
    until("the stock is full", Duration::from_secs(20), async || {
        (pool(&house, "shell").await["warm"] == 2).then_some(())
    })
    .await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_is_resized_up_and_down_until_a_reload() {
    let house = House::start(settings()).await;
    let operator = house.operator();
    for (min_warm, max_warm) in [(4, 4), (1, 1), (0, 0), (3, 3)] {
        let wish = json!({"min_warm": min_warm, "max_warm": max_warm});
        let resized = operator.patch("/pools/shell", &wish).await.expect(StatusCode::OK);
        assert_eq!((&resized["min_warm"], &resized["max_warm"]), (&json!(min_warm), &json!(max_warm)), "{resized}");
        // The target follows a moment later.
        until("the target follows", Duration::from_secs(5), async || {
            (number(&pool(&house, "shell").await, "target") == min_warm).then_some(())
        })
        .await;
        let now = at_rest(&house, "shell").await;
        assert_eq!(number(&now, "warm"), min_warm, "{now}");
        no_orphans(&house).await;
    }
    operator.patch("/pools/shell", &json!({"min_warm": 3, "max_warm": 2})).await.problem(400, "INVALID_REQUEST");
    operator.patch("/pools/shell", &json!({"max_warm": 1})).await.problem(400, "INVALID_REQUEST");
    operator.patch("/pools/shell", &json!({"warm": 1})).await.problem(400, "INVALID_REQUEST");
    operator.patch("/pools/nobody", &json!({"min_warm": 1})).await.problem(404, "NOT_FOUND");
    operator.post("/pools/nobody/drain", &json!({})).await.problem(404, "NOT_FOUND");
    operator.post("/reload", &json!({})).await.expect(StatusCode::OK);
    until("the settings count again", Duration::from_secs(5), async || {
        (number(&pool(&house, "shell").await, "target") == 2).then_some(())
    })
    .await;
    let again = at_rest(&house, "shell").await;
    assert_eq!((number(&again, "min_warm"), number(&again, "warm")), (2, 2), "{again}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destroyed_sandbox_is_replaced_and_its_session_is_told() {
    let house = House::start(settings()).await;
    let (alice, operator) = (house.alice(), house.operator());
    at_rest(&house, "shell").await;
    let ready = in_state(&house, "ready").await.swap_remove(0);
    let path = format!("/sandboxes/{}", ready.id);
    assert_eq!(operator.delete(&path).await.status, StatusCode::NO_CONTENT);
    until("it is gone and replaced", Duration::from_secs(20), async || {
        let containers = house.engine().containers(&house.instance).await;
        let gone = containers.iter().all(|container| !ready.is_in(container));
        (gone && pool(&house, "shell").await["warm"] == 2).then_some(())
    })
    .await;
    operator.delete(&path).await.problem(404, "NOT_FOUND");
    operator.delete("/sandboxes/no-such-sandbox").await.problem(404, "NOT_FOUND");

    let session = alice.open(json!({"template": "shell"})).await;
    let mut events = alice.events(&session, 0).await;
    let leased = in_state(&house, "leased").await.swap_remove(0);
    let asked = Instant::now();
    assert_eq!(operator.delete(&format!("/sandboxes/{}", leased.id)).await.status, StatusCode::NO_CONTENT);
    let seen = events.up_to("session.ended").await;
    assert!(asked.elapsed() < AT_ONCE, "told after {:?}", asked.elapsed());
    assert_eq!(seen.last().map(|event| &event.content["reason"]), Some(&json!("sandbox_lost")), "{seen:?}");
    at_rest(&house, "shell").await;
    no_orphans(&house).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_calls_are_for_operators_only() {
    let house = House::start(settings()).await;
    at_rest(&house, "shell").await;
    let before = crate::pools::sandboxes(&house.operator()).await;
    let calls = [
        (Method::GET, "/pools".to_owned()),
        (Method::PATCH, "/pools/shell".to_owned()),
        (Method::POST, "/pools/shell/drain".to_owned()),
        (Method::POST, "/pools/shell/pause".to_owned()),
        (Method::POST, "/pools/shell/resume".to_owned()),
        (Method::GET, "/sandboxes".to_owned()),
        (Method::DELETE, format!("/sandboxes/{}", before[0].id)),
        (Method::POST, "/reload".to_owned()),
    ];
    for (method, path) in calls {
        let body = Bytes::from(r#"{"min_warm": 0, "max_warm": 0}"#);
        let json = ("content-type", "application/json");
        // A web page that an operator looks at can't use their network to give orders.
        for origin in ["https://example.com", "http://localhost", "null"] {
            let headers = [json, ("origin", origin)];
            let reply = house.operator().call(method.clone(), &path, &headers, body.clone()).await;
            reply.problem(403, "FORBIDDEN");
        }
        // At the users' address there is no such call, for whomever.
        for client in [house.alice(), house.visitor()] {
            for prefix in ["", "/v1/admin", "/admin"] {
                let path = format!("{prefix}{path}");
                let reply = client.call(method.clone(), &path, &[json], body.clone()).await;
                assert!(matches!(reply.status.as_u16(), 401 | 404), "{method} {path}: {reply:?}");
            }
        }
    }
    assert_eq!(crate::pools::sandboxes(&house.operator()).await, before, "nothing was done");
    let document = house.operator().get("/openapi.json").await.expect(StatusCode::OK);
    for path in ["/pools", "/pools/{template}", "/pools/{template}/drain", "/sandboxes", "/sandboxes/{id}", "/reload"] {
        assert!(document["paths"].get(path).is_some(), "{path} is not described");
    }
    let users = house.visitor().get("/openapi.json").await.expect(StatusCode::OK);
    assert!(users["paths"].get("/reload").is_none(), "users' calls are described to users");
    house.stop().await;
}
