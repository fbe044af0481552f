//! The rows of the matrix: one operation, tried by those who may not.

use std::collections::BTreeMap;

use bytes::Bytes;
use hyper::header::HeaderMap;

use super::{
    document::Operation,
    strangers::Strangers,
    table::Row,
    things::{Names, Things, never_was},
};
use crate::client::{Client, Reply};

/// The same for all: what differs in two answers then isn't the request's own id. A page of events in place of a stream.
pub const HEADERS: &[(&str, &str)] = &[("x-request-id", "the-same-for-all"), ("accept", "application/json")];

/// What was tried, by outcome.
#[derive(Debug, Default)]
pub struct Matrix {
    tried: BTreeMap<u16, usize>,
}

/// An answer, but for what the request itself says.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Matrix {
    /// Who proves nothing learns nothing: 401, the same bytes for all of them, whatever the path names and the body says.
    pub async fn nobody_without_a_good_token(
        &mut self,
        things: &Things,
        strangers: &Strangers,
        operation: &Operation,
        row: &Row,
    ) {
        let mut first = None;
        for names in [things.of_alice(), &never_was()] {
            let path = things.path(operation, names);
            for (who, client) in strangers.iter() {
                let malformed = operation.content_type.is_some().then_some(&b"{\"not\": \"asked for\""[..]);
                for body in [row.body].into_iter().chain(malformed) {
                    let reply = self.call(client, operation, &path, body).await;
                    let what = format!("{} with {who}", operation.id);
                    assert_eq!(reply.status.as_u16(), 401, "{what}: {}", reply.text());
                    reply.problem(401, "UNAUTHENTICATED");
                    assert_eq!(reply.header("www-authenticate"), "Bearer", "{what}");
                    let seen = seen(&reply, &path);
                    assert_eq!(
                        first.get_or_insert_with(|| seen.clone()),
                        &seen,
                        "{what}: not what the others were told"
                    );
                }
            }
        }
    }

    /// Who may do less than this is told so, in the same words whatever the path names.
    pub async fn nobody_with_too_small_a_scope(&mut self, things: &Things, operation: &Operation, row: &Row) {
        let client = things.one_scope_below(&operation.scope);
        let mut told = Vec::new();
        for names in [things.of_alice(), things.of_bob(), &never_was()] {
            let path = things.path(operation, names);
            let reply = self.call(&client, operation, &path, row.body).await;
            assert_eq!(reply.status.as_u16(), 403, "{} below {}: {}", operation.id, operation.scope, reply.text());
            reply.problem(403, "FORBIDDEN");
            told.push(seen(&reply, &path));
        }
        assert!(told.windows(2).all(|pair| pair[0] == pair[1]), "{}: {told:#?}", operation.id);
    }

    /// What is somebody else's is not there, in the same bytes as what never was; for every part of the path.
    pub async fn others_find_nothing(&mut self, things: &Things, operation: &Operation, row: &Row) {
        let (bob, never) = (things.bob(), never_was());
        let (hers, own) = (things.of_alice(), things.of_bob());
        // Her session; her turn or permission in a session of one's own; her session with nothing of hers in it.
        let mixed = Names { session: own.session.clone(), ..hers.clone() };
        let unknown = Names { session: never.session.clone(), ..hers.clone() };
        let empty = Names { session: hers.session.clone(), ..never.clone() };
        let in_own = Names { session: own.session.clone(), ..never.clone() };
        let names_more = ["{turn}", "{permission}"].iter().any(|name| operation.path.contains(name));
        let mut pairs = vec![(hers, &never), (hers, &unknown), (&empty, &never)];
        if names_more {
            pairs.push((&mixed, &in_own));
        }
        if !operation.path.contains("{id}") {
            pairs.truncate(1);
        }
        for (somebodys, nobodys) in pairs {
            let (path, other) = (things.path(operation, somebodys), things.path(operation, nobodys));
            let found = self.call(&bob, operation, &path, row.body).await;
            let missing = self.call(&bob, operation, &other, row.body).await;
            assert_eq!(found.status.as_u16(), 404, "{} of another user: {}", operation.id, found.text());
            found.problem(404, "NOT_FOUND");
            assert_eq!(seen(&found, &path), seen(&missing, &other), "{}: {path} and {other}", operation.id);
        }
    }

    /// What is listed is the caller's own.
    pub async fn others_see_only_their_own(&mut self, things: &Things, operation: &Operation) {
        let path = things.path(operation, things.of_bob());
        let reply = self.call(&things.bob(), operation, &path, b"").await;
        assert!(reply.status.is_success(), "{}: {}", operation.id, reply.text());
        things.assert_nothing_of_alices_in(&operation.id, &reply);
        // The same question of hers is answered with more, so there was something to hide.
        let hers = things.alice().call(operation.method.clone(), &path, HEADERS, Bytes::new()).await;
        assert_ne!(hers.text(), reply.text(), "{}", operation.id);
    }

    async fn call(&mut self, client: &Client, operation: &Operation, path: &str, body: &[u8]) -> Reply {
        let kind = operation.content_type.as_deref().map(|kind| ("content-type", kind));
        let headers = HEADERS.iter().copied().chain(kind).collect::<Vec<_>>();
        let body = if kind.is_some() { Bytes::copy_from_slice(body) } else { Bytes::new() };
        let reply = client.try_call(operation.method.clone(), path, &headers, body).await;
        let reply = reply.unwrap_or_else(|lost| panic!("{} {path}: {lost:?}", operation.id));
        *self.tried.entry(reply.status.as_u16()).or_default() += 1;
        reply
    }

    /// Prints what was tried.
    pub fn tell(&self) {
        let tried = self.tried.iter().map(|(status, count)| format!("{count} × {status}")).collect::<Vec<_>>();
        println!("access matrix: {}", tried.join(", "));
    }
}

impl Clone for Seen {
    fn clone(&self) -> Self {
        Self { status: self.status, headers: self.headers.clone(), body: self.body.clone() }
    }
}

fn seen(reply: &Reply, path: &str) -> Seen {
    Seen { status: reply.status.as_u16(), headers: told(&reply.headers), body: reply.text().replace(path, "PATH") }
}

/// The headers, but for the time of day.
fn told(headers: &HeaderMap) -> Vec<(String, String)> {
    let all = headers.iter().filter(|(name, _)| name.as_str() != "date");
    let mut all = all
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect::<Vec<_>>();
    all.sort();
    all
}

/// A problem without the id of its request.
pub fn without_ids(problem: &str) -> String {
    let mut parsed =
        serde_json::from_str::<serde_json::Value>(problem).unwrap_or_else(|error| panic!("{error}: {problem}"));
    parsed["request_id"] = "".into();
    parsed.to_string()
}
