//! One user of the service: plain HTTP/1.1 requests, each on a connection of its own.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderMap},
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use crate::{stream::Events, wait::within};

/// Deadline of one whole answer; the longest an open may take is `queue_timeout`.
const ANSWER: Duration = Duration::from_secs(45);

/// A caller with an address and perhaps a token.
#[derive(Debug, Clone)]
pub struct Client {
    address: SocketAddr,
    token: Option<String>,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// No answer, or not a whole one: the server or the connection went away. Whether the request was heard is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost;

impl Client {
    pub fn new(address: SocketAddr, token: Option<&str>) -> Self {
        Self { address, token: token.map(str::to_owned) }
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.call(Method::GET, path, &[], Bytes::new()).await
    }

    pub async fn get_json(&self, path: &str) -> Value {
        self.get(path).await.expect(StatusCode::OK)
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.call(Method::DELETE, path, &[], Bytes::new()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.post_text(path, &body.to_string()).await
    }

    pub async fn post_text(&self, path: &str, body: &str) -> Reply {
        let headers = [("content-type", "application/json")];
        self.call(Method::POST, path, &headers, Bytes::from(body.to_owned())).await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> Reply {
        let headers = [("content-type", "application/json")];
        self.call(Method::PATCH, path, &headers, Bytes::from(body.to_string())).await
    }

    /// Posts JSON with further headers.
    pub async fn post_with(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
        let headers = [&[("content-type", "application/json")], headers].concat();
        self.call(Method::POST, path, &headers, Bytes::from(body.to_string())).await
    }

    /// Patches with JSON and further headers.
    pub async fn patch_with(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
        let headers = [&[("content-type", "application/json")], headers].concat();
        self.call(Method::PATCH, path, &headers, Bytes::from(body.to_string())).await
    }

    /// Any request, with the whole answer.
    pub async fn call(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Bytes) -> Reply {
        self.try_call(method, path, headers, body).await.expect("the server answers, and the answer is whole")
    }

    /// Any request, with the whole answer; of a server that may go away meanwhile.
    pub async fn try_call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Reply, Lost> {
        let what = format!("answer to {method} {path}");
        within(&what, ANSWER, async {
            let (head, body) = self.try_send(method, path, headers, body).await?.into_parts();
            let body = body.collect().await.map_err(|_cut| Lost)?.to_bytes();
            Ok(Reply { status: head.status, headers: head.headers, body })
        })
        .await
    }

    /// Sends a request and gives back the answer as soon as its head is there.
    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Bytes) -> Response<Incoming> {
        self.try_send(method, path, headers, body).await.expect("the server listens and answers")
    }

    /// The same, of a server that may go away meanwhile.
    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Response<Incoming>, Lost> {
        let socket = self.connect().await?;
        self.send_over(socket, method, path, headers, body).await
    }

    /// A connection to the server, nothing said yet.
    pub async fn connect(&self) -> Result<TcpStream, Lost> {
        TcpStream::connect(self.address).await.map_err(|_refused| Lost)
    }

    /// Sends a request over a connection that the caller made.
    pub async fn send_over(
        &self,
        socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Response<Incoming>, Lost> {
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await;
        let (mut sender, connection) = handshake.map_err(|_cut| Lost)?;
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, self.address.to_string());
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).expect("the test makes valid requests");
        sender.send_request(request).await.map_err(|_cut| Lost)
    }

    /// Opens a session; panics unless it is there at once or after the queue.
    pub async fn open(&self, body: Value) -> Value {
        let reply = self.post("/v1/sessions", &body).await;
        reply.expect(StatusCode::CREATED)
    }

    /// Ends a session.
    pub async fn close(&self, session: &Value) {
        let reply = self.delete(&format!("/v1/sessions/{}", id(session))).await;
        assert_eq!(reply.status, StatusCode::NO_CONTENT, "{reply:?}");
    }

    /// The events of a session from after `seq` on.
    pub async fn events(&self, session: &Value, after: u64) -> Events {
        let path = format!("/v1/sessions/{}/events?after={after}", id(session));
        Events::of(self.send(Method::GET, &path, &[("accept", "text/event-stream")], Bytes::new()).await)
    }

    /// Sends a prompt whose answer is the turn's own stream.
    pub async fn prompt(&self, session: &Value, prompt: &str) -> Events {
        Events::of(self.send_prompt(session, prompt).await)
    }

    /// Sends a prompt; the answer is the turn's own stream, or that there can be none.
    pub async fn send_prompt(&self, session: &Value, prompt: &str) -> Response<Incoming> {
        let path = format!("/v1/sessions/{}/turns", id(session));
        let headers = [("content-type", "application/json"), ("accept", "text/event-stream")];
        let body = serde_json::json!({ "prompt": prompt }).to_string();
        self.send(Method::POST, &path, &headers, Bytes::from(body)).await
    }

    /// Sends a prompt, reads its turn to the end and gives back the text of the answer.
    pub async fn ask(&self, session: &Value, prompt: &str) -> String {
        let events = self.prompt(session, prompt).await.rest().await;
        let last = events.last().expect("a turn has events");
        assert_eq!(last.kind, "turn.ended", "{last:?}");
        crate::stream::text(&events)
    }
}

impl Reply {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {} {}", self.status, self.text()))
    }

    /// The body as JSON, of an answer with this status.
    #[track_caller]
    pub fn expect(&self, status: StatusCode) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        self.json()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header, or the empty string.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("headers are ASCII"))
    }

    /// Checks that this is a whole problem document with this status and code, and gives it back.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status.as_u16(), status, "expected {code}: {}", self.text());
        assert!(self.header("content-type").starts_with("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        for field in ["type", "title", "detail", "instance", "request_id"] {
            assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "no {field}: {problem}");
        }
        if matches!(status, 429 | 503) {
            let seconds = self.header("retry-after").parse::<u64>();
            assert!(seconds.is_ok(), "no Retry-After: {self:?}");
        }
        problem
    }
}

/// The id of a session, turn or permission.
#[track_caller]
pub fn id(thing: &Value) -> &str {
    thing["id"].as_str().unwrap_or_else(|| panic!("no id: {thing}"))
}
