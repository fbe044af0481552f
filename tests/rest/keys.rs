//! API keys over REST: who may make them, what they allow, and when they stop working.

use poem::{
    Response,
    http::{Method, StatusCode},
};
use serde_json::{Value, json};

use crate::house::{GUEST_TOKEN, House, ROOT_TOKEN, house, json_of};

async fn as_root(house: &House, method: Method, path: &str, body: Option<Value>) -> Response {
    house.ask_as(ROOT_TOKEN, method, path, body).await
}

/// Makes a key; gives back its token and its id.
async fn created(house: &House, body: Value) -> (String, String) {
    let response = as_root(house, Method::POST, "/v1/keys", Some(body)).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(response.header("cache-control"), Some("no-store"));
    let key = json_of(response).await;
    let text = |name: &str| key[name].as_str().expect("a text").to_owned();
    (text("token"), text("id"))
}

async fn listed(house: &House, query: &str) -> Vec<Value> {
    let page = json_of(as_root(house, Method::GET, &format!("/v1/keys{query}"), None).await).await;
    page["items"].as_array().expect("a list").clone()
}

#[tokio::test]
async fn a_key_works_from_the_answer_on_and_allows_what_was_asked_for() {
    let house = house();
    for (scopes, allowed) in [
        (json!(null), [true, true, false]),
        (json!([]), [true, true, false]),
        (json!(["read"]), [true, false, false]),
        (json!(["read", "sessions"]), [true, true, false]),
        (json!(["admin"]), [true, true, true]),
    ] {
        let mut wish = json!({"user": "carol"});
        if !scopes.is_null() {
            wish["scopes"] = scopes.clone();
        }
        let (token, _) = created(&house, wish).await;
        let calls = [(Method::GET, "/v1/me"), (Method::DELETE, "/v1/workspaces/none"), (Method::GET, "/v1/keys")];
        for ((method, path), allowed) in calls.into_iter().zip(allowed) {
            let response = house.ask_as(&token, method, path, None).await;
            assert_eq!(response.status() != StatusCode::FORBIDDEN, allowed, "{scopes} {path}");
        }
    }
}

#[tokio::test]
async fn a_key_is_listed_without_its_token_until_it_is_revoked() {
    let house = house();
    let wish =
        json!({"user": "carol", "name": "laptop", "scopes": ["read", "admin"], "tier": "gold", "expires_in_s": 3600});
    let (token, id) = created(&house, wish).await;
    let (_, other) = created(&house, json!({"user": "dave"})).await;
    let keys = listed(&house, "").await;
    let [key, _] = &keys[..] else { panic!("{keys:?}") };
    assert_eq!(
        (&key["id"], &key["user"], &key["name"], &key["scopes"], &key["tier"], &key["expired"]),
        (&json!(id), &json!("carol"), &json!("laptop"), &json!(["read", "admin"]), &json!("gold"), &json!(false))
    );
    assert!(key["expires_at"].is_string() && !json!(keys).to_string().contains(&token));
    assert_eq!(listed(&house, "?user=dave").await[0]["id"], json!(other));
    let first = json_of(as_root(&house, Method::GET, "/v1/keys?limit=1", None).await).await;
    assert_eq!(first["next_cursor"], json!(id));
    assert_eq!(listed(&house, &format!("?cursor={id}")).await[0]["id"], json!(other));

    assert_eq!(house.ask_as(&token, Method::GET, "/v1/me", None).await.status(), StatusCode::OK);
    let path = format!("/v1/keys/{id}");
    assert_eq!(as_root(&house, Method::DELETE, &path, None).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(house.ask_as(&token, Method::GET, "/v1/me", None).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(as_root(&house, Method::DELETE, &path, None).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(listed(&house, "").await.len(), 1);
}

#[tokio::test]
async fn only_administrators_have_anything_to_do_with_keys() {
    let house = house();
    let (_, id) = created(&house, json!({"user": "carol"})).await;
    let calls = [
        (Method::POST, "/v1/keys".to_owned(), Some(json!({"user": "mallory", "scopes": ["admin"]}))),
        (Method::GET, "/v1/keys".to_owned(), None),
        (Method::DELETE, format!("/v1/keys/{id}"), None),
    ];
    for (method, path, body) in calls {
        for refused in
            [house.ask(method.clone(), &path, body.clone()).await, house.ask_as(GUEST_TOKEN, method, &path, body).await]
        {
            assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{path}");
            assert_eq!(json_of(refused).await["code"], "FORBIDDEN");
        }
    }
    assert_eq!(listed(&house, "").await.len(), 1);
}

#[tokio::test]
async fn a_wish_that_can_not_be_met_is_refused() {
    let house = house();
    for bad in [
        json!({}),
        json!({"user": ""}),
        json!({"user": "a b"}),
        json!({"user": "x".repeat(129)}),
        json!({"user": "a", "name": "two\nlines"}),
        json!({"user": "a", "name": ""}),
        json!({"user": "a", "scopes": ["root"]}),
        json!({"user": "a", "scopes": ["read", "read", "read", "read"]}),
        json!({"user": "a", "tier": "silver"}),
        json!({"user": "a", "expires_in_s": 0}),
        json!({"user": "a", "token": "of-my-own-choice"}),
    ] {
        let response = as_root(&house, Method::POST, "/v1/keys", Some(bad.clone())).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{bad}");
    }
    for query in ["?user=a%20b", "?limit=0", "?limit=101", "?cursor=key_gone"] {
        let response = as_root(&house, Method::GET, &format!("/v1/keys{query}"), None).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{query}");
    }
    assert!(listed(&house, "").await.is_empty());
}
