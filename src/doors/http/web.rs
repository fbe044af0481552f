//! What keeps web pages in their place: who is asked for, who asks, and what every answer tells a browser.
//!
//! A browser carries requests of any page to any address it can reach, from behind every firewall. What it says of them no page can change, so
//! three questions are asked before anything else, before a route is looked for and a token looked at:
//!
//! 1. *Which host is asked for?* A page whose own name was made to mean this address (DNS rebinding) asks by that name ([`host`]).
//! 2. *Which page asks?* Pages of other origins are refused unless the settings list theirs ([`origin`]).
//! 3. *Does it ask whether it may ask?* A preflight of a listed origin is answered, without a token ([`answers`]).
//!
//! Programs send neither `Origin` nor `Sec-Fetch-Site` and notice nothing of the last two. There are no cookies anywhere, so a page without a token
//! of its user's own is nobody. [`guard`] goes around everything, so that also a refusal and a fault can be read by a page that may ask;
//! [`admit`] stands before the routes and speaks the refusal that [`guard`] found.

mod answers;
pub(in crate::doors) mod host;
pub(in crate::doors) mod origin;

use std::{collections::HashSet, sync::Arc};

use poem::{
    Endpoint, IntoResponse as _, Request, Response, Result,
    http::{HeaderMap, Method, Uri},
};

use super::{
    refusal::{Refusal, given},
    routes::Routes,
};
use crate::{
    config::{self, WebHost},
    problem::Problem,
};
use origin::Visitor;

/// Paths that may be asked for by any name: whoever watches the process or balances its load knows it by names of their own.
const BY_ANY_NAME: [&str; 2] = ["/healthz", "/readyz"];

/// Names of this server and of the pages that may use it.
#[derive(Debug)]
pub(in crate::doors) struct Web {
    hosts: Vec<WebHost>,
    origins: HashSet<String>,
}

/// What was found out about a request, on its way from [`guard`] to [`admit`].
#[derive(Debug, Clone)]
struct Verdict(Arc<Result<Visitor, Refusal>>);

impl Web {
    /// As the settings have them.
    pub(in crate::doors) fn new(settings: &config::Server) -> Self {
        let origins = settings.origins.iter().map(|origin| origin.as_str().to_owned()).collect();
        Self { hosts: settings.hosts.clone(), origins }
    }

    /// Who asks, if they may. Needs nothing but the head, so that a door that isn't HTTP any more after it can ask, too.
    ///
    /// # Errors
    /// Another host is asked for, or a page asks that may not.
    pub(in crate::doors) fn visitor(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Visitor, Problem> {
        let asked = host::asked(uri, headers);
        if !BY_ANY_NAME.contains(&uri.path()) {
            host::check(asked.as_ref().map_err(|fault| *fault)?, &self.hosts)?;
        }
        origin::visitor(method, headers, asked.as_ref().ok(), &self.origins)
    }
}

/// Goes around everything: judges the request, and tells the browser what it is to know of the answer.
pub(in crate::doors) async fn guard<E: Endpoint>(app: Arc<E>, mut request: Request, web: Arc<Web>) -> Result<Response> {
    let verdict = web.visitor(request.method(), request.uri(), request.headers());
    let page = verdict.as_ref().ok().and_then(Visitor::listed_origin).cloned();
    let of_the_api = request.uri().path().starts_with("/v1/");
    request.extensions_mut().insert(Verdict(Arc::new(verdict.map_err(Refusal))));
    let mut response = app.get_response(request).await;
    answers::furnish(response.headers_mut(), page, of_the_api);
    Ok(response)
}

/// Stands before the routes: lets a request pass, or answers in their place.
pub(in crate::doors) async fn admit<E: Endpoint>(
    app: Arc<E>,
    request: Request,
    routes: Arc<Routes>,
) -> Result<Response> {
    let verdict = given::<Verdict>(&request)?.clone();
    match &*verdict.0 {
        Err(Refusal(problem)) => Ok(Refusal(Problem::new(problem.code, problem.detail.clone())).into_response()),
        Ok(Visitor::Listed(_)) if answers::is_preflight(&request) => Ok(answers::preflight(&routes, &request)),
        Ok(_) => Ok(app.get_response(request).await),
    }
}
