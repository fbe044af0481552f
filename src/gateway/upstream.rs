//! Connections to the models.
//!
//! HTTP/1.1 only, on purpose: over HTTP/2 all users would share one connection and its window, and one agent that stops reading
//! could stall the answers of all others. A connection carries one request at a time and is kept for the next.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use tower_service::Service;

use super::body::Upload;

/// Deadline for name, TCP and TLS together.
const CONNECT: Duration = Duration::from_secs(10);

/// Idle connections kept per host, and for how long.
const IDLE_CONNECTIONS: usize = 64;
const IDLE_TIME: Duration = Duration::from_secs(60);

/// Largest head of an answer, in bytes.
const HEAD_BYTES: usize = 64 * 1024;

/// The client of all slots.
pub(super) type Upstream = Client<Prompt<HttpsConnector<HttpConnector>>, Upload>;

/// Makes the client. Never redirected, never proxied, no cookies: it does what it is told.
pub(super) fn connect() -> io::Result<Upstream> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let tls = match tls.clone().with_native_roots() {
        Ok(tls) => tls.with_no_client_auth(),
        Err(error) => {
            tracing::warn!(%error, "no root certificates on this machine: models can't be reached by https (install ca-certificates)");
            tls.with_root_certificates(RootCertStore::empty()).with_no_client_auth()
        }
    };
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
    Ok(Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIME)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .http1_max_buf_size(HEAD_BYTES)
        .build(Prompt(connector)))
}

/// A connector that has to be done within [`CONNECT`].
#[derive(Debug, Clone)]
pub(super) struct Prompt<C>(C);

impl<C> Service<Uri> for Prompt<C>
where
    C: Service<Uri>,
    C::Future: Send + 'static,
    C::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    C::Response: 'static,
{
    type Response = C::Response;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async move {
            match tokio::time::timeout(CONNECT, connecting).await {
                Ok(connected) => connected.map_err(Into::into),
                Err(_elapsed) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            }
        })
    }
}
