//! The audit log of both doors: what calls leave in it, and what they don't.

use poem::{
    Endpoint as _,
    http::{Method, header},
};
use serde_json::{Value, json};

use crate::house::{GUEST_TOKEN, House, ROOT_TOKEN, house, house_of, json_of, visitor};

/// What every line of these tests says beside its own.
fn line(more: Value) -> Value {
    let mut line = json!({"request_id": "same"});
    line.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    line
}

async fn refused_without_a_token(house: &House, method: Method, path: &str) {
    let request = visitor().method(method).uri_str(path).header("x-request-id", "same").finish();
    assert_eq!(house.users.get_response(request).await.status().as_u16(), 401);
}

#[tokio::test]
async fn calls_that_change_something_are_written_down_whatever_came_of_them() {
    let house = house();
    let session = format!("/v1/sessions/ses_{}", "0123456789abcdef".repeat(2));
    house.ask(Method::DELETE, &session, None).await;
    house.ask(Method::DELETE, "/v1/workspaces/notes", None).await;
    house.ask(Method::POST, "/v1/sessions", Some(json!({"canary": "in a field"}))).await;
    house.ask(Method::POST, &format!("{session}/turns"), Some(json!({"prompt": "canary in a prompt"}))).await;
    house.ask(Method::PUT, &format!("{session}/files/canary-in-a-path"), None).await;
    house.ask(Method::DELETE, "/v1/sessions/canary-in-an-id", None).await;
    let of_alice = |mut more: Value| {
        more["user"] = "alice".into();
        more["credential"] = "settings".into();
        line(more)
    };
    let session = &session["/v1/sessions/".len()..];
    let not_found = |action: &str| json!({"action": action, "outcome": "NOT_FOUND", "status": 404, "session": session});
    let expected = [
        not_found("close_session"),
        json!({"action": "delete_workspace", "outcome": "NOT_FOUND", "status": 404, "workspace": "notes"}),
        json!({"action": "open_session", "outcome": "INVALID_REQUEST", "status": 400}),
        not_found("start_turn"),
        not_found("write_file"),
        json!({"action": "close_session", "outcome": "NOT_FOUND", "status": 404}),
    ];
    let lines = house.audited().await;
    assert_eq!(lines, expected.map(of_alice));
    assert!(!format!("{lines:?}").contains("canary"));
}

#[tokio::test]
async fn looks_leave_nothing_but_when_they_are_refused() {
    let house = house();
    for path in ["/v1/me", "/v1/sessions", "/v1/sessions/none", "/v1/pools", "/healthz", "/openapi.json", "/nowhere"] {
        house.get(path).await;
    }
    assert_eq!(house.audited().await, [] as [Value; 0]);
    house.get("/v1/sessions?user=bob").await;
    house.get("/v1/keys").await;
    let refused = |action| {
        let line =
            json!({"action": action, "outcome": "FORBIDDEN", "status": 403, "user": "alice", "credential": "settings"});
        self::line(line)
    };
    assert_eq!(house.audited().await, [refused("list_sessions"), refused("list_keys")]);
}

#[tokio::test]
async fn whoever_is_not_let_in_is_written_down_as_nobody() {
    let house = house();
    refused_without_a_token(&house, Method::GET, "/v1/me").await;
    refused_without_a_token(&house, Method::POST, "/v1/sessions").await;
    house.ask_as("canary-of-a-wrong-token", Method::GET, "/v1/me", None).await;
    let page =
        visitor().header(header::ORIGIN, "https://evil.example").uri_str("/v1/me").header("x-request-id", "same");
    assert_eq!(house.users.get_response(page.finish()).await.status().as_u16(), 403);
    let failed =
        |call| line(json!({"action": "auth.failed", "outcome": "UNAUTHENTICATED", "status": 401, "call": call}));
    let of_a_page = line(json!({"action": "get_me", "outcome": "FORBIDDEN", "status": 403}));
    assert_eq!(house.audited().await, [failed("get_me"), failed("open_session"), failed("get_me"), of_a_page]);
}

#[tokio::test]
async fn who_may_only_look_is_known_when_they_are_refused() {
    let house = house();
    house.ask_as(GUEST_TOKEN, Method::DELETE, "/v1/workspaces/notes", None).await;
    let refused = json!({
        "action": "delete_workspace", "outcome": "FORBIDDEN", "status": 403, "user": "guest", "credential": "settings"
    });
    assert_eq!(house.audited().await, [line(refused)]);
}

#[tokio::test]
async fn what_administrators_do_for_others_says_for_whom() {
    let house = house();
    let created =
        house.ask_as(ROOT_TOKEN, Method::POST, "/v1/keys", Some(json!({"user": "carol", "name": "canary"}))).await;
    let key = json_of(created).await;
    house.ask_as(ROOT_TOKEN, Method::DELETE, &format!("/v1/keys/{}", key["id"].as_str().expect("an id")), None).await;
    house.ask_as(ROOT_TOKEN, Method::DELETE, "/v1/workspaces/notes?user=carol", None).await;
    let by_root = |mut more: Value| {
        more["user"] = "root".into();
        more["credential"] = "settings".into();
        line(more)
    };
    let expected = [
        json!({"action": "create_key", "outcome": "ok", "status": 201, "owner": "carol", "object": key["id"]}),
        json!({"action": "revoke_key", "outcome": "ok", "status": 204, "object": key["id"]}),
        json!({"action": "delete_workspace", "outcome": "NOT_FOUND", "status": 404, "owner": "carol", "workspace": "notes"}),
    ];
    let lines = house.audited().await;
    assert_eq!(lines, expected.map(by_root));
    let token = key["token"].as_str().expect("a token");
    assert!(!format!("{lines:?}").contains(token) && !format!("{lines:?}").contains("canary"));
}

#[tokio::test]
async fn operators_calls_are_written_down_as_theirs() {
    let house = house_of(&["shell"]);
    let (slot, _entry) = house.admit("shell");
    house.operate(Method::PATCH, "/pools/shell", Some(json!({"min_warm": 0, "max_warm": 1}))).await;
    house.operate(Method::POST, "/pools/none/drain", None).await;
    house.operate(Method::DELETE, &format!("/sandboxes/{slot}"), None).await;
    house.operate(Method::POST, "/reload", None).await;
    house.operate(Method::POST, "/reload", None).await;
    for path in ["/pools", "/sandboxes", "/metrics", "/healthz"] {
        house.operate(Method::GET, path, None).await;
    }
    let of_operators = |mut more: Value| {
        more["door"] = "operators".into();
        line(more)
    };
    let expected = [
        json!({"action": "resize_pool", "outcome": "ok", "status": 200, "template": "shell"}),
        json!({"action": "drain_pool", "outcome": "NOT_FOUND", "status": 404, "template": "none"}),
        json!({"action": "destroy_sandbox", "outcome": "ok", "status": 204, "object": slot.as_str()}),
        json!({"action": "reload", "outcome": "ok", "status": 200}),
        json!({"action": "reload", "outcome": "INVALID_REQUEST", "status": 400}),
    ];
    assert_eq!(house.audited().await, expected.map(of_operators));
}
