//! A slot's socket with a real upstream behind it.

mod budget;
mod forms;
mod model;

use std::{path::PathBuf, sync::atomic::Ordering, time::Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use secrecy::SecretString;
use tokio::sync::mpsc;
use tracing_subscriber::fmt::format::FmtSpan;

use self::model::{Agent, Model, PATH, eventually, json_request};
use super::*;
use crate::{
    config::ModelApi,
    gateway::{Account, Deadlines, Egress, ModelKey, Report},
    ids::{SessionId, UserId},
    telemetry::{Metrics, SessionAudit},
};

const CANARY: &str = "canary-key-of-ada";

struct House {
    slot: SlotGateway,
    socket: PathBuf,
    reports: mpsc::Receiver<Report>,
    binding: Binding,
    metrics: Metrics,
    _folder: tempfile::TempDir,
}

impl House {
    fn new(base_url: &str) -> Self {
        Self::with(base_url, Deadlines::default())
    }

    fn with(base_url: &str, deadlines: Deadlines) -> Self {
        Self::of(&ModelApi::default(), base_url, deadlines)
    }

    fn of(api: &ModelApi, base_url: &str, deadlines: Deadlines) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("gateway.sock");
        let endpoint = Endpoint::compile(api, Some(base_url)).expect("good");
        let metrics = Metrics::new();
        let mut gateway = Gateway::new(metrics.clone()).expect("a gateway");
        gateway.deadlines = deadlines;
        let slot = gateway.open_slot(&socket, Arc::new(endpoint)).expect("listens");
        let (sender, reports) = mpsc::channel(super::super::REPORTS_CAPACITY);
        let binding = Binding {
            user: UserId::parse("ada").expect("a good name"),
            session: SessionId::random(),
            key: Some(ModelKey(Arc::new(SecretString::from(CANARY)))),
            key_missing: false,
            account: Account::unlimited(),
            egress: Egress::nothing(),
            audit: SessionAudit::default(),
            reports: sender,
        };
        Self { slot, socket, reports, binding, metrics, _folder: folder }
    }

    fn bound(base_url: &str) -> Self {
        let house = Self::new(base_url);
        house.slot.bind(house.binding.clone());
        house
    }

    async fn agent(&self) -> Agent {
        Agent::connect(&self.socket).await
    }

    fn counted(&self, outcome: &str) -> bool {
        let line = format!("greenroom_gateway_requests_total{{outcome=\"{outcome}\"}} 1\n");
        self.metrics.render().contains(&line)
    }

    async fn ask(&self, request: Request<Full<Bytes>>) -> (StatusCode, String) {
        let answer = self.agent().await.send(request).await.expect("an answer");
        let status = answer.status();
        let text = answer.into_body().collect().await.expect("a whole body").to_bytes();
        (status, String::from_utf8(text.to_vec()).expect("text"))
    }
}

fn assert_refused((status, text): (StatusCode, String), code: u16, name: &str) {
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        (status.as_u16(), &value["error"]["code"], &value["error"]["status"]),
        (code, &code.into(), &name.into())
    );
    assert!(!text.contains(CANARY) && !text.contains("127.0.0.1") && !text.contains("/v1"), "{text}");
}

#[tokio::test]
async fn the_users_key_goes_in_and_the_sandboxs_stays_behind() {
    let model = Model::start(model::echo_headers).await;
    let house = House::bound(&model.url());
    let mut request = json_request(&format!("{PATH}?alt=sse&key=sandbox-key"), "{}");
    for (name, value) in [
        ("x-goog-api-key", "sandbox-key"),
        ("authorization", "Bearer sandbox-key"),
        ("x-api-key", "sandbox-key"),
        ("cookie", "sandbox-key"),
        ("proxy-authorization", "sandbox-key"),
        ("accept-encoding", "gzip"),
        ("host", "evil.example"),
        ("x-goog-fieldmask", "candidates"),
    ] {
        request.headers_mut().insert(name, value.parse().expect("a value"));
    }
    let (status, seen) = house.ask(request).await;
    assert_eq!(status, StatusCode::OK);
    let backwards = |text: &str| text.chars().rev().collect::<String>();
    assert!(seen.contains(&format!("x-goog-api-key: {}\n", backwards(CANARY))), "{seen}");
    assert!(seen.contains(&format!("host: {}\n", backwards(&model.address.to_string()))), "{seen}");
    assert!(seen.starts_with(&format!("POST {PATH}?alt=sse\n")), "{seen}");
    for absent in ["sandbox-key", "accept-encoding", "evil", "fieldmask"] {
        assert!(!seen.contains(absent) && !seen.contains(&backwards(absent)), "{absent} in {seen}");
    }
}

#[tokio::test]
async fn without_a_lease_everything_is_refused() {
    let model = Model::start(model::echo_headers).await;
    let house = House::new(&model.url());
    assert_refused(house.ask(json_request(PATH, "{}")).await, 403, "PERMISSION_DENIED");
    house.slot.bind(house.binding.clone());
    assert_eq!(house.ask(json_request(PATH, "{}")).await.0, StatusCode::OK);
    house.slot.unbind();
    assert_refused(house.ask(json_request(PATH, "{}")).await, 403, "PERMISSION_DENIED");
    assert_eq!(model.requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_is_not_a_call_to_the_model_is_refused() {
    let model = Model::start(model::echo_headers).await;
    let house = House::bound(&model.url());
    for path in
        ["/v1beta/files", "/v1beta/models/%2e%2e:generateContent", "http://evil.example/v1/models/m:generateContent"]
    {
        assert_refused(house.ask(json_request(path, "{}")).await, 403, "PERMISSION_DENIED");
    }
    for method in ["GET", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let mut request = json_request(PATH, "{}");
        *request.method_mut() = method.parse().expect("a method");
        assert_refused(house.ask(request).await, 403, "PERMISSION_DENIED");
    }
    let mut request = json_request(PATH, "{}");
    request.headers_mut().insert("content-type", "application/x-protobuf".parse().expect("a value"));
    assert_refused(house.ask(request).await, 415, "INVALID_ARGUMENT");
    assert_eq!(model.requests.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn redirects_are_not_followed_and_a_dead_model_is_unavailable() {
    let model = Model::start(|_, _| async {
        let answer = Response::builder().status(302).header("location", "http://127.0.0.1:1/");
        answer.body(model::whole("moved")).expect("an answer")
    })
    .await;
    let house = House::bound(&model.url());
    assert_refused(house.ask(json_request(PATH, "{}")).await, 502, "UNAVAILABLE");
    let url = model.url();
    drop(model);
    let house = House::bound(&url);
    assert_refused(house.ask(json_request(PATH, "{}")).await, 502, "UNAVAILABLE");
}

#[tokio::test]
async fn a_model_that_does_not_answer_or_falls_silent_is_given_up() {
    let short = Duration::from_millis(100);
    let model = Model::start(|_, _| std::future::pending()).await;
    let house = House::with(&model.url(), Deadlines { head: short, idle: short });
    house.slot.bind(house.binding.clone());
    assert_refused(house.ask(json_request(PATH, "{}")).await, 504, "DEADLINE_EXCEEDED");

    let model = Model::start(model::one_piece_then_silence).await;
    let house = House::with(&model.url(), Deadlines { head: Duration::from_secs(10), idle: short });
    house.slot.bind(house.binding.clone());
    let answer = house.agent().await.send(json_request(PATH, "{}")).await.expect("a head");
    assert!(answer.into_body().collect().await.is_err(), "a truncated answer must not look whole");
}

#[tokio::test]
async fn a_model_that_repeats_the_key_in_its_refusal_is_not_repeated() {
    let model = Model::start(model::refuse_and_repeat_the_key).await;
    let house = House::bound(&model.url());
    let (status, text) = house.ask(json_request(PATH, "{}")).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(!text.contains(CANARY), "{text}");
    assert!(text.contains("Consumer 'api_key:(hidden)' has been suspended."), "the rest is the model's own: {text}");
}

#[tokio::test]
async fn a_refusal_that_cannot_be_searched_for_the_key_is_replaced() {
    let short = Duration::from_millis(100);
    let deadlines = Deadlines { head: Duration::from_secs(10), idle: short };
    let endless = Model::start(|_, _| async {
        let (_, body) = model::pieces(1024, 1024 * 1024);
        Response::builder().status(500).body(body).expect("an answer")
    });
    let encoded = Model::start(|_, _| async {
        let answer = Response::builder().status(429).header("content-encoding", "br");
        answer.body(model::whole("unreadable")).expect("an answer")
    });
    let silent = Model::start(|request, seen| async {
        let mut answer = model::one_piece_then_silence(request, seen).await;
        *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        answer
    });
    for (model, code, name) in [
        (endless.await, 502, "UNAVAILABLE"),
        (encoded.await, 502, "UNAVAILABLE"),
        (silent.await, 504, "DEADLINE_EXCEEDED"),
    ] {
        let house = House::with(&model.url(), deadlines);
        house.slot.bind(house.binding.clone());
        assert_refused(house.ask(json_request(PATH, "{}")).await, code, name);
    }
}

#[tokio::test]
async fn a_key_that_is_no_header_value_is_told() {
    let mut house = House::new("http://127.0.0.1:1");
    house.binding.key = Some(ModelKey(Arc::new(SecretString::from("a\r\nb"))));
    house.slot.bind(house.binding.clone());
    assert_refused(house.ask(json_request(PATH, "{}")).await, 400, "INVALID_ARGUMENT");
}

#[tokio::test]
async fn the_end_of_a_lease_ends_a_stream_under_way_and_reports_its_tokens() {
    let model = Model::start(model::one_piece_then_silence).await;
    let mut house = House::bound(&model.url());
    let mut answer = house.agent().await.send(json_request(PATH, "{}")).await.expect("a head").into_body();
    answer.frame().await.expect("a piece").expect("a good one");
    house.slot.unbind();
    let began = Instant::now();
    assert!(answer.frame().await.is_none_or(|frame| frame.is_err()), "the stream went on");
    assert!(began.elapsed() < Duration::from_secs(1));
    let reported = house.reports.recv().await;
    let Some(Report::Usage(usage)) = reported else { panic!("no counts: {reported:?}") };
    assert_eq!((usage.model.as_str(), usage.input_tokens, usage.output_tokens), ("m", 5, 1));
    eventually("the model's side was closed", || model.open_answers.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn a_dropped_slot_is_gone_within_a_second() {
    let model = Model::start(model::one_piece_then_silence).await;
    let house = House::bound(&model.url());
    let mut answer = house.agent().await.send(json_request(PATH, "{}")).await.expect("a head").into_body();
    answer.frame().await.expect("a piece").expect("a good one");
    let (socket, _folder) = (house.socket.clone(), house._folder);
    drop(house.slot);
    assert!(!socket.exists());
    let ended = tokio::time::timeout(Duration::from_secs(1), answer.frame()).await.expect("in time");
    assert!(ended.is_none_or(|frame| frame.is_err()));
}

#[tokio::test]
async fn a_file_in_the_sockets_place_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("gateway.sock");
    std::fs::write(&socket, "precious").expect("written");
    let endpoint = Arc::new(Endpoint::compile(&ModelApi::default(), None).expect("good"));
    let gateway = Gateway::new(Metrics::new()).expect("a gateway");
    assert!(gateway.open_slot(&socket, endpoint.clone()).is_err());
    assert_eq!(std::fs::read(&socket).expect("still there"), b"precious");
    let other = folder.path().join("other.sock");
    drop(std::os::unix::net::UnixListener::bind(&other).expect("a leftover"));
    gateway.open_slot(&other, endpoint).expect("a leftover socket is replaced");
}

#[tokio::test]
async fn tokens_are_reported_before_the_agent_sees_the_end() {
    for events in [true, false] {
        let model = Model::start(move |_, _| async move { model::counted(events) }).await;
        let mut house = House::bound(&model.url());
        let (status, _) = house.ask(json_request(PATH, "{}")).await;
        assert_eq!(status, StatusCode::OK);
        let reported = house.reports.try_recv();
        let Ok(Report::Usage(usage)) = reported else { panic!("not reported by now: {reported:?}") };
        assert_eq!((usage.model.as_str(), usage.input_tokens, usage.output_tokens), ("m", 12, 34));
        let count = PATH.replace("streamGenerateContent", "countTokens");
        house.ask(json_request(&count, "{}")).await;
        assert!(house.reports.try_recv().is_err(), "counting tokens costs none");
    }
}

#[tokio::test]
async fn large_bodies_stream_both_ways_without_being_gathered() {
    const PIECE: usize = 64 * 1024;
    /// What may be between the two ends: the kernel's send buffer grows to 4 MiB, the rest has to be small.
    const BETWEEN: usize = 6 * 1024 * 1024;
    let model = Model::start(|request, state| model::read_all_then_send(request, state, PIECE, 50 * 1024 * 1024)).await;
    let house = House::bound(&model.url());

    let (made, upload) = model::pieces(PIECE, 30 * 1024 * 1024);
    let request = json_request(PATH, "").map(|_| upload);
    let mut agent = house.agent().await;
    let sending = tokio::spawn(async move { agent.send(request).await });
    let taken = model::still(&made).await;
    assert!(taken <= BETWEEN, "{taken} bytes are on their way to a model that doesn't read");
    model.go_on.notify_one();

    let mut answer = sending.await.expect("no panic").expect("a head").into_body();
    let first = answer.frame().await.expect("a piece").expect("a good one").into_data().expect("data").len();
    let sent = model::still(&model.sent).await;
    assert!(sent <= first + BETWEEN, "{sent} bytes are on their way to an agent that doesn't read");
    let mut taken = first;
    while let Some(frame) = answer.frame().await {
        taken += frame.expect("a good one").into_data().expect("data").len();
    }
    assert_eq!((model.received.load(Ordering::SeqCst), taken), (30 * 1024 * 1024, 50 * 1024 * 1024));
}

#[tokio::test]
async fn a_request_over_the_limit_is_refused_with_and_without_a_length() {
    let model = Model::start(|request, state| model::read_all_then_send(request, state, 1, 1)).await;
    model.go_on.notify_one();
    let house = House::bound(&model.url());
    let request = json_request(PATH, &"x".repeat(32 * 1024 * 1024 + 1));
    let answer = house.agent().await.send(request).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let (_, upload) = model::pieces(64 * 1024, 40 * 1024 * 1024);
    let answer = house.agent().await.send(json_request(PATH, "").map(|_| upload)).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_head_over_the_limit_is_refused() {
    let house = House::bound("http://127.0.0.1:1");
    let mut request = json_request(PATH, "{}");
    request.headers_mut().insert("x-long", "x".repeat(HEAD_BYTES).parse().expect("a value"));
    let answer = house.agent().await.send(request).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}

#[tokio::test]
async fn connections_past_the_limit_wait_for_their_turn() {
    let model = Model::start(model::echo_headers).await;
    let house = House::bound(&model.url());
    let mut crowd = Vec::new();
    for _ in 0..CONNECTIONS {
        crowd.push(house.agent().await);
    }
    let mut late = house.agent().await;
    let waiting = tokio::spawn(async move { late.send(json_request(PATH, "{}")).await.map(|answer| answer.status()) });
    assert_eq!(crowd[0].send(json_request(PATH, "{}")).await.expect("an answer").status(), StatusCode::OK);
    assert!(!waiting.is_finished());
    crowd.clear();
    assert_eq!(waiting.await.expect("no panic").expect("an answer"), StatusCode::OK);
}

#[tokio::test]
async fn every_call_is_counted_once_by_what_became_of_it() {
    let good = Model::start(model::echo_headers).await;
    let house = House::new(&good.url());
    let _refused = house.ask(json_request(PATH, "{}")).await;
    house.slot.bind(house.binding.clone());
    let _answered = house.ask(json_request(PATH, "{}")).await;
    let _refused = house.ask(json_request("/v1beta/files", "{}")).await;
    let mut request = json_request(PATH, "{}");
    request.headers_mut().insert("content-type", "text/plain".parse().expect("a value"));
    let _refused = house.ask(request).await;
    for outcome in ["unleased", "forwarded", "forbidden", "invalid"] {
        eventually(outcome, || house.counted(outcome)).await;
    }
    assert!(!["model_error", "unreachable", "given_up"].iter().any(|outcome| house.counted(outcome)));

    let refusing = Model::start(model::refuse_and_repeat_the_key).await;
    let house = House::bound(&refusing.url());
    let _refused = house.ask(json_request(PATH, "{}")).await;
    let broken_off = Model::start(model::one_piece_then_silence).await;
    assert!(house.counted("model_error"));

    let short = Deadlines { head: Duration::from_secs(10), idle: Duration::from_millis(50) };
    let house = House::with(&broken_off.url(), short);
    house.slot.bind(house.binding.clone());
    let answer = house.agent().await.send(json_request(PATH, "{}")).await.expect("a head");
    assert!(answer.into_body().collect().await.is_err());
    eventually("a broken stream is counted", || house.counted("unreachable")).await;
    assert!(!house.counted("forwarded"));

    let silent = Model::start(|_, _| std::future::pending()).await;
    let house = House::bound(&silent.url());
    let mut agent = house.agent().await;
    let asking = tokio::spawn(async move { agent.send(json_request(PATH, "{}")).await.map(drop) });
    eventually("the model is asked", || silent.requests.load(Ordering::SeqCst) == 1).await;
    house.slot.unbind();
    assert!(asking.await.expect("no panic").is_err());
    eventually("a call without an end is counted", || house.counted("given_up")).await;
}

#[tokio::test]
async fn no_log_line_tells_a_key_a_prompt_or_a_query() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
    let subscriber = subscriber.with_writer(move || writer.clone()).with_span_events(FmtSpan::FULL).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let model = Model::start(model::echo_headers).await;
    let url = model.url();
    let house = House::bound(&url);
    let request = || json_request(&format!("{PATH}?alt=sse&key=canary-query"), "{\"text\":\"canary-prompt\"}");
    assert_eq!(house.ask(request()).await.0, StatusCode::OK);
    drop(model);
    let house = House::bound(&url);
    assert_refused(house.ask(request()).await, 502, "UNAVAILABLE");
    let lines = String::from_utf8(lines.0.lock().expect("not poisoned").clone()).expect("text");
    assert!(!lines.contains("canary"), "{lines}");
    let warned: Vec<_> = lines.lines().filter(|line| line.contains("WARN")).collect();
    assert_eq!(warned.len(), 1, "{lines}");
    assert!(warned[0].contains(house.binding.session.as_str()) && warned[0].contains("ada"), "{}", warned[0]);
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("not poisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
