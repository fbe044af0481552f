//! Users who are too fast: refused by what they did, before their bodies are read, and nobody else with them.

use greenroom::config::{self, Config};
use poem::{
    Body, Endpoint as _, Request, RequestBuilder, Response,
    http::{Method, StatusCode, header},
};
use serde_json::json;

use crate::house::{BOBS, House, TOKEN, house_with, json_of, visitor};

fn slow(limits: config::Limits) -> House {
    house_with(&[], Config { limits, ..Config::default() })
}

fn of(token: &str, method: Method, path: &str) -> RequestBuilder {
    visitor().method(method).uri_str(path).header(header::AUTHORIZATION, format!("Bearer {token}"))
}

async fn ask(house: &House, request: Request) -> Response {
    house.users.get_response(request).await
}

/// A body that never ends and tells when somebody reads it.
fn untouchable() -> Body {
    Body::from_bytes_stream(futures_util::stream::once(async {
        panic!("the body was read");
        #[expect(unreachable_code, reason = "the type of the stream")]
        Ok::<bytes::Bytes, std::io::Error>(bytes::Bytes::new())
    }))
}

async fn refused_by(response: Response, policy: &str) {
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    let fields = ["retry-after", "ratelimit", "ratelimit-policy"]
        .map(|name| response.header(name).unwrap_or_default().to_owned());
    let [retry, left, limit] = fields;
    assert!(left.starts_with(&format!("\"{policy}\";r=0;t=")), "{left}");
    assert!(limit.starts_with(&format!("\"{policy}\";q=")), "{limit}");
    let reset: u64 = left.rsplit('=').next().expect("a time").parse().expect("whole seconds");
    assert!(retry.parse::<u64>().expect("whole seconds") >= reset, "{retry} {left}");
    assert_eq!(json_of(response).await["code"], "RATE_LIMITED");
}

#[tokio::test]
async fn a_user_who_calls_too_fast_is_refused_whatever_they_call_and_no_one_else_is() {
    let house = slow(config::Limits { reads_per_minute: 1, reads_burst: 2, ..config::Limits::default() });
    for _ in 0..2 {
        assert_eq!(ask(&house, of(TOKEN, Method::GET, "/v1/me").finish()).await.status(), StatusCode::OK);
    }
    for (method, path) in [
        (Method::GET, "/v1/me"),
        (Method::GET, "/v1/sessions"),
        (Method::GET, "/v1/pools"),
        (Method::GET, "/v1/templates"),
        (Method::GET, "/v1/workspaces"),
        (Method::GET, "/v1/sessions/ses_1"),
        (Method::PATCH, "/v1/sessions/ses_1"),
        (Method::DELETE, "/v1/sessions/ses_1"),
        (Method::GET, "/v1/sessions/ses_1/events"),
        (Method::GET, "/v1/sessions/ses_1/turns/turn_1"),
        (Method::POST, "/v1/sessions/ses_1/turns/turn_1/cancel"),
        (Method::GET, "/v1/sessions/ses_1/permissions"),
        (Method::POST, "/v1/sessions/ses_1/permissions/perm_1"),
        (Method::GET, "/v1/sessions/ses_1/files/a"),
        (Method::PUT, "/v1/sessions/ses_1/files/a"),
        (Method::GET, "/v1/sessions/ses_1/archive"),
        (Method::PUT, "/v1/sessions/ses_1/archive"),
        (Method::DELETE, "/v1/workspaces/a"),
    ] {
        let request = of(TOKEN, method, path).content_type("application/json").body(untouchable());
        refused_by(ask(&house, request).await, "read").await;
    }
    assert_eq!(ask(&house, of(BOBS, Method::GET, "/v1/me").finish()).await.status(), StatusCode::OK);
    let visitor = ask(&house, visitor().uri_str("/healthz").finish()).await;
    assert_eq!(visitor.status(), StatusCode::OK, "who has no token has no pace");
}

#[tokio::test]
async fn opens_past_the_pace_are_refused_before_their_bodies_are_read() {
    let house = slow(config::Limits { opens_per_minute: 1, opens_burst: 1, ..config::Limits::default() });
    let open = |token, body: Body| of(token, Method::POST, "/v1/sessions").content_type("application/json").body(body);
    // There is nothing to lease, but it was an open.
    let nothing = Body::from(json!({}).to_string());
    assert_eq!(ask(&house, open(TOKEN, nothing)).await.status(), StatusCode::BAD_REQUEST);
    for _ in 0..3 {
        refused_by(ask(&house, open(TOKEN, untouchable())).await, "open").await;
    }
    let nothing = Body::from(json!({}).to_string());
    assert_eq!(ask(&house, open(BOBS, nothing)).await.status(), StatusCode::BAD_REQUEST);
    assert_eq!(ask(&house, of(TOKEN, Method::GET, "/v1/me").finish()).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn who_may_only_ask_for_an_answer_again_is_held_to_the_pace_of_reading() {
    let slow_opens = config::Limits {
        opens_per_minute: 1,
        opens_burst: 1,
        reads_per_minute: 1,
        reads_burst: 3,
        ..config::Limits::default()
    };
    let house = slow(slow_opens);
    let open = |key: &str| {
        let request = of(TOKEN, Method::POST, "/v1/sessions").header("idempotency-key", key);
        request.content_type("application/json").body(json!({}).to_string())
    };
    assert_eq!(ask(&house, open("one")).await.status(), StatusCode::BAD_REQUEST);
    for _ in 0..2 {
        // It is looked at, for it may be an answer again; as a new one it is an open too many.
        refused_by(ask(&house, open("two")).await, "open").await;
    }
    refused_by(ask(&house, open("one")).await, "read").await;
}

#[tokio::test]
async fn wrong_tokens_are_counted_for_nobody() {
    let house = slow(config::Limits { reads_per_minute: 1, reads_burst: 1, ..config::Limits::default() });
    for number in 0..1_000 {
        let response =
            ask(&house, of(&format!("wrong-token-{number:020}"), Method::GET, "/v1/me").body(untouchable())).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!((response.header("ratelimit"), response.header("retry-after")), (None, None));
    }
    assert_eq!(ask(&house, of(TOKEN, Method::GET, "/v1/me").finish()).await.status(), StatusCode::OK);
}
