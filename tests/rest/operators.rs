//! The door for operators.

use greenroom::{doors::admin, sandbox::census::SandboxState};
use poem::{
    Endpoint as _, Request, Response,
    http::{Method, StatusCode, header},
};
use serde_json::{Value, json};

use crate::house::{CAP, House, house_of, json_of};

async fn detail_of(response: Response, status: StatusCode) -> String {
    assert_eq!(response.status(), status);
    assert_eq!(response.content_type(), Some("application/problem+json"));
    json_of(response).await["detail"].as_str().expect("a sentence").to_owned()
}

async fn resized(house: &House, path: &str, body: Value) -> Response {
    house.operate(Method::PATCH, path, Some(body)).await
}

#[tokio::test]
async fn operators_and_users_see_the_same_pools() {
    let house = house_of(&["gemini", "shell"]);
    let seen = json_of(house.operate(Method::GET, "/pools", None).await).await;
    assert_eq!(seen, json_of(house.get("/v1/pools").await).await);
    assert_eq!(seen["items"][1]["template"], "shell");
    assert_eq!(seen["items"][1]["state"], "active");
    assert_eq!(seen["items"][1]["hit_rate"], Value::Null);
}

#[tokio::test]
async fn a_pool_is_paused_drained_and_resumed_and_no_other_with_it() {
    let house = house_of(&["gemini", "shell"]);
    for (act, status, state) in [
        ("pause", StatusCode::OK, "paused"),
        ("drain", StatusCode::ACCEPTED, "draining"),
        ("drain", StatusCode::ACCEPTED, "draining"),
        ("resume", StatusCode::OK, "active"),
    ] {
        let response = house.operate(Method::POST, &format!("/pools/shell/{act}"), None).await;
        assert_eq!(response.status(), status, "{act}");
        let pool = json_of(response).await;
        assert_eq!((&pool["template"], &pool["state"]), (&json!("shell"), &json!(state)));
        let pools = json_of(house.get("/v1/pools").await).await;
        assert_eq!((&pools["items"][0]["state"], &pools["items"][1]["state"]), (&json!("active"), &json!(state)));
    }
}

#[tokio::test]
async fn who_opens_from_a_drained_or_paused_pool_is_told_so_at_once() {
    let house = house_of(&["gemini"]);
    for (act, words) in [("drain", "is being drained"), ("pause", "lets none be started")] {
        house.operate(Method::POST, &format!("/pools/gemini/{act}"), None).await;
        let response = house.ask(Method::POST, "/v1/sessions", Some(json!({}))).await;
        let detail = detail_of(response, StatusCode::SERVICE_UNAVAILABLE).await;
        assert!(detail.contains(words), "{detail}");
    }
}

#[tokio::test]
async fn a_size_given_alone_keeps_the_other() {
    let house = house_of(&["gemini"]);
    house.operate(Method::POST, "/pools/gemini/pause", None).await;
    for (body, sizes) in [
        (json!({"max_warm": 5}), (0, 5)),
        (json!({"min_warm": 3}), (3, 5)),
        (json!({"min_warm": 0, "max_warm": 0}), (0, 0)),
    ] {
        let pool = json_of(resized(&house, "/pools/gemini", body).await).await;
        assert_eq!((&pool["min_warm"], &pool["max_warm"]), (&json!(sizes.0), &json!(sizes.1)));
    }
}

#[tokio::test]
async fn sizes_that_can_not_be_kept_are_refused_and_change_nothing() {
    let house = house_of(&["gemini", "shell"]);
    house.operate(Method::POST, "/pools/gemini/pause", None).await;
    house.operate(Method::POST, "/pools/shell/pause", None).await;
    resized(&house, "/pools/shell", json!({"min_warm": 2, "max_warm": 2})).await;
    for (body, words) in [
        (json!({}), "min_warm, max_warm or both"),
        (json!({"min_warm": 1}), "max_warm (0) must not be less than min_warm (1)"),
        (json!({"min_warm": CAP - 1, "max_warm": CAP}), "room for (6: pool.cap"),
        (json!({"min_warm": -1}), "the body can't be used"),
        (json!({"minwarm": 1}), "minwarm"),
    ] {
        let detail = detail_of(resized(&house, "/pools/gemini", body).await, StatusCode::BAD_REQUEST).await;
        assert!(detail.contains(words), "{detail}");
    }
    let pools = json_of(house.get("/v1/pools").await).await;
    assert_eq!((&pools["items"][0]["min_warm"], &pools["items"][0]["max_warm"]), (&json!(0), &json!(0)));
    let most = json!({"min_warm": CAP - 2, "max_warm": 2 * CAP});
    assert_eq!(resized(&house, "/pools/gemini", most).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn sandboxes_are_listed_and_destroyed_by_their_id() {
    let house = house_of(&["gemini"]);
    let (slot, entry) = house.admit("gemini");
    let list = async || json_of(house.operate(Method::GET, "/sandboxes", None).await).await;
    let mut expected = json!({
        "id": slot.as_str(), "template": "gemini", "state": "starting", "age_s": 0, "stale": false, "memory_bytes": null,
    });
    assert_eq!(list().await, json!({"items": [expected]}));
    entry.advance(SandboxState::Leased);
    house.census.weighed(&slot, 4096);
    expected["state"] = json!("leased");
    expected["memory_bytes"] = json!(4096);
    assert_eq!(list().await, json!({"items": [expected]}));

    let path = format!("/sandboxes/{slot}");
    assert_eq!(house.operate(Method::DELETE, &path, None).await.status(), StatusCode::NO_CONTENT);
    drop(entry);
    assert_eq!(house.operate(Method::DELETE, &path, None).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_reload_tells_what_changed_or_every_fault() {
    let house = house_of(&[]);
    let told = json_of(house.operate(Method::POST, "/reload", None).await).await;
    let expected = json!({
        "added": [], "changed": ["gemini"], "resized": [], "permissions": [], "egress": [], "removed": [], "pool": [], "auth": [], "budgets": [],
        "restart_needed": ["server.address"],
    });
    assert_eq!(told, expected);
    let faulty = house.operate(Method::POST, "/reload", None).await;
    let detail = detail_of(faulty, StatusCode::BAD_REQUEST).await;
    assert!(detail.contains("one") && detail.contains("two"), "{detail}");
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let house = house_of(&["gemini"]);
    for (method, path, body) in [
        (Method::PATCH, "/pools/nowhere", Some(json!({"min_warm": 1}))),
        (Method::POST, "/pools/nowhere/drain", None),
        (Method::POST, "/pools/No_Name/pause", None),
        (Method::POST, "/pools/nowhere/resume", None),
        (Method::DELETE, "/sandboxes/0123", None),
        (Method::GET, "/v1/pools", None),
    ] {
        detail_of(house.operate(method, path, body).await, StatusCode::NOT_FOUND).await;
    }
    let response = house.operate(Method::GET, "/reload", None).await;
    assert_eq!(response.header("allow"), Some("POST"));
    detail_of(response, StatusCode::METHOD_NOT_ALLOWED).await;
}

#[tokio::test]
async fn nothing_of_it_is_on_the_users_address() {
    let house = house_of(&["gemini"]);
    for (method, path) in [
        (Method::GET, "/pools"),
        (Method::POST, "/pools/gemini/drain"),
        (Method::GET, "/sandboxes"),
        (Method::POST, "/reload"),
        (Method::GET, "/metrics"),
    ] {
        detail_of(house.ask(method, path, None).await, StatusCode::NOT_FOUND).await;
    }
}

#[tokio::test]
async fn a_web_page_can_not_drain_a_pool() {
    let house = house_of(&["gemini"]);
    let drain = || Request::builder().method(Method::POST).uri_str("/pools/gemini/drain");
    let here = || drain().header(header::HOST, "127.0.0.1:8081");
    for request in [
        here().header(header::ORIGIN, "https://evil.example"),
        here().header("sec-fetch-site", "cross-site"),
        drain().header(header::HOST, "evil.example:8081"),
    ] {
        let response = house.operators.get_response(request.finish()).await;
        assert_eq!(response.header("access-control-allow-origin"), None);
        detail_of(response, StatusCode::FORBIDDEN).await;
    }
    assert_eq!(json_of(house.get("/v1/pools").await).await["items"][0]["state"], "active");
}

#[tokio::test]
async fn the_document_is_served_and_requests_are_counted_by_their_route() {
    let house = house_of(&["gemini"]);
    let served = house.operate(Method::GET, "/openapi.json", None).await.into_body().into_string().await.expect("text");
    assert_eq!(served, admin::document());
    let id = house.operate(Method::POST, "/pools/gemini/resume", None).await.header("x-request-id").map(str::to_owned);
    assert_eq!(id.as_deref(), Some("same"));
    house.operate(Method::DELETE, "/sandboxes/0123", None).await;
    let metrics = house.metrics.render();
    for route in ["/pools/{template}/resume", "/sandboxes/{id}"] {
        assert!(metrics.contains(&format!("route=\"{route}\"")), "{route}: {metrics}");
    }
    assert!(!metrics.contains("0123"));
}

#[tokio::test]
async fn metrics_are_served_as_prometheus_reads_them_by_any_name() {
    let house = house_of(&[]);
    let scrape = |path: &str| Request::builder().uri_str(path).header(header::HOST, "greenroom:8081").finish();
    let response = house.operators.get_response(scrape("/metrics")).await;
    assert_eq!(response.content_type(), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(response.into_body().into_string().await.expect("text"), "up 1\n");
    assert_eq!(house.operators.get_response(scrape("/healthz")).await.status(), StatusCode::OK);
    detail_of(house.operators.get_response(scrape("/pools")).await, StatusCode::FORBIDDEN).await;
}
