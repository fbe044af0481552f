//! The operators' door: pools, sandboxes, settings, metrics. It has no authentication, so it belongs on a loopback or private address; what web
//! pages in an operator's browser may not do there is in [`guard`].
//!
//! It shares nothing with the door for users but the way requests are read and answered, and has a document of its own.

mod guard;
mod pools;
mod sandboxes;
mod settings;
mod signs;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use poem::{EndpointExt as _, Route, endpoint::BoxEndpoint};
use poem_openapi::{OpenApiService, Tags};

use super::http::{self, audit::Watch, routes::Routes};
use crate::{
    config::{Changes, Config},
    problem::Problem,
    service::Service,
    telemetry::Metrics,
};

/// Renders the metrics in Prometheus' text format.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// Reads the settings again and puts them into effect.
pub type Reload = Arc<dyn Fn() -> BoxFuture<'static, Result<Changes, Problem>> + Send + Sync>;

/// What operators can reach.
pub struct Operators {
    /// The use cases.
    pub service: Arc<Service>,
    /// Settings.
    pub reload: Reload,
    /// Figures.
    pub render_metrics: RenderMetrics,
}

/// Groups of calls in the document.
#[derive(Tags)]
enum Group {
    /// A pool keeps the warm sandboxes of one template.
    Pools,
    /// A sandbox is one container with the one agent in it.
    Sandboxes,
    /// What is in the settings' file.
    Settings,
    /// For monitoring.
    Signs,
}

type Api = (pools::Pools, sandboxes::Sandboxes, settings::Settings, signs::Signs);

const INTRODUCTION: &str = "\
What operators can do to a running server, on `admin.address` only. There is no token: whoever reaches the address may do all of it.

Requests with an `Origin` header, or with a `Sec-Fetch-Site` header other than `none` and `same-origin`, are refused: no web page may do this with an \
operator's browser. `Host` must be an IP address or `localhost`, but for `/metrics` and `/healthz`. Unknown fields are refused. Failures are \
`application/problem+json` (RFC 9457) with a stable `code` and the `request_id` of the answer's `X-Request-Id` header.";

fn api() -> OpenApiService<Api, ()> {
    let api = (pools::Pools, sandboxes::Sandboxes, settings::Settings, signs::Signs);
    OpenApiService::new(api, "Greenroom for operators", "1").description(INTRODUCTION)
}

/// The OpenAPI document, as JSON for people.
#[must_use]
pub fn document() -> String {
    http::document(&api())
}

/// Everything the listener for operators serves.
#[must_use]
pub fn app(operators: Operators, config: Arc<Config>, metrics: Metrics) -> BoxEndpoint<'static> {
    let watch = Watch::operators(operators.service.audit().clone());
    let routes = Route::new()
        .at("/openapi.json", http::document_endpoint(document()))
        .nest("/", api())
        .data(Arc::new(operators))
        .around(guard::guard);
    http::furnished(routes, Arc::new(Routes::of::<Api>()), config, metrics, watch)
}
