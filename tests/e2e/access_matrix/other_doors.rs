//! The ways in that are no operation of the document: what needs no token, the operators' address, and tickets.

use bytes::Bytes;
use hyper::{Method, StatusCode};
use jiff::Timestamp;

use super::{
    matrix,
    things::{self, Things},
};
use crate::{client::Client, stream::Events};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_for_everybody_needs_no_token_and_tells_nobodys_things() {
    let things = Things::make().await;
    let visitor = things.house.visitor();
    let stranger = Client::new(things.house.address, Some("a-token-that-nobody-gave-out"));
    for path in ["/healthz", "/readyz", "/docs", "/openapi.json"] {
        for client in [&visitor, &stranger, &things.alice(), &things.admin()] {
            let reply = client.get(path).await;
            assert_eq!(reply.status, StatusCode::OK, "{path}: {}", reply.text());
            things.assert_nothing_of_alices_in(path, &reply);
        }
    }
    // A good token opens nothing that isn't there, and nothing is there for some paths of the operators.
    for path in ["/metrics", "/pools", "/sandboxes", "/reload", "/v1", "/v1/", "/v1/admin", "/v1/no-such-thing", "/"] {
        for client in [&visitor, &things.admin()] {
            let reply = client.get(path).await;
            assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path}: {}", reply.text());
        }
    }
    operators_listener(&things).await;
    things.house.stop().await;
}

/// It asks for no token and serves no web page; what it says names no user and no user's things.
async fn operators_listener(things: &Things) {
    let operator = things.house.operator();
    let named = Client::new(things.house.admin, Some(crate::settings::ALICE));
    for path in ["/pools", "/sandboxes", "/metrics", "/healthz", "/openapi.json"] {
        for client in [&operator, &named] {
            let reply = client.get(path).await;
            assert_eq!(reply.status, StatusCode::OK, "{path}: {}", reply.text());
            things.assert_nothing_of_alices_in(path, &reply);
        }
        for page in [("origin", "https://example.com"), ("sec-fetch-site", "cross-site")] {
            let reply = operator.call(Method::GET, path, &[page], Vec::new().into()).await;
            reply.problem(403, "FORBIDDEN");
        }
    }
    // What users do can't be done there, whatever the token.
    for path in ["/v1/sessions", "/v1/me", "/v1/keys"] {
        let reply = named.get(path).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path}: {}", reply.text());
    }
}

/// A ticket of this session's.
async fn ticket(client: &Client, session: &str) -> String {
    let reply = client.call(Method::POST, &format!("/v1/sessions/{session}/tickets"), &[], Bytes::new()).await;
    let made = reply.expect(StatusCode::CREATED);
    let expires =
        made["expires_at"].as_str().and_then(|time| time.parse::<Timestamp>().ok()).expect("it says until when");
    let left = expires.duration_since(Timestamp::now()).as_secs();
    assert!((0..=30).contains(&left), "{made}");
    assert_eq!(reply.header("cache-control"), "no-store", "{reply:?}");
    made["ticket"].as_str().expect("a ticket is text").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_is_good_once_for_one_sessions_events_and_nothing_else() {
    let things = Things::make().await;
    let (alice, bob, visitor) = (things.alice(), things.bob(), things.house.visitor());
    let events = format!("/v1/sessions/{}/events", things.session());
    let with = |path: &str, ticket: &str| format!("{path}?ticket={ticket}");
    let refused = async |what: &str, method: Method, path: &str| {
        let reply = visitor.call(method, path, matrix::HEADERS, Bytes::new()).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{what}: {}", reply.text());
        let path = path.split('?').next().expect("a path");
        reply.text().replace(path, "PATH")
    };
    let usual = refused("no ticket", Method::GET, &events).await;
    let of_alice = ticket(&alice, things.session()).await;
    let of_bob = ticket(&bob, &things.of_bob().session).await;
    let half = &of_alice[..of_alice.len() / 2];
    for (what, path) in [
        ("a ticket nobody gave out", with(&events, "a-ticket-that-nobody-gave-out")),
        ("an empty one", with(&events, "")),
        ("half of one", with(&events, half)),
        ("one of another session", with(&events, &of_bob)),
        (
            "one for a session that never was",
            with(&format!("/v1/sessions/{}/events", things::never_was().session), &of_bob),
        ),
        ("a token", with(&events, crate::settings::ALICE)),
    ] {
        assert_eq!(refused(what, Method::GET, &path).await, usual, "{what}");
    }
    // Everywhere else it is nothing.
    let session = format!("/v1/sessions/{}", things.session());
    for (method, path) in [
        (Method::GET, session.clone()),
        (Method::GET, "/v1/me".to_owned()),
        (Method::GET, "/v1/sessions".to_owned()),
        (Method::GET, format!("{session}/files/")),
        (Method::GET, format!("{session}/permissions")),
        (Method::DELETE, session.clone()),
        (Method::POST, format!("{session}/tickets")),
        (Method::POST, format!("{session}/turns")),
    ] {
        let fresh = ticket(&alice, things.session()).await;
        assert_eq!(refused("elsewhere", method.clone(), &with(&path, &fresh)).await, usual, "{method} {path}");
        let bearer = Client::new(things.house.address, Some(&fresh));
        let reply = bearer.call(method, &path, matrix::HEADERS, Bytes::new()).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "as a token: {}", reply.text());
    }
    // For what it is, it is good.
    let mut stream = Events::of(visitor.send(Method::GET, &with(&events, &of_alice), &[], Bytes::new()).await);
    stream.up_to("permission.requested").await;
    assert_eq!(refused("twice", Method::GET, &with(&events, &of_alice)).await, usual);
    // Many at once: one comes in.
    let fresh = with(&events, &ticket(&alice, things.session()).await);
    let tries = (0..16).map(|_| visitor.call(Method::GET, &fresh, matrix::HEADERS, Bytes::new()));
    let tries = futures_util::future::join_all(tries).await;
    assert_eq!(tries.iter().filter(|reply| reply.status == StatusCode::OK).count(), 1, "{tries:?}");
    // And somebody else's token makes it no better.
    let fresh = with(&events, &ticket(&alice, things.session()).await);
    let reply = bob.call(Method::GET, &fresh, matrix::HEADERS, Bytes::new()).await;
    assert!(reply.status.is_client_error(), "{reply:?}");
    assert!(!String::from_utf8_lossy(&things.house.log()).contains(&of_alice), "a ticket is in the log");
    drop(stream);
    things.house.stop().await;
}
