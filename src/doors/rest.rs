//! REST + SSE under `/v1`, the health checks, and the OpenAPI document that describes them.
//!
//! The API structs hold nothing: what handlers need comes with the request, so the document can be printed without a server. From the
//! outside in, a request passes: the span and request id, the rendering of refusals, the router, the token, the body's
//! limits, one call of the service.

mod catalog;
mod docs;
mod download;
mod events;
mod files;
mod frames;
mod health;
mod media;
mod permissions;
mod sessions;
mod stream;
mod tickets;
mod token;
mod turns;
mod upload;
mod workspaces;

use std::sync::Arc;

use poem::{EndpointExt as _, Route, endpoint::BoxEndpoint};
use poem_openapi::{OpenApiService, Tags};

use super::{
    dto,
    http::{self, answer, audit, audit::Watch, body, etag, once, refusal, rendered, routes::Routes},
};
use crate::{config::Config, identity::Authenticator, service::Service, telemetry::Metrics};

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
    /// A user's folders, and the files in the one a session holds.
    Files,
    /// What there is, and what is left of it.
    Catalog,
    /// For load balancers. No token.
    Health,
}

type Api = (
    sessions::Sessions,
    turns::Turns,
    events::Events,
    tickets::Tickets,
    permissions::Permissions,
    files::Files,
    workspaces::Workspaces,
    catalog::Catalog,
    health::Health,
);

fn api() -> OpenApiService<Api, ()> {
    let api = (
        sessions::Sessions,
        turns::Turns,
        events::Events,
        tickets::Tickets,
        permissions::Permissions,
        files::Files,
        workspaces::Workspaces,
        catalog::Catalog,
        health::Health,
    );
    OpenApiService::new(api, "Greenroom", "1").description(docs::INTRODUCTION)
}

/// The OpenAPI document, as JSON for people.
#[must_use]
pub fn document() -> String {
    http::document(&api())
}

/// Everything the listener for users serves.
#[must_use]
pub fn app(
    service: Arc<Service>,
    authenticator: Arc<Authenticator>,
    config: Arc<Config>,
    metrics: Metrics,
) -> BoxEndpoint<'static> {
    let watch = Watch::users(service.audit().clone());
    let door = Arc::new(Door { service, config: Arc::clone(&config) });
    let api = api();
    let routes = Route::new()
        .at("/openapi.json", http::document_endpoint(document()))
        .at("/docs", docs::page_endpoint(&api))
        .nest("/", api)
        .data(door)
        .data(authenticator);
    http::furnished(routes, Routes::of::<Api>(), config, metrics, watch)
}

#[cfg(test)]
mod tests;
