//! What web pages may do at the door for users, and what browsers are told of its answers.

use greenroom::config::{Config, Server, WebHost, WebOrigin};
use poem::{
    Endpoint as _, Request, RequestBuilder, Response,
    http::{Method, StatusCode, header},
};
use serde_json::{Value, json};

use crate::house::{House, TOKEN, house, house_with, json_of, visitor};

const LISTED: &str = "https://chat.example";

fn open_to_a_page() -> House {
    let hosts = vec![WebHost::try_from("api.chat.example".to_owned()).expect("a name")];
    let origins = vec![WebOrigin::try_from(LISTED.to_owned()).expect("an origin")];
    house_with(&[], Config { server: Server { hosts, origins, ..Server::default() }, ..Config::default() })
}

async fn answer(house: &House, request: RequestBuilder) -> Response {
    house.users.get_response(request.finish()).await
}

fn by(host: &str, path: &str) -> RequestBuilder {
    Request::builder().uri_str(path).header(header::HOST, host)
}

fn with_token(request: RequestBuilder) -> RequestBuilder {
    request.header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
}

/// The answer must be a whole problem with this code that no page may read.
async fn refused(response: Response, status: StatusCode, code: &str) -> Value {
    assert_eq!(response.status(), status);
    assert_eq!(response.header("access-control-allow-origin"), None);
    assert_eq!(response.header("www-authenticate"), None, "refused before the token was looked at");
    assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
    assert!(response.header("x-request-id").is_some());
    let problem = json_of(response).await;
    assert_eq!(problem["code"], code, "{problem}");
    problem
}

#[tokio::test]
async fn a_name_that_is_not_the_servers_is_refused_whatever_is_asked_for() {
    let house = open_to_a_page();
    for path in ["/v1/sessions", "/v1/me", "/docs", "/openapi.json", "/", "/nowhere"] {
        for host in ["evil.example", "evil.example:8080", "localhost.evil.example", "chat.example"] {
            let response = answer(&house, with_token(by(host, path))).await;
            refused(response, StatusCode::MISDIRECTED_REQUEST, "MISDIRECTED_REQUEST").await;
        }
    }
    for host in ["api.chat.example", "API.chat.example:443", "127.0.0.1:8080", "localhost", "[::1]:8080"] {
        assert_eq!(answer(&house, with_token(by(host, "/v1/me"))).await.status(), StatusCode::OK, "{host}");
    }
}

#[tokio::test]
async fn a_request_for_no_host_or_for_several_is_refused() {
    let house = house();
    let to = |path: &str| with_token(Request::builder().uri_str(path));
    for request in [
        to("/v1/me"),
        to("/v1/me").header(header::HOST, "127.0.0.1").header(header::HOST, "127.0.0.1"),
        to("/v1/me").header(header::HOST, "not a host"),
        to("http://evil.example/v1/me").header(header::HOST, "127.0.0.1"),
    ] {
        refused(answer(&house, request).await, StatusCode::BAD_REQUEST, "INVALID_REQUEST").await;
    }
    let second_version = to("http://127.0.0.1:8080/v1/me");
    assert_eq!(answer(&house, second_version).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn the_health_checks_are_answered_by_any_name() {
    let house = house();
    for path in ["/healthz", "/readyz"] {
        for request in
            [by("greenroom.pods.internal:8080", path), by("not a host", path), Request::builder().uri_str(path)]
        {
            assert_eq!(answer(&house, request).await.status(), StatusCode::OK, "{path}");
        }
        let page = by("greenroom.pods.internal", path).header(header::ORIGIN, "https://evil.example");
        refused(answer(&house, page).await, StatusCode::FORBIDDEN, "FORBIDDEN").await;
    }
}

#[tokio::test]
async fn pages_of_other_origins_are_refused_before_their_token_is_looked_at() {
    let house = open_to_a_page();
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("origin", "https://chat.example.evil.example"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        for method in [Method::GET, Method::POST, Method::OPTIONS, Method::DELETE] {
            let request = visitor().method(method).uri_str("/v1/sessions").header(name, value);
            let request = request.header("access-control-request-method", "POST");
            refused(answer(&house, request).await, StatusCode::FORBIDDEN, "FORBIDDEN").await;
        }
    }
}

#[tokio::test]
async fn without_a_list_no_page_but_our_own_may_ask() {
    let house = house();
    let from = |origin: &str| with_token(visitor()).uri_str("/v1/me").header(header::ORIGIN, origin);
    refused(answer(&house, from(LISTED)).await, StatusCode::FORBIDDEN, "FORBIDDEN").await;
    let own = answer(&house, from("http://127.0.0.1:8080").header("sec-fetch-site", "same-origin")).await;
    assert_eq!(own.status(), StatusCode::OK);
    assert_eq!(own.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn a_listed_page_may_read_answers_and_refusals_alike() {
    let house = open_to_a_page();
    for (request, status) in [
        (with_token(visitor()).uri_str("/v1/me"), StatusCode::OK),
        (visitor().uri_str("/v1/me"), StatusCode::UNAUTHORIZED),
        (with_token(visitor()).uri_str("/v1/sessions/ses_1"), StatusCode::NOT_FOUND),
        (with_token(visitor()).uri_str("/nowhere"), StatusCode::NOT_FOUND),
    ] {
        let response = answer(&house, request.header(header::ORIGIN, LISTED)).await;
        assert_eq!(response.status(), status);
        assert_eq!(response.header("access-control-allow-origin"), Some(LISTED));
        assert_eq!(response.header("access-control-allow-credentials"), None);
        let shown = response.header("access-control-expose-headers").unwrap_or_default().to_owned();
        for name in ["etag", "location", "retry-after", "ratelimit", "x-request-id"] {
            assert!(shown.split(", ").any(|one| one == name), "{name}: {shown}");
        }
    }
}

#[tokio::test]
async fn a_preflight_of_a_listed_page_is_answered_without_a_token_with_the_routes_methods() {
    let house = open_to_a_page();
    for (path, methods) in [
        ("/v1/sessions", "POST, GET"),
        ("/v1/sessions/ses_1", "GET, PATCH, DELETE"),
        ("/v1/sessions/ses_1/files/a/b/c", "GET, PUT, DELETE"),
        ("/v1/sessions/ses_1/turns/turn_1/cancel", "POST"),
        ("/openapi.json", "GET"),
    ] {
        let request = visitor().method(Method::OPTIONS).uri_str(path).header(header::ORIGIN, LISTED);
        let request = request.header("access-control-request-method", "PATCH");
        let response = answer(&house, request.header("access-control-request-headers", "authorization,x-other")).await;
        assert_eq!(response.status(), StatusCode::NO_CONTENT, "{path}");
        assert_eq!(response.header("access-control-allow-origin"), Some(LISTED));
        assert_eq!(response.header("access-control-allow-methods"), Some(methods), "{path}");
        assert_eq!(response.header("access-control-max-age"), Some("7200"));
        let allowed = response.header("access-control-allow-headers").unwrap_or_default();
        for name in ["authorization", "content-type", "if-match", "idempotency-key", "last-event-id", "traceparent"] {
            assert!(allowed.split(", ").any(|one| one == name), "{name}: {allowed}");
        }
        assert!(!allowed.contains("x-other") && !allowed.contains('*'));
        assert_eq!(response.header("vary"), Some("origin"));
    }
    // What isn't a preflight is a method like any other.
    let request = visitor().method(Method::OPTIONS).uri_str("/v1/sessions").header(header::ORIGIN, LISTED);
    assert_eq!(answer(&house, request).await.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn every_answer_tells_browsers_to_keep_their_hands_off_it() {
    let house = open_to_a_page();
    let request = |path: &str| with_token(visitor()).uri_str(path);
    for path in ["/v1/me", "/v1/sessions/ses_1", "/nowhere", "/healthz", "/readyz", "/openapi.json", "/docs"] {
        for origin in [None, Some(LISTED), Some("https://evil.example")] {
            let request = origin.iter().fold(request(path), |request, origin| request.header(header::ORIGIN, *origin));
            let response = answer(&house, request).await;
            for (name, value) in [
                ("x-content-type-options", "nosniff"),
                ("x-frame-options", "DENY"),
                ("referrer-policy", "no-referrer"),
                ("cross-origin-resource-policy", "same-origin"),
                ("vary", "origin"),
            ] {
                assert_eq!(response.header(name), Some(value), "{path}: {name}");
            }
            let policy = response.header("content-security-policy").unwrap_or_default();
            assert!(
                policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
                "{path}: {policy}"
            );
            let kept = response.header("cache-control");
            assert!(kept == Some("no-store") || !path.starts_with("/v1/"), "{path}: {kept:?}");
            assert_eq!(response.header("set-cookie"), None);
        }
    }
}

#[tokio::test]
async fn a_person_may_follow_a_link_to_the_page_of_the_document() {
    let house = house();
    let link = visitor().uri_str("/docs").header("sec-fetch-site", "cross-site").header("sec-fetch-dest", "document");
    let response = answer(&house, link.header("sec-fetch-mode", "navigate")).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.header("cross-origin-opener-policy"), Some("same-origin"));
    let policy = response.header("content-security-policy").unwrap_or_default();
    assert!(!policy.contains("http"), "nothing is fetched from elsewhere: {policy}");
    let framed = visitor().uri_str("/docs").header("sec-fetch-site", "cross-site").header("sec-fetch-dest", "iframe");
    let framed = answer(&house, framed.header("sec-fetch-mode", "navigate")).await;
    assert_eq!(json_of(framed).await["code"], json!("FORBIDDEN"));
}
