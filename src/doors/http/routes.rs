//! The routes as the document names them, found from what the router says about an answer.
//!
//! The router knows `/v1/sessions/:param0`: poem-openapi numbers the parameters. Spans, counts and people want `/v1/sessions/{id}`, so both
//! are compared with their parameters left blank.

use std::collections::HashMap;

use poem::{PathPattern, Response, http::Method};
use poem_openapi::OpenApi;

use super::operations::{Asked, Operations};

/// How a route ends that takes whatever is left, slashes included; people know it as `{path}`.
pub(super) const THE_REST: &str = "*param1";

/// Every route of an API.
#[derive(Debug)]
pub(in crate::doors) struct Routes {
    routes: HashMap<String, Route>,
    operations: Operations,
}

#[derive(Debug)]
struct Route {
    /// As in the document.
    path: String,
    /// What it offers, for `Allow`.
    methods: Vec<String>,
}

impl Routes {
    /// Those of an API.
    pub(in crate::doors) fn of<A: OpenApi>() -> Self {
        let mut routes = HashMap::new();
        for path in A::meta().into_iter().flat_map(|api| api.paths) {
            let methods = path.operations.iter().map(|operation| operation.method.to_string());
            let for_people = path.path.replace(THE_REST, "{path}");
            let fresh = || Route { path: for_people, methods: Vec::new() };
            routes.entry(blanked(&path.path)).or_insert_with(fresh).methods.extend(methods);
        }
        Self { routes, operations: Operations::of::<A>() }
    }

    /// The operation a request asks for; none: there is no such.
    pub(super) fn asked<'r>(&'r self, method: &Method, path: &'r str) -> Option<Asked<'r>> {
        self.operations.asked(method, path)
    }

    /// The route that answered, such as `/v1/sessions/{id}`; none: no route did.
    pub(in crate::doors) fn path<'a>(&'a self, response: &'a Response) -> Option<&'a str> {
        // Where nothing matched, what is left is the empty root the API hangs on.
        let pattern = Some(&*response.data::<PathPattern>()?.0).filter(|pattern| !pattern.is_empty())?;
        Some(self.routes.get(&blanked(pattern)).map_or(pattern, |route| &route.path))
    }

    /// The methods the route that answered offers, written for `Allow`.
    pub(in crate::doors) fn methods(&self, response: &Response) -> String {
        let pattern = response.data::<PathPattern>();
        let route = pattern.and_then(|pattern| self.routes.get(&blanked(&pattern.0)));
        offered(route)
    }

    /// The methods that are offered at a path, for who asks before there is an answer.
    pub(super) fn methods_at(&self, path: &str) -> String {
        let parts: Vec<&str> = path.split('/').collect();
        offered(self.routes.values().find(|route| route.covers(&parts)))
    }
}

impl Route {
    fn covers(&self, parts: &[&str]) -> bool {
        let own: Vec<&str> = self.path.split('/').collect();
        let takes_the_rest = own.last() == Some(&"{path}");
        let as_many = own.len() == parts.len() || (takes_the_rest && own.len() < parts.len());
        as_many && own.iter().zip(parts).all(|(own, part)| own.starts_with([':', '{']) || own == part)
    }
}

/// The routes beside the API, the document and its page, can only be read.
fn offered(route: Option<&Route>) -> String {
    route.map_or_else(|| "GET".to_owned(), |route| route.methods.join(", "))
}

fn blanked(path: &str) -> String {
    let blank = |part| if str::starts_with(part, [':', '{', '*']) { "*" } else { part };
    path.split('/').map(blank).collect::<Vec<_>>().join("/")
}
