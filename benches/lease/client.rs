//! A user's side of the API: one kept connection, as a client of any language would have it.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client as Http, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::stream::EventStream;

/// Longer than the server's own deadlines for an open.
const ANSWER: Duration = Duration::from_secs(60);

/// Talks to one server.
#[derive(Clone)]
pub struct Client {
    http: Http<HttpConnector, Full<Bytes>>,
    base: String,
    authorization: HeaderValue,
}

/// A session, as far as it is looked at here.
#[derive(Debug, Deserialize)]
pub struct Session {
    pub id: String,
    pub lease: Lease,
}

/// How it came to its sandbox, as the server measured it.
#[derive(Debug, Clone, Deserialize)]
pub struct Lease {
    pub start: String,
    pub reason: Option<String>,
    pub wait_ms: f64,
    pub workspace_ms: f64,
    pub agent_ms: f64,
    pub total_ms: f64,
}

/// A pool, as far as it is looked at here.
#[derive(Debug, Deserialize, Serialize)]
pub struct Pool {
    pub template: String,
    pub warm: u64,
    pub starting: u64,
    pub leased: u64,
    pub ending: u64,
    pub target: u64,
    pub last_failures: Vec<Value>,
}

#[derive(Deserialize)]
struct List<T> {
    items: Vec<T>,
}

impl Client {
    pub fn new(address: SocketAddr, token: &str) -> anyhow::Result<Self> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let http = Http::builder(TokioExecutor::new()).build(connector);
        let authorization = HeaderValue::try_from(format!("Bearer {token}")).context("the token is no header")?;
        Ok(Self { http, base: format!("http://{address}"), authorization })
    }

    /// The smallest call there is: what HTTP on loopback alone costs here.
    pub async fn round_trip(&self) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        read(self.send(Method::GET, "/healthz", None, "application/json").await?, StatusCode::OK).await?;
        Ok(begun.elapsed())
    }

    /// Opens a session with a new workspace. Also how long it took until the answer was read.
    pub async fn open(&self) -> anyhow::Result<(Session, Duration)> {
        let begun = Instant::now();
        let answer = self.send(Method::POST, "/v1/sessions", Some(json!({})), "application/json").await?;
        let body = read(answer, StatusCode::CREATED).await?;
        let took = begun.elapsed();
        Ok((serde_json::from_slice(&body).context("the session can't be read")?, took))
    }

    /// Starts a turn; its events come as the answer.
    pub async fn prompt(&self, session: &str, prompt: &str) -> anyhow::Result<EventStream> {
        let path = format!("/v1/sessions/{session}/turns");
        let answer = self.send(Method::POST, &path, Some(json!({"prompt": prompt})), "text/event-stream").await?;
        match answer.status() {
            StatusCode::OK => Ok(EventStream::new(answer.into_body())),
            _ => bail!("no turn: {:?}", read(answer, StatusCode::OK).await),
        }
    }

    /// Closes a session.
    pub async fn close(&self, session: &str) -> anyhow::Result<()> {
        let path = format!("/v1/sessions/{session}");
        read(self.send(Method::DELETE, &path, None, "application/json").await?, StatusCode::NO_CONTENT).await?;
        Ok(())
    }

    /// All pools.
    pub async fn pools(&self) -> anyhow::Result<Vec<Pool>> {
        let answer = self.send(Method::GET, "/v1/pools", None, "application/json").await?;
        let body = read(answer, StatusCode::OK).await?;
        let pools: List<Pool> = serde_json::from_slice(&body).context("the pools can't be read")?;
        Ok(pools.items)
    }

    /// Any text, such as metrics.
    pub async fn text(&self, path: &str) -> anyhow::Result<String> {
        let body = read(self.send(Method::GET, path, None, "*/*").await?, StatusCode::OK).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// Any call, and its answer once its head is there.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        accept: &'static str,
    ) -> anyhow::Result<Response<Incoming>> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(header::AUTHORIZATION, &self.authorization)
            .header(header::ACCEPT, accept);
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let answer = timeout(ANSWER, self.http.request(request.body(Full::new(body))?)).await;
        answer.with_context(|| format!("{path}: no answer"))?.with_context(|| format!("{path}: not sent"))
    }
}

/// The body of an answer that must have this status.
pub async fn read(answer: Response<Incoming>, expected: StatusCode) -> anyhow::Result<Bytes> {
    let status = answer.status();
    let body = timeout(ANSWER, answer.into_body().collect()).await.context("the answer doesn't end")??.to_bytes();
    if status != expected {
        bail!("answered {status} instead of {expected}: {}", String::from_utf8_lossy(&body));
    }
    Ok(body)
}
