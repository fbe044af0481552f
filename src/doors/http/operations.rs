//! Which operation a request asks for, by its method and path, and what the path names. Known before any router looked: a call whose client left
//! has no answer to tell it by.

use poem::http::Method;
use poem_openapi::OpenApi;

/// Every operation of an API.
#[derive(Debug)]
pub(super) struct Operations(Vec<Operation>);

#[derive(Debug)]
struct Operation {
    method: Method,
    parts: Vec<Part>,
    id: &'static str,
}

#[derive(Debug)]
enum Part {
    Literal(String),
    Named(String),
    /// Whatever is left.
    Rest,
}

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked<'r> {
    /// The operation's id in the document.
    pub id: &'static str,
    /// The path's parameters as they were sent.
    pub named: Vec<(&'r str, &'r str)>,
}

impl Operations {
    /// Those of an API.
    pub(super) fn of<A: OpenApi>() -> Self {
        let mut all = Vec::new();
        for path in A::meta().into_iter().flat_map(|api| api.paths) {
            for operation in path.operations {
                let parts = path.path.split('/').map(Part::of).collect();
                all.extend(operation.operation_id.map(|id| Operation { method: operation.method, parts, id }));
            }
        }
        Self(all)
    }

    /// The one a request asks for; none: there is no such.
    pub(super) fn asked<'r>(&'r self, method: &Method, path: &'r str) -> Option<Asked<'r>> {
        self.0.iter().filter(|operation| operation.method == *method).find_map(|operation| operation.fits(path))
    }
}

impl Operation {
    fn fits<'r>(&'r self, path: &'r str) -> Option<Asked<'r>> {
        let mut named = Vec::new();
        let mut given = path.split('/');
        for part in &self.parts {
            match (part, given.next()) {
                (Part::Rest, _) => return Some(Asked { id: self.id, named }),
                (Part::Literal(wanted), Some(given)) if wanted == given => {}
                (Part::Named(name), Some(given)) if !given.is_empty() => named.push((name.as_str(), given)),
                _ => return None,
            }
        }
        given.next().is_none().then_some(Asked { id: self.id, named })
    }
}

impl Part {
    fn of(text: &str) -> Self {
        if text.starts_with('*') {
            return Self::Rest;
        }
        let braced = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
        match text.strip_prefix(':').or(braced) {
            Some(name) => Self::Named(name.to_owned()),
            None => Self::Literal(text.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use poem_openapi::param::Path;

    use super::*;

    struct Some_;

    #[OpenApi(prefix_path = "/v1")]
    impl Some_ {
        #[oai(path = "/sessions", method = "post", operation_id = "open")]
        async fn open(&self) {}

        #[oai(path = "/sessions/:id", method = "get", operation_id = "show")]
        async fn show(&self, #[expect(unused, reason = "only its name is looked at")] id: Path<String>) {}

        #[oai(path = "/sessions/:id/files/*param1", method = "put", operation_id = "write")]
        async fn write(&self, #[expect(unused, reason = "only its name is looked at")] id: Path<String>) {}
    }

    #[test]
    fn an_operation_is_found_by_method_and_path_with_what_the_path_names() {
        let operations = Operations::of::<Some_>();
        let asked = |method: Method, path| operations.asked(&method, path).map(|asked| (asked.id, asked.named));
        assert_eq!(asked(Method::POST, "/v1/sessions"), Some(("open", vec![])));
        assert_eq!(asked(Method::GET, "/v1/sessions/ses_1"), Some(("show", vec![("id", "ses_1")])));
        let found = Some(("write", vec![("id", "s")]));
        assert_eq!(asked(Method::PUT, "/v1/sessions/s/files/a/b.txt"), found);
        assert_eq!(asked(Method::PUT, "/v1/sessions/s/files/"), found);
        for (method, path) in [
            (Method::GET, "/v1/sessions"),
            (Method::POST, "/v1/sessions/"),
            (Method::GET, "/v1/sessions/a/b"),
            (Method::GET, "/v1/sessions/"),
            (Method::POST, "/v2/sessions"),
            (Method::GET, "*"),
        ] {
            assert_eq!(asked(method, path), None, "{path}");
        }
    }
}
