//! What log lines look like, and that a collector that is away harms nobody.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Instant,
};

use opentelemetry::trace::TraceContextExt as _;
use tracing::{Span, info, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::*;

/// Collects what is written. The mutex is held for one write.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Paper {
    fn lines(&self) -> Vec<serde_json::Value> {
        let bytes = self.0.lock().expect("no test panics while writing").clone();
        let text = String::from_utf8(bytes).expect("logs are UTF-8");
        text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    }
}

impl io::Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no test panics while writing").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn settings(log: &str) -> Settings {
    Settings { log: log.to_owned(), format: LogFormat::Json }
}

fn on_paper<T>(log: &str, provider: Option<&SdkTracerProvider>, act: impl FnOnce() -> T) -> (T, Paper) {
    let paper = Paper::default();
    let writer = paper.clone();
    let layer = logs(&settings(log), move || writer.clone()).expect("a good filter");
    let subscriber = Registry::default().with(provider.map(traces::layer)).with(layer);
    let result = tracing::subscriber::with_default(subscriber, act);
    (result, paper)
}

#[test]
fn a_line_is_flat_and_carries_the_fields_of_the_spans_around_it() {
    let ((), paper) = on_paper("info", None, || {
        let request = info_span!("request", request_id = "req-1", who = "outer").entered();
        let open = info_span!("session.open", template = "gemini", who = "inner").entered();
        info!(wait_ms = 3_u64, level = "not a level", "session is open");
        drop((open, request));
        tracing::debug!("not written");
    });
    let lines = paper.lines();
    assert_eq!(lines.len(), 1);
    for (field, value) in [
        ("message", "session is open"),
        ("level", "INFO"),
        ("request_id", "req-1"),
        ("template", "gemini"),
        ("who", "inner"),
        ("span", "session.open"),
        ("target", "greenroom::telemetry::tests"),
    ] {
        assert_eq!(lines[0][field], value, "{field} in {}", lines[0]);
    }
    assert_eq!(lines[0]["wait_ms"], 3);
    assert!(lines[0].get("trace_id").is_none());
    assert!(lines[0]["time"].as_str().is_some_and(|time| time.ends_with('Z')));
}

#[test]
fn libraries_that_could_write_headers_stay_quiet_even_at_trace() {
    let ((), paper) = on_paper("trace", None, || {
        tracing::debug!(target: "h2::codec", "headers with a key");
        tracing::trace!(target: "hyper::proto", "bytes with a key");
        tracing::error!(target: "opentelemetry_sdk", "export failed, once a batch");
        tracing::trace!(target: "greenroom::pool", "ours");
    });
    let lines = paper.lines();
    assert_eq!((lines.len(), &lines[0]["message"]), (1, &"ours".into()));
}

/// An address on loopback where nobody listens.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let address = listener.local_addr().expect("a bound listener has an address");
    format!("http://{address}/v1/traces")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_slows_nothing_down() {
    let begin = Instant::now();
    let provider = traces::provider(&BTreeMap::new(), Some(&nobody())).expect("a client can be made inside a runtime");
    let ((), _paper) = on_paper("info", Some(&provider), || {
        for turn in 0..5_000_u64 {
            info_span!("turn.prompt", turn).in_scope(|| ());
        }
    });
    assert!(begin.elapsed() < Duration::from_secs(2), "5,000 spans took {:?}", begin.elapsed());
    Telemetry { provider: Some(provider) }.shutdown().await;
    assert!(begin.elapsed() < FLUSH_DEADLINE + Duration::from_secs(4), "stopping took {:?}", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_reach_the_collector_and_only_ours() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
    let endpoint = format!("http://{}/v1/traces", listener.local_addr().expect("bound"));
    let collector = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut stream, _) = listener.accept().await.expect("the exporter connects");
        let mut request = Vec::new();
        while !String::from_utf8_lossy(&request).contains("turn.prompt") {
            let mut buffer = [0_u8; 4096];
            let length = stream.read(&mut buffer).await.expect("the exporter sends");
            assert!(length > 0, "the exporter closed early");
            request.extend_from_slice(&buffer[..length]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.expect("the exporter reads");
        String::from_utf8_lossy(&request).into_owned()
    });
    let provider = traces::provider(&BTreeMap::new(), Some(&endpoint)).expect("a client can be made inside a runtime");
    let (trace, paper) = on_paper("info", Some(&provider), || {
        let span = info_span!("turn.prompt");
        let mut headers = http::HeaderMap::new();
        let caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        headers.insert("traceparent", caller.parse().expect("a header"));
        continue_trace(&span, &headers);
        span.in_scope(|| {
            info_span!(target: "hyper::client", "not_ours").in_scope(|| ());
            info!(secret_path = "/private", "a line inside the trace");
            let trace = Span::current().context().span().span_context().trace_id().to_string();
            assert_eq!(traces::trace_id().as_ref(), Some(&trace), "the audit log is told so");
            trace
        })
    });
    assert_eq!(trace, "0af7651916cd43dd8448eb211c80319c", "the caller's trace goes on");
    assert_eq!(paper.lines()[0]["trace_id"], trace.as_str());
    Telemetry { provider: Some(provider) }.shutdown().await;
    let request = tokio::time::timeout(Duration::from_secs(5), collector).await.expect("in time").expect("no panic");
    assert!(request.contains("greenroom"), "the service has its name");
    assert!(!request.contains("not_ours") && !request.contains("/private"), "only our spans, and no lines");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_never_answers_holds_the_end_up_for_three_seconds_at_most() {
    // Connections are taken by the kernel; nobody reads them.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let endpoint = format!("http://{}/v1/traces", silent.local_addr().expect("bound"));
    let provider = traces::provider(&BTreeMap::new(), Some(&endpoint)).expect("a client can be made inside a runtime");
    let ((), _paper) = on_paper("info", Some(&provider), || info_span!("turn.prompt").in_scope(|| ()));
    let begin = Instant::now();
    Telemetry { provider: Some(provider) }.shutdown().await;
    assert!(begin.elapsed() < FLUSH_DEADLINE + Duration::from_secs(1), "stopping took {:?}", begin.elapsed());
}

#[test]
fn traces_are_sent_only_when_a_collector_is_named() {
    let env = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    assert_eq!(traces::wanted(&BTreeMap::new()), Ok(false));
    assert_eq!(traces::wanted(&env("OTEL_EXPORTER_OTLP_ENDPOINT", "")), Ok(false));
    for name in traces::ENDPOINTS {
        assert_eq!(traces::wanted(&env(name, "http://127.0.0.1:4318")), Ok(true));
        assert_eq!(traces::wanted(&env(name, "https://collector.example")), Err(name));
    }
}
