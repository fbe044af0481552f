//! What the doors over HTTP share: how a request is traced and read, and what an answer, a refusal and the document look like.
//!
//! From the outside in, a request passes: the span and request id, the audit log, the rendering of refusals, then the door's own routes. None of this knows which
//! door it stands in.

pub(super) mod answer;
pub(super) mod audit;
pub(super) mod body;
pub(super) mod confidential;
pub(super) mod depth;
pub(super) mod etag;
pub(super) mod once;
mod operations;
pub(super) mod refusal;
pub(super) mod rendered;
pub(super) mod routes;
mod trace;
pub(super) mod web;

use std::sync::Arc;

use bytes::Bytes;
use poem::{
    Endpoint, EndpointExt as _, Response,
    endpoint::{BoxEndpoint, make_sync},
    get,
    http::header::CACHE_CONTROL,
};
use poem_openapi::{OpenApi, OpenApiService};

use crate::{config::Config, telemetry::Metrics};
use audit::Watch;
use routes::Routes;

/// Puts around the routes what every request passes.
pub(super) fn furnished(
    routes: impl Endpoint + 'static,
    documented: Arc<Routes>,
    config: Arc<Config>,
    metrics: Metrics,
    watch: Watch,
) -> BoxEndpoint<'static> {
    let (for_refusals, for_audit) = (Arc::clone(&documented), Arc::clone(&documented));
    let watch = Arc::new(watch);
    routes
        .data(config)
        .around(move |app, request| refusal::render(app, request, Arc::clone(&for_refusals)))
        .around(move |app, request| audit::watch(app, request, Arc::clone(&watch), Arc::clone(&for_audit)))
        .around(move |app, request| trace::trace(app, request, metrics.clone(), Arc::clone(&documented)))
        .boxed()
}

/// An API's document, as JSON for people.
pub(super) fn document<A: OpenApi>(api: &OpenApiService<A, ()>) -> String {
    // JSON has no charset (RFC 8259), and makers of clients know the media type by its bare name only.
    let spec = api.spec().replace("application/json; charset=utf-8", "application/json");
    // A document has no parameter that takes slashes; what comes nearest is one that does so without saying it.
    spec.replace(&format!("/{}\"", routes::THE_REST), "/{path}\"")
}

/// Serves a document, which is made once.
pub(super) fn document_endpoint(document: String) -> impl Endpoint<Output = Response> {
    let document = Bytes::from(document);
    get(make_sync(move |_| {
        Response::builder().content_type("application/json").header(CACHE_CONTROL, "no-cache").body(document.clone())
    }))
}
