//! An HTTP server that keeps what it is sent and answers `{}`: a trace collector, or a model nobody should reach.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, header::HeaderMap, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Requests that are kept; a test sends far fewer.
const KEPT: usize = 10_000;

/// One request.
#[derive(Debug, Clone)]
pub struct Received {
    pub method: String,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// The server; it ends with the test.
#[derive(Debug, Clone)]
pub struct Recorder {
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Recorder {
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let recorder = Self { address, received: Arc::default() };
        tokio::spawn(recorder.clone().serve(listener));
        recorder
    }

    async fn serve(self, listener: TcpListener) {
        while let Ok((socket, _)) = listener.accept().await {
            let recorder = self.clone();
            let service = service_fn(move |request| recorder.clone().keep(request));
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service));
        }
    }

    async fn keep(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let (method, path) = (head.method.to_string(), head.uri.to_string());
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(received.len() < KEPT, "a flood of requests");
        received.push(Received { method, path, headers: head.headers, body });
        let is_protobuf = received.last().is_some_and(|last| last.path.ends_with("/v1/traces"));
        Ok(Response::new(Full::from(if is_protobuf { "" } else { "{}" })))
    }

    /// What has come so far.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
