//! REST + SSE under `/v1`, the health checks, and the OpenAPI document that describes them.
//!
//! The API structs hold nothing: what handlers need comes with the request, so the document can be printed without a server. From the
//! outside in, a request passes: the span and request id, the rendering of refusals, the router, the token, the body's
//! limits, one call of the service.

mod answer;
mod body;
mod catalog;
mod depth;
mod docs;
pub mod dto;
mod events;
mod frames;
mod health;
mod permissions;
mod refusal;
mod routes;
mod sessions;
mod stream;
mod token;
mod turns;

use std::sync::Arc;

use poem::{Endpoint, EndpointExt as _, Route, endpoint::BoxEndpoint};
use poem_openapi::{OpenApiService, Tags};

use super::trace;
use crate::{config::Config, identity::Authenticator, service::Service, telemetry::Metrics};
pub(in crate::doors) use routes::Routes;

/// What handlers need.
struct Door {
    service: Arc<Service>,
    config: Arc<Config>,
}

/// Groups of calls in the document.
#[derive(Tags)]
enum Group {
    /// A session is one user's hold on one warm agent in its own sandbox.
    Sessions,
    /// A turn is one prompt, to its end.
    Turns,
    /// The numbered entries of a session's log.
    Events,
    /// What an agent wants to be allowed.
    Permissions,
    /// What there is, and what is left of it.
    Catalog,
    /// For load balancers. No token.
    Health,
}

type Api =
    (sessions::Sessions, turns::Turns, events::Events, permissions::Permissions, catalog::Catalog, health::Health);

fn api() -> OpenApiService<Api, ()> {
    let api =
        (sessions::Sessions, turns::Turns, events::Events, permissions::Permissions, catalog::Catalog, health::Health);
    OpenApiService::new(api, "Greenroom", "1").description(docs::INTRODUCTION)
}

/// The OpenAPI document, as JSON for people.
#[must_use]
pub fn document() -> String {
    // JSON has no charset (RFC 8259), and makers of clients know the media type by its bare name only.
    api().spec().replace("application/json; charset=utf-8", "application/json")
}

/// Everything the listener for users serves.
#[must_use]
pub fn app(
    service: Arc<Service>,
    authenticator: Arc<Authenticator>,
    config: Arc<Config>,
    metrics: Metrics,
) -> BoxEndpoint<'static> {
    let door = Arc::new(Door { service, config: Arc::clone(&config) });
    let api = api();
    let routes = Route::new()
        .at("/openapi.json", docs::document_endpoint())
        .at("/docs", docs::page_endpoint(&api))
        .nest("/", api)
        .data(door);
    furnished(routes, Routes::of::<Api>(), authenticator, config, metrics)
}

/// Puts around the routes what every request passes.
fn furnished(
    routes: impl Endpoint + 'static,
    documented: Routes,
    authenticator: Arc<Authenticator>,
    config: Arc<Config>,
    metrics: Metrics,
) -> BoxEndpoint<'static> {
    let documented = Arc::new(documented);
    let for_refusals = Arc::clone(&documented);
    routes
        .data(authenticator)
        .data(config)
        .around(move |app, request| refusal::render(app, request, Arc::clone(&for_refusals)))
        .around(move |app, request| trace::trace(app, request, metrics.clone(), Arc::clone(&documented)))
        .boxed()
}

#[cfg(test)]
mod tests;
