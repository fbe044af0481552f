//! The ways in that are no operation of the document: what needs no token, the operators' address, and tickets.

use hyper::{Method, StatusCode};

use super::things::Things;
use crate::client::Client;

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
