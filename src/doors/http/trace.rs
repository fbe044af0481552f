//! One span, one request id and one count for every request.
//!
//! The span `http.request` ends with the head of the answer; a stream has a span of its own. It continues the caller's trace if there is one
//! (W3C `traceparent`). Paths hold ids of users, so spans and counts carry the pattern of the route instead.

use std::{sync::Arc, time::Instant};

use poem::{
    Endpoint, Request, Response, Result,
    http::{HeaderName, HeaderValue},
};
use tracing::{Instrument as _, field};

use super::routes::Routes;
use crate::telemetry::{Metrics, continue_trace};

/// Carries the request id, both ways.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that is taken from a caller, in bytes.
const REQUEST_ID_MAX: usize = 64;
/// The route of a request that met none.
const NO_ROUTE: &str = "none";

/// Names one request in its answer, the logs and traces.
#[derive(Debug, Clone)]
pub(super) struct RequestId(HeaderValue);

impl RequestId {
    /// The caller's own id if it is sane, else a new one.
    fn of(request: &Request) -> Self {
        let sane = |value: &&HeaderValue| {
            (1..=REQUEST_ID_MAX).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic)
        };
        let given = request.headers().get(REQUEST_ID).filter(sane).cloned();
        Self(given.unwrap_or_else(|| {
            let fresh = uuid::Uuid::now_v7().simple().to_string();
            HeaderValue::try_from(fresh).expect("hexadecimal digits are a header value")
        }))
    }

    /// The id as text.
    pub(super) fn as_str(&self) -> &str {
        self.0.to_str().expect("only visible ASCII was let in")
    }
}

/// Runs a request in its span. Goes around everything else.
pub(super) async fn trace<E: Endpoint>(
    app: Arc<E>,
    mut request: Request,
    metrics: Metrics,
    routes: Arc<Routes>,
) -> Result<Response> {
    let start = Instant::now();
    let id = RequestId::of(&request);
    let method = request.method().clone();
    let span = tracing::info_span!(
        "http.request",
        otel.kind = "server",
        http.method = method.as_str(),
        http.route = field::Empty,
        http.status_code = field::Empty,
        request_id = id.as_str(),
    );
    continue_trace(&span, request.headers());
    request.extensions_mut().insert(id.clone());
    let mut response = app.get_response(request).instrument(span.clone()).await;
    response.headers_mut().insert(REQUEST_ID, id.0);

    let status = response.status().as_u16();
    let route = routes.path(&response).unwrap_or(NO_ROUTE);
    span.record("http.route", route);
    span.record("http.status_code", status);
    metrics.http_request(route, method.as_str(), status, start.elapsed());
    span.in_scope(|| tracing::debug!(http.route = route, http.status_code = status, "answered"));
    Ok(response)
}
