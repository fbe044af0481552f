//! Who may do what: every operation of the document that the server gives out, tried by everybody who may not.
//!
//! Nothing is listed here by hand but what an operation is about ([`table`]): an operation that is in the document and not in the table fails the
//! test, and so does one that asks for no token. Bodies are compared byte for byte: what differs tells somebody something.

mod document;
mod matrix;
mod other_doors;
mod strangers;
mod table;
mod things;

use std::collections::BTreeSet;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use self::{
    document::{Operation, operations},
    matrix::Matrix,
    strangers::Strangers,
    table::{Other, TABLE, row},
    things::Things,
};
use crate::client::id;

/// All that the document offers is in the table, and the other way round; and all of it asks for a token.
fn assert_complete(operations: &[Operation]) {
    let offered = operations.iter().map(|operation| operation.id.as_str()).collect::<BTreeSet<_>>();
    let known = TABLE.iter().map(|row| row.operation).collect::<BTreeSet<_>>();
    let unknown = offered.difference(&known).collect::<Vec<_>>();
    assert!(
        unknown.is_empty(),
        "operations that the access matrix doesn't know: say in its table what they are about: {unknown:?}"
    );
    let gone = known.difference(&offered).collect::<Vec<_>>();
    assert!(gone.is_empty(), "operations of the table that are in no document: {gone:?}");
    assert_eq!(known.len(), TABLE.len(), "an operation is in the table twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_refuses_everybody_who_may_not() {
    let things = Things::make().await;
    let house = &things.house;
    let document = house.visitor().get_json("/openapi.json").await;
    let operations = operations(&document);
    assert_complete(&operations);
    let before = things.seen_by_alice().await;

    let strangers = Strangers::of(&things);
    let mut matrix = Matrix::default();
    for operation in &operations {
        let row = row(&operation.id);
        matrix.nobody_without_a_good_token(&things, &strangers, operation, row).await;
        matrix.nobody_with_too_small_a_scope(&things, operation, row).await;
        match row.other {
            Other::NotFound => matrix.others_find_nothing(&things, operation, row).await,
            Other::OwnOnly => matrix.others_see_only_their_own(&things, operation).await,
            Other::NobodysThings | Other::ForAdministrators => {}
        }
    }
    matrix.tell();
    assert_eq!(things.seen_by_alice().await, before, "something of hers was changed by somebody who may not");

    names_of_others_lead_nowhere(&things).await;
    administrators_see_everything(&things, &operations).await;
    things.house.stop().await;
}

/// What isn't in a path: a credential's name, an idempotency key, another user's name in a query.
async fn names_of_others_lead_nowhere(things: &Things) {
    let (alice, bob) = (things.alice(), things.bob());
    let open = async |name: &str| {
        let reply = bob.post("/v1/sessions", &json!({"template": "asking", "credential": {"name": name}})).await;
        (reply.status, reply.text().replace(name, "NAME"))
    };
    let (status, hers) = open(things::CREDENTIAL).await;
    assert!(status.is_client_error(), "{status}: {hers}");
    let strip = |text: &str| matrix::without_ids(text);
    assert_eq!(strip(&hers), strip(&open("never-was").await.1), "her credential's name is known to others");

    // Bob keeps one under the same name: it is his, and hers is still hers.
    let kept = format!("/v1/credentials/{}", things::CREDENTIAL);
    let hers = alice.get("/v1/credentials").await.text();
    let headers = [("content-type", "application/json")];
    let put = bob.call(Method::PUT, &kept, &headers, json!({"api_key": "key-of-bob"}).to_string().into()).await;
    assert_eq!(put.status, StatusCode::NO_CONTENT, "{}", put.text());
    assert_eq!(bob.delete(&kept).await.status, StatusCode::NO_CONTENT);
    assert_eq!(alice.get("/v1/credentials").await.text(), hers);

    for path in ["/v1/sessions", "/v1/workspaces"] {
        let mut told = Vec::new();
        for user in ["alice", "*", "nobody-of-that-name"] {
            let reply = bob.get(&format!("{path}?user={user}")).await;
            told.push(matrix::without_ids(&reply.problem(403, "FORBIDDEN").to_string()));
        }
        assert!(told.windows(2).all(|pair| pair[0] == pair[1]), "{path}: who there is is known to others: {told:#?}");
    }
    bob.delete(&format!("/v1/workspaces/{}?user=alice", things::FREE_WORKSPACE)).await.problem(403, "FORBIDDEN");
    let hers = alice.get_json("/v1/workspaces").await;
    assert!(hers.to_string().contains(things::FREE_WORKSPACE), "{hers}");

    // Alice opened with this key and this body.
    let headers = [("idempotency-key", things::IDEMPOTENCY_KEY)];
    let reply = bob.post_with("/v1/sessions", &headers, &things::wish_of_alice()).await;
    assert!(reply.header("idempotent-replayed").is_empty(), "{reply:?}");
    let own = reply.expect(StatusCode::CREATED);
    assert_ne!(id(&own), things.session());
    bob.close(&own).await;
    let again = alice.post_with("/v1/sessions", &headers, &things::wish_of_alice()).await;
    assert_eq!(again.header("idempotent-replayed"), "true", "{again:?}");
}

/// Their scope reaches what is of everybody: each look succeeds, and so does closing.
async fn administrators_see_everything(things: &Things, operations: &[Operation]) {
    let admin = things.admin();
    for operation in operations.iter().filter(|operation| operation.method == Method::GET) {
        let path = things.path(operation, things.of_alice());
        let reply = admin.call(Method::GET, &path, matrix::HEADERS, Vec::new().into()).await;
        let has_none_of_alices = row(&operation.id).own_names;
        assert!(reply.status.is_success() || has_none_of_alices, "{} {path}: {}", operation.id, reply.text());
    }
    let all = admin.get_json("/v1/sessions?user=*").await;
    let seen =
        |session: &str| all["items"].as_array().is_some_and(|items| items.iter().any(|item| id(item) == session));
    assert!(seen(things.session()) && seen(&things.of_bob().session), "{all}");
    let of_alice = admin.get_json("/v1/sessions?user=alice").await;
    let ids = of_alice["items"].as_array().expect("a list").iter().map(id).collect::<Vec<_>>();
    assert!(ids.contains(&things.session()) && !ids.contains(&things.of_bob().session.as_str()), "{of_alice}");

    let closed = admin.delete(&format!("/v1/sessions/{}", things.session())).await;
    assert_eq!(closed.status, StatusCode::NO_CONTENT, "{}", closed.text());
    let seen: Value = things.alice().get_json(&format!("/v1/sessions/{}", things.session())).await;
    assert_eq!(seen["state"], "ended", "{seen}");
}
