//! What operators see: traces by OTLP, and metrics at the admin address.

use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::json;

use crate::{
    client::id,
    house::{House, model},
    recorder::Recorder,
    secret::{Canary, contains},
    settings::Settings,
    wait::until,
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PROMPT: &str = "a-prompt-that-belongs-in-no-trace";

/// Whether a short text stands in the protobuf, as a whole: with its length before it.
fn names(traces: &[u8], name: &str) -> bool {
    let length = u8::try_from(name.len()).expect("span names are short");
    contains(traces, &[&[length], name.as_bytes()].concat())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traces_and_metrics_tell_what_was_done_and_not_what_was_said() {
    let collector = Recorder::start().await;
    let canary = Canary::new();
    let settings = Settings::new()
        .gemini(model(Some(&canary.key)).await)
        .variable("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{}", collector.address))
        .variable("OTEL_BSP_SCHEDULE_DELAY", "100");
    let house = House::start(settings).await;
    let alice = house.alice();

    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let headers = [("content-type", "application/json"), ("traceparent", parent.as_str())];
    let body = json!({"template": "gemini", "credential": {"api_key": canary.key}}).to_string();
    let opened = alice.call(Method::POST, "/v1/sessions", &headers, Bytes::from(body)).await;
    let session = opened.expect(StatusCode::CREATED);
    let path = format!("/v1/sessions/{}/turns", id(&session));
    let body = json!({"prompt": format!("[words:{PROMPT}-answer] {PROMPT}")}).to_string();
    let streaming = [headers[0], headers[1], ("accept", "text/event-stream")];
    let turn = alice.send(Method::POST, &path, &streaming, Bytes::from(body)).await;
    let turn = crate::stream::Events::of(turn).rest().await;
    assert!(crate::stream::text(&turn).contains(PROMPT));
    alice.close(&session).await;

    let traces = || {
        let received = collector.received();
        assert!(received.iter().all(|one| one.method == "POST" && one.path == "/v1/traces"), "{received:?}");
        received.iter().flat_map(|one| one.body.to_vec()).collect::<Vec<u8>>()
    };
    let wanted = [
        "sandbox.start",
        "create",
        "start",
        "link",
        "initialize",
        "session",
        "session.open",
        "turn.prompt",
        "turn.stream",
    ];
    for name in wanted {
        until(&format!("{name} is exported"), Duration::from_secs(15), async || names(&traces(), name).then_some(()))
            .await;
    }
    let trace = (0..16).map(|at| u8::from_str_radix(&TRACE[2 * at..][..2], 16).expect("hex")).collect::<Vec<_>>();
    assert!(contains(&traces(), &trace), "the caller's trace goes on");
    assert!(!contains(&traces(), PROMPT.as_bytes()), "the prompt is in the traces");
    canary.assert_not_in("the traces", &traces());
    assert!(!contains(&house.log(), PROMPT.as_bytes()), "the prompt is in the log");
    for line in String::from_utf8_lossy(&house.log()).lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok_and(|line| line.is_object()), "not JSON: {line}");
    }

    check_metrics(&house).await;
    house.stop().await;
}

async fn check_metrics(house: &House) {
    let reply = house.operator().get("/metrics").await;
    assert_eq!(reply.status, StatusCode::OK);
    let metrics = reply.text();
    for (instrument, kind) in [
        ("greenroom_sandboxes", "gauge"),
        ("greenroom_sandbox_starts_total", "counter"),
        ("greenroom_sandbox_start_duration_seconds", "histogram"),
        ("greenroom_http_requests_total", "counter"),
        ("greenroom_http_request_duration_seconds", "histogram"),
    ] {
        assert!(metrics.contains(&format!("# TYPE {instrument} {kind}")), "{instrument} in:\n{metrics}");
        assert!(metrics.lines().any(|line| line.starts_with(instrument)), "{instrument} has no value:\n{metrics}");
    }
    assert!(metrics.contains("gemini"), "the template is a label:\n{metrics}");
    for private in ["=\"ses_", "alice", "/v1/sessions/ses"] {
        assert!(!metrics.contains(private), "{private} in the metrics");
    }
    assert_eq!(house.visitor().get("/metrics").await.status, StatusCode::NOT_FOUND, "metrics are for operators");
}
