//! REST + SSE under `/v1`, the health checks, and the OpenAPI document that describes them.
//!
//! The API structs hold nothing: what handlers need comes with the request, so the document can be printed without a server. From the
//! outside in, a request passes: what web pages may do, the span and request id, the rendering of refusals, the router, the token, the body's
//! limits, one call of the service.

mod catalog;
mod credentials;
mod docs;
mod download;
mod events;
mod files;
mod frames;
mod health;
mod keys;
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
    http::{
        self, answer,
        audit::{self, Watch},
        body, confidential, etag, once, refusal, rendered,
        routes::Routes,
        web::{self, Web},
    },
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
    /// A user's own keys for model APIs, kept under names.
    Credentials,
    /// What there is, and what is left of it.
    Catalog,
    /// What users come in with. For administrators.
    Keys,
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
    credentials::Credentials,
    keys::Keys,
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
        credentials::Credentials,
        keys::Keys,
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
    let admission = service.admission();
    let door = Arc::new(Door { service, config: Arc::clone(&config) });
    let (api, documented) = (api(), Arc::new(Routes::of::<Api>()));
    let (for_pages, web) = (Arc::clone(&documented), Arc::new(Web::new(&config.server)));
    let routes = Route::new()
        .at("/openapi.json", http::document_endpoint(document()))
        .at("/docs", docs::page_endpoint(&api))
        .nest("/", api)
        .data(door)
        .data(authenticator)
        .data(admission)
        .around(move |app, request| web::admit(app, request, Arc::clone(&for_pages)));
    http::furnished(routes, documented, config, metrics, watch)
        .around(move |app, request| web::guard(app, request, Arc::clone(&web)))
        .boxed()
}

#[cfg(test)]
mod tests;
