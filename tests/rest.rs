//! The whole doors with a real service that has nothing to lease: what can be asked, and what those learn who ask for what isn't theirs.

#[path = "rest/audit.rs"]
mod audit;
#[path = "rest/credentials.rs"]
mod credentials;
#[path = "rest/house.rs"]
mod house;
#[path = "rest/keys.rs"]
mod keys;
#[path = "rest/limits.rs"]
mod limits;
#[path = "rest/once.rs"]
mod once;
#[path = "rest/operators.rs"]
mod operators;
#[path = "rest/ownership.rs"]
mod ownership;
#[path = "rest/store.rs"]
mod store;
#[path = "rest/web.rs"]
mod web;

use greenroom::doors::rest;
use poem::{
    Endpoint as _,
    http::{Method, StatusCode},
};
use serde_json::{Value, json};

use house::{house, house_of, json_of, visitor};

#[tokio::test]
async fn who_has_nothing_is_told_so() {
    let house = house();
    assert_eq!(json_of(house.get("/v1/sessions?state=ready&label=a:b").await).await["items"], json!([]));
    assert_eq!(json_of(house.get("/v1/pools").await).await, json!({"items": []}));
    assert_eq!(json_of(house.get("/v1/templates").await).await, json!({"items": []}));
    assert_eq!(json_of(house.get("/v1/workspaces").await).await, json!({"items": [], "next_cursor": null}));
    let me = json_of(house.get("/v1/me").await).await;
    assert_eq!(me["user"], "alice");
    assert_eq!(me["sessions"], json!({"held": 0, "limit": 8}));
    assert_eq!(me["opens"], json!({"remaining": 20, "burst": 20}));
    assert_eq!((&me["tier"], &me["streams"]["limit"], &me["reads"]["burst"]), (&Value::Null, &json!(64), &json!(600)));
}

#[tokio::test]
async fn what_is_not_there_is_the_same_answer_everywhere() {
    let house = house();
    let calls = [
        (Method::GET, "", None),
        (Method::DELETE, "", None),
        (Method::PATCH, "", Some(json!({"labels": {}}))),
        (Method::POST, "/turns", Some(json!({"prompt": "x"}))),
        (Method::GET, "/turns/turn_1", None),
        (Method::POST, "/turns/turn_1/cancel", None),
        (Method::GET, "/events", None),
        (Method::GET, "/permissions", None),
        (Method::POST, "/permissions/perm_1", Some(json!({"cancelled": true}))),
        (Method::GET, "/files/", None),
        (Method::GET, "/files/a/b", None),
        (Method::PUT, "/files/a/b", None),
        (Method::DELETE, "/files/a/b", None),
        (Method::GET, "/archive", None),
        (Method::PUT, "/archive", None),
    ];
    for (method, path, body) in calls {
        let path = format!("/v1/sessions/ses_1{path}");
        let response = house.ask(method, &path, body).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
        let mut body = json_of(response).await;
        assert_eq!(body["instance"].take(), path);
        let expected = json!({
            "type": "urn:greenroom:problem:not-found", "title": "Not found", "status": 404,
            "detail": "there is nothing here under that id", "instance": null, "code": "NOT_FOUND", "request_id": "same",
        });
        assert_eq!(body, expected);
    }
}

#[tokio::test]
async fn an_open_without_such_a_template_is_refused() {
    let house = house();
    let response = house.ask(Method::POST, "/v1/sessions", Some(json!({"template": "nowhere"}))).await;
    assert!(response.status().is_client_error());
    assert_eq!(response.content_type(), Some("application/problem+json"));
}

#[tokio::test]
async fn a_workspace_that_is_not_there_cannot_be_removed() {
    let house = house();
    for name in ["never", "..", "A", "a%2Fb", "%ff"] {
        let response = house.ask(Method::DELETE, &format!("/v1/workspaces/{name}"), None).await;
        assert!([StatusCode::NOT_FOUND, StatusCode::BAD_REQUEST].contains(&response.status()), "{name}");
    }
}

#[tokio::test]
async fn bad_parameters_are_refused_by_name() {
    let house = house();
    for (query, name) in [
        ("limit=0", "limit"),
        ("limit=x", "limit"),
        ("state=gone", "state"),
        ("label=a", "label"),
        ("cursor=ses_1", "cursor"),
    ] {
        let response = house.get(&format!("/v1/sessions?{query}")).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{query}");
        let detail = json_of(response).await["detail"].to_string();
        assert!(detail.contains(name), "{query}: {detail}");
    }
    assert_eq!(house.get("/v1/sessions/ses_1/events?wait_s=31").await.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn requests_are_counted_by_their_route_and_never_by_their_path() {
    let house = house();
    house.get("/v1/sessions/ses_1/turns/turn_1").await;
    house.get("/v1/sessions/ses_1/files/secret/plans").await;
    house.get("/docs").await;
    house.get("/nowhere/ses_1").await;
    let metrics = house.metrics.render();
    for route in ["/v1/sessions/{id}/turns/{turn}", "/v1/sessions/{id}/files/{path}", "/docs", "none"] {
        assert!(metrics.contains(&format!("route=\"{route}\"")), "{route}: {metrics}");
    }
    assert!(!metrics.contains("ses_1") && !metrics.contains("plans"));
}

#[tokio::test]
async fn a_method_that_is_not_offered_is_told_which_are() {
    let house = house();
    for (path, methods) in [
        ("/v1/sessions", "POST, GET"),
        ("/v1/sessions/ses_1", "GET, PATCH, DELETE"),
        ("/v1/sessions/ses_1/turns/turn_1/cancel", "POST"),
        ("/docs", "GET"),
    ] {
        let response = house.ask(Method::PUT, path, None).await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert_eq!(response.header("allow"), Some(methods), "{path}");
    }
    let response = house.ask(Method::POST, "/v1/sessions/ses_1/files/a/b", None).await;
    assert_eq!(
        (response.status(), response.header("allow")),
        (StatusCode::METHOD_NOT_ALLOWED, Some("GET, PUT, DELETE"))
    );
}

#[tokio::test]
async fn the_health_checks_need_no_token() {
    let house = house();
    for path in ["/healthz", "/readyz", "/openapi.json", "/docs"] {
        let response = house.users.get_response(visitor().uri_str(path).finish()).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
    }
    let ready = json_of(house.get("/readyz").await).await;
    assert_eq!(ready, json!({"ready": true, "reasons": []}));
}

#[tokio::test]
async fn the_document_is_served_as_it_is_printed() {
    let served = house().get("/openapi.json").await.into_body().into_string().await.expect("text");
    assert_eq!(served, rest::document());
}

#[tokio::test]
async fn the_page_needs_nothing_from_another_host() {
    let response = house().get("/docs").await;
    let policy = response.header("content-security-policy").unwrap_or_default().to_owned();
    assert!(policy.starts_with("default-src 'none'") && policy.contains("connect-src 'self'"), "{policy}");
    let page = response.into_body().into_string().await.expect("text");
    for outside in ["<script src", "<link", "@import", "url(http", "url(//"] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.contains("/v1/sessions/{id}/turns"));
}

#[tokio::test]
async fn a_condition_that_can_not_be_understood_is_refused_and_a_change_is_made_of_known_fields() {
    let house = house();
    let path = "/v1/sessions/ses_1";
    for bad in [&b"3"[..], b"\"3", b"*, \"3\"", b"\xff"] {
        let response = house.ask_with(Method::PATCH, path, &[("if-match", bad)], &json!({})).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{bad:?}");
        assert!(json_of(response).await["detail"].to_string().contains("If-Match"));
    }
    for bad in [
        json!({"template": "shell"}),
        json!({"labels": {"a": null}}),
        json!({"mode": ""}),
        json!({"max_age_s": 0}),
        json!({"permissions": {"kinds": {"run": "allow"}}}),
        json!({"credential": {"api_key": "two words"}}),
    ] {
        let response = house.ask(Method::PATCH, path, Some(bad.clone())).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{bad}");
    }
    let good = [("if-match", &b"W/\"3\", \"4\""[..])];
    assert_eq!(house.ask_with(Method::PATCH, path, &good, &json!({})).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn while_nothing_can_be_written_down_nothing_new_begins_and_the_health_check_says_why() {
    let house = house_of(&["shell"]);
    house.store.fails();
    for (path, body) in [("/v1/sessions", json!({})), ("/v1/chat", json!({"prompt": "x"}))] {
        let response = house.ask(Method::POST, path, Some(body)).await;
        assert!(["5", "6", "7"].map(Some).contains(&response.header("retry-after")));
        assert_eq!(json_of(response).await["code"], "STORE_UNAVAILABLE", "{path}");
    }
    let response = house.get("/readyz").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let ready = json_of(response).await;
    assert!(ready.to_string().contains("can't be written down") && !ready.to_string().contains("canary"), "{ready}");
    // What is written can be read, and it heals by itself.
    assert_eq!(house.get("/v1/sessions").await.status(), StatusCode::OK);
    house.store.heals();
    let response = house.ask(Method::POST, "/v1/sessions", Some(json!({"template": "nowhere"}))).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
}
