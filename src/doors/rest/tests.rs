//! What every request passes, with routes of the test's own behind it: nothing here needs a service.

use std::time::Duration;

use poem::{Body, Endpoint as _, Request, Response, http::header};
use poem_openapi::{OpenApi, payload::Json};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::*;
use super::{
    answer::{Answer, Prompting},
    body::Bounded,
    dto::prompt::StartTurn,
    token::{MayAct, MayRead},
};
use crate::{
    config,
    doors::http::depth::DEPTH_MAX,
    ids::UserId,
    limits::Limits,
    problem::{Code, Problem, RateState},
    service::{admission::Admission, view::Prompt},
    telemetry::Audit,
};

const TOKEN: &str = "test-token-0123456789";

/// Routes that fail in every way.
struct Faults;

#[OpenApi(prefix_path = "/v1")]
impl Faults {
    /// Takes a prompt and says who sent it.
    #[oai(path = "/echo", method = "post")]
    async fn echo(&self, token: MayAct, body: Bounded<Json<StartTurn>>) -> Answer<Json<Value>, Prompting> {
        let prompt: Result<Prompt, Problem> = body.0.0.prompt.try_into();
        prompt.map(|prompt| Json(json!({"user": token.0.user, "blocks": prompt.content.len()}))).into()
    }

    #[oai(path = "/broken", method = "get")]
    async fn broken(&self, _token: MayRead) -> Answer<Json<Value>, Prompting> {
        Err(Problem::internal("canary: the disk /dev/sda is full")).into()
    }

    #[oai(path = "/panic", method = "get")]
    async fn panic(&self, _token: MayRead) -> Answer<Json<Value>, Prompting> {
        panic!("canary")
    }

    #[oai(path = "/limited", method = "get")]
    async fn limited(&self, _token: MayRead) -> Answer<Json<Value>, Prompting> {
        let rate = RateState {
            policy: "open",
            quota: 20,
            window: Some(Duration::from_secs(20)),
            remaining: 0,
            reset: Some(Duration::from_millis(2_300)),
        };
        let problem = Problem::new(Code::RateLimited, "too fast").rate(rate);
        Err(problem.retry_after(Duration::from_millis(2_300))).into()
    }

    #[oai(path = "/missing/:id", method = "get")]
    async fn missing(&self, _token: MayRead) -> Answer<Json<Value>, Prompting> {
        Err(Problem::not_found()).into()
    }
}

fn door(server: config::Server) -> BoxEndpoint<'static> {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let state = config::State { dir: folder.path().to_owned(), ..config::State::default() };
    let authenticator = Authenticator::load(&config::Auth::default(), &state).expect("no keys are no fault");
    let user = UserId::parse("alice").expect("a good name");
    let authenticator = authenticator.with_token(user, &SecretString::from(TOKEN));
    let config = Config { server, ..Config::default() };
    let routes = Route::new().nest("/", OpenApiService::new(Faults, "test", "1"));
    let limits = Limits::new(&config).expect("the defaults are good");
    let routes = routes.data(Arc::new(authenticator)).data(Admission::new(Arc::new(limits)));
    let (routes_known, watch) = (Arc::new(Routes::of::<Faults>()), Watch::users(Audit::off()));
    http::furnished(routes, routes_known, Arc::new(config), Metrics::default(), watch)
}

fn get(path: &str) -> Request {
    Request::builder().uri_str(path).header(header::AUTHORIZATION, format!("Bearer {TOKEN}")).finish()
}

fn post(body: impl Into<Body>) -> Request {
    let mut request = get("/v1/echo");
    request.set_method(poem::http::Method::POST);
    request.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    request.set_body(body);
    request
}

async fn ask(request: Request) -> Response {
    door(config::Server::default()).get_response(request).await
}

/// The answer must be a problem of this code; its fields.
async fn problem(response: Response, code: Code) -> Value {
    assert_eq!(response.status().as_u16(), code.status());
    assert_eq!(response.content_type(), Some("application/problem+json"));
    let id = response.header("x-request-id").map(str::to_owned);
    let body: Value = response.into_body().into_json().await.expect("a problem is JSON");
    assert_eq!(body["code"], code.as_str());
    assert_eq!(body["status"], code.status());
    assert_eq!(body["request_id"].as_str().map(str::to_owned), id);
    assert_eq!(body["type"], code.urn());
    body
}

#[tokio::test]
async fn a_good_request_passes_with_its_user() {
    let response = ask(post(r#"{"prompt": "hello"}"#)).await;
    let body: Value = response.into_body().into_json().await.expect("JSON");
    assert_eq!(body, json!({"user": "alice", "blocks": 1}));
}

#[tokio::test]
async fn no_token_and_a_wrong_token_look_the_same() {
    let mut bodies = Vec::new();
    for token in [None, Some("Bearer wrong-token-0123456789"), Some("Basic YTpi"), Some("Bearer ")] {
        let mut request = post("{");
        request.headers_mut().remove(header::AUTHORIZATION);
        request.headers_mut().insert("x-request-id", header::HeaderValue::from_static("same"));
        if let Some(token) = token {
            request.headers_mut().insert(header::AUTHORIZATION, header::HeaderValue::from_static(token));
        }
        let response = ask(request).await;
        assert_eq!(response.header("www-authenticate"), Some("Bearer"));
        bodies.push(problem(response, Code::Unauthenticated).await);
    }
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test]
async fn a_body_is_not_read_before_the_token_was_checked() {
    let mut request = post(Body::from_bytes_stream(unread()));
    request.headers_mut().remove(header::AUTHORIZATION);
    problem(ask(request).await, Code::Unauthenticated).await;
}

/// A body that must not be asked for.
fn unread() -> impl futures_util::Stream<Item = Result<bytes::Bytes, std::io::Error>> + Send {
    futures_util::stream::poll_fn(|_| panic!("the body was read"))
}

#[tokio::test]
async fn an_unknown_field_is_refused_by_name() {
    let body = problem(ask(post(r#"{"prompt": "x", "colour": 1}"#)).await, Code::InvalidRequest).await;
    assert!(body["detail"].as_str().is_some_and(|detail| detail.contains("colour")), "{body}");
}

#[tokio::test]
async fn bad_bodies_are_refused_without_being_quoted_at_length() {
    let deep = format!(r#"{{"prompt": {}1{}}}"#, "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX));
    let long = format!(r#""{}""#, "é".repeat(100_000));
    for bad in ["", "{", "[]", "null", r#"{"prompt": ""}"#, r#"{"prompt": {}}"#, "{}", &deep, &long, "\u{0}"] {
        let body = problem(ask(post(bad.to_owned())).await, Code::InvalidRequest).await;
        assert!(body["detail"].as_str().is_some_and(|detail| detail.chars().count() < 400), "{body}");
    }
}

#[tokio::test]
async fn a_body_of_another_or_no_media_type_is_refused() {
    for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("nonsense")] {
        let mut request = post(r#"{"prompt": "x"}"#);
        request.headers_mut().remove(header::CONTENT_TYPE);
        if let Some(kind) = kind {
            request.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        }
        problem(ask(request).await, Code::UnsupportedMediaType).await;
    }
}

#[tokio::test]
async fn a_body_that_says_it_is_too_large_is_not_read() {
    let mut request = post(Body::from_bytes_stream(unread()));
    request.headers_mut().insert(header::CONTENT_LENGTH, header::HeaderValue::from_static("1048577"));
    problem(ask(request).await, Code::PayloadTooLarge).await;
}

#[tokio::test]
async fn a_body_that_turns_out_too_large_is_read_to_the_limit_only() {
    let chunk = bytes::Bytes::from(vec![b' '; 64 * 1024]);
    let mut left = 17;
    let body = futures_util::stream::poll_fn(move |_| {
        left -= 1;
        assert!(left >= 0, "read past the limit");
        std::task::Poll::Ready(Some(Ok::<_, std::io::Error>(chunk.clone())))
    });
    problem(ask(post(Body::from_bytes_stream(body))).await, Code::PayloadTooLarge).await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let body = Body::from_bytes_stream(futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>());
    let body = problem(ask(post(body)).await, Code::InvalidRequest).await;
    assert_eq!(body["detail"], "the body was not complete within 30 s");
}

#[tokio::test]
async fn a_fault_of_ours_tells_nothing_of_its_cause() {
    for path in ["/v1/broken", "/v1/panic"] {
        let body = problem(ask(get(path)).await, Code::Internal).await;
        assert!(!body.to_string().contains("canary"), "{body}");
    }
}

#[tokio::test]
async fn who_is_limited_learns_by_what_and_until_when() {
    let response = ask(get("/v1/limited")).await;
    let seconds: u64 = response.header("retry-after").expect("a time").parse().expect("whole seconds");
    assert!((3..=5).contains(&seconds), "{seconds}");
    assert_eq!(response.header("ratelimit"), Some(r#""open";r=0;t=3"#));
    assert_eq!(response.header("ratelimit-policy"), Some(r#""open";q=20;w=20"#));
    problem(response, Code::RateLimited).await;
}

#[tokio::test]
async fn what_is_missing_and_a_route_that_does_not_exist_are_problems() {
    let body = problem(ask(get("/v1/missing/ses_1?secret=1")).await, Code::NotFound).await;
    assert_eq!(body["instance"], "/v1/missing/ses_1");
    problem(ask(get("/nowhere")).await, Code::NotFound).await;
    problem(ask(get("/")).await, Code::NotFound).await;
}

#[tokio::test]
async fn a_method_that_is_not_offered_is_a_problem_that_names_those_that_are() {
    let response = ask(get("/v1/echo")).await;
    assert_eq!(response.header("allow"), Some("POST"));
    problem(response, Code::MethodNotAllowed).await;
}

#[tokio::test]
async fn a_sane_request_id_is_kept_and_any_other_replaced() {
    let with_id = |id: &str| {
        let mut request = get("/v1/broken");
        request.headers_mut().insert("x-request-id", header::HeaderValue::from_str(id).expect("a header value"));
        ask(request)
    };
    assert_eq!(with_id("my-id.7").await.header("x-request-id"), Some("my-id.7"));
    for bad in ["", "two words", "é", &"x".repeat(65)] {
        let response = with_id(bad).await;
        let id = response.header("x-request-id").unwrap_or_default();
        assert!(id.len() == 32 && id != bad, "{id}");
    }
}
