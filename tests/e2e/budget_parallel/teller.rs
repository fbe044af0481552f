//! A model that counts: it writes as many tokens as it was told to, unless the call allows fewer.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// How long it thinks, so that calls meet.
const THOUGHT: Duration = Duration::from_millis(100);

/// The model; it ends with the test.
#[derive(Debug, Clone)]
pub struct Teller {
    pub address: SocketAddr,
    counts: Arc<Counts>,
}

#[derive(Debug)]
struct Counts {
    /// Tokens of an answer.
    tokens: u64,
    calls: AtomicUsize,
    written: AtomicU64,
    now: AtomicUsize,
    at_once: AtomicUsize,
}

impl Teller {
    /// Listens, and will write this many tokens a call.
    pub async fn start(tokens: u64) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has a free port");
        let counts = Counts {
            tokens,
            calls: AtomicUsize::new(0),
            written: AtomicU64::new(0),
            now: AtomicUsize::new(0),
            at_once: AtomicUsize::new(0),
        };
        let teller =
            Self { address: listener.local_addr().expect("a listener has an address"), counts: Arc::new(counts) };
        tokio::spawn(teller.clone().serve(listener));
        teller
    }

    /// Calls so far.
    pub fn calls(&self) -> usize {
        self.counts.calls.load(Ordering::SeqCst)
    }

    /// Tokens written so far.
    pub fn written(&self) -> u64 {
        self.counts.written.load(Ordering::SeqCst)
    }

    /// The most calls that there were at the same time.
    pub fn at_once(&self) -> usize {
        self.counts.at_once.load(Ordering::SeqCst)
    }

    async fn serve(self, listener: TcpListener) {
        while let Ok((socket, _)) = listener.accept().await {
            let teller = self.clone();
            let service = service_fn(move |request| teller.clone().answer(request));
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service));
        }
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let counts = &self.counts;
        let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let asked = serde_json::from_slice::<Value>(&body).unwrap_or_default();
        let allowed = asked["generationConfig"]["maxOutputTokens"].as_u64().unwrap_or(u64::MAX);
        let written = counts.tokens.min(allowed);
        let now = counts.now.fetch_add(1, Ordering::SeqCst) + 1;
        counts.at_once.fetch_max(now, Ordering::SeqCst);
        counts.calls.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(THOUGHT).await;
        counts.written.fetch_add(written, Ordering::SeqCst);
        counts.now.fetch_sub(1, Ordering::SeqCst);
        let answer = json!({
            "candidates": [{"content": {"role": "model", "parts": [{"text": "told"}]}, "index": 0, "finishReason": "STOP"}],
            "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": written, "totalTokenCount": written + 1},
            "modelVersion": "teller",
        });
        let answer =
            Response::builder().header("content-type", "application/json").body(Full::from(answer.to_string()));
        Ok(answer.expect("a plain answer"))
    }
}
