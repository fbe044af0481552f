//! The operations of the server's own description of itself.

use hyper::Method;
use serde_json::Value;

/// One operation that needs a token.
#[derive(Debug)]
pub struct Operation {
    pub id: String,
    pub method: Method,
    /// With `{name}` where something is to be named.
    pub path: String,
    /// The scope that it needs.
    pub scope: String,
    /// What its body is, if it has one.
    pub content_type: Option<String>,
}

/// What anybody may ask for, by promise.
const OPEN: [&str; 2] = ["/healthz", "/readyz"];

/// Every operation, in the document's order. Panics for one outside [`OPEN`] that needs no token, or several.
pub fn operations(document: &Value) -> Vec<Operation> {
    let paths = document["paths"].as_object().expect("paths");
    let all = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().expect("methods").iter();
        methods.map(move |(method, operation)| (path, method, operation))
    });
    all.filter_map(|(path, method, operation)| one(path, method, operation)).collect()
}

fn one(path: &str, method: &str, operation: &Value) -> Option<Operation> {
    let security = operation["security"].as_array().map(Vec::as_slice).unwrap_or_default();
    let needs = security.iter().filter_map(Value::as_object).flat_map(|one| one.keys()).collect::<Vec<_>>();
    if OPEN.contains(&path) {
        assert!(needs.is_empty(), "{method} {path} is for everybody");
        return None;
    }
    // A ticket is another way in to the same operation; it is no scheme of the Authorization header.
    let scopes = needs.iter().filter(|name| ["read", "sessions", "admin"].contains(&name.as_str())).collect::<Vec<_>>();
    let [scope] = scopes[..] else { panic!("{method} {path} must need one scope: {security:?}") };
    let content_type = operation["requestBody"]["content"].as_object().and_then(|content| content.keys().next());
    Some(Operation {
        id: operation["operationId"].as_str().unwrap_or_else(|| panic!("{method} {path} has no id")).to_owned(),
        method: method.to_uppercase().parse().expect("a method"),
        path: path.to_owned(),
        scope: (*scope).clone(),
        content_type: content_type.cloned(),
    })
}
