//! The operators' listener: metrics and a sign of life. It has no authentication, so it belongs on a loopback or private address.

use std::sync::Arc;

use poem::{
    EndpointExt as _, Response, Route,
    endpoint::{BoxEndpoint, make_sync},
    get,
};

/// Renders the metrics in Prometheus' text format.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// `/metrics` and `/healthz` for the admin listener.
#[must_use]
pub fn admin_app(metrics: RenderMetrics) -> BoxEndpoint<'static> {
    let metrics = make_sync(move |_| {
        Response::builder().content_type("text/plain; version=0.0.4; charset=utf-8").body(metrics())
    });
    let alive = make_sync(|_| Response::builder().content_type("text/plain; charset=utf-8").body("alive\n"));
    Route::new().at("/metrics", get(metrics)).at("/healthz", get(alive)).map_to_response().boxed()
}

#[cfg(test)]
mod tests {
    use poem::{Endpoint as _, Request, http::StatusCode};

    use super::*;

    #[tokio::test]
    async fn metrics_are_served_as_prometheus_reads_them() {
        let app = admin_app(Arc::new(|| "up 1\n".to_owned()));
        let request = |path: &str| Request::builder().uri_str(path).finish();
        let response = app.get_response(request("/metrics")).await;
        assert_eq!(response.content_type(), Some("text/plain; version=0.0.4; charset=utf-8"));
        assert_eq!(response.into_body().into_string().await.unwrap_or_default(), "up 1\n");
        assert_eq!(app.get_response(request("/")).await.status(), StatusCode::NOT_FOUND);
    }
}
