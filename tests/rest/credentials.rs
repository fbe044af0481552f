//! Users' keys for model APIs, as the door shows them: to their owner only, and never the key.

use greenroom::config::Config;
use poem::http::{Method, StatusCode};
use serde_json::json;

use crate::house::{house, house_with, json_of, keeping};

const PATH: &str = "/v1/credentials/work";

#[tokio::test]
async fn a_key_is_kept_listed_without_itself_and_removed() {
    let house = house_with(&[], keeping());
    assert_eq!(json_of(house.get("/v1/credentials").await).await, json!({"items": []}));
    for key in ["canary-1", "canary-2"] {
        let response = house.ask(Method::PUT, PATH, Some(json!({ "api_key": key }))).await;
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        assert!(response.into_body().into_string().await.expect("text").is_empty());
    }
    let listed = json_of(house.get("/v1/credentials").await).await;
    let [only] = listed["items"].as_array().expect("a list").as_slice() else { panic!("{listed}") };
    assert_eq!((&only["name"], only.as_object().map(serde_json::Map::len)), (&json!("work"), Some(3)), "{listed}");
    assert!(only["created_at"].as_str() < only["updated_at"].as_str(), "{listed}");
    assert_eq!(house.ask(Method::DELETE, PATH, None).await.status(), StatusCode::NO_CONTENT);
    for name in ["work", "never", "..", "A", "a%2Fb"] {
        let response = house.ask(Method::DELETE, &format!("/v1/credentials/{name}"), None).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{name}");
    }
}

#[tokio::test]
async fn what_can_be_no_key_is_refused_without_being_repeated() {
    let house = house_with(&[], keeping());
    for body in [
        json!({}),
        json!("canary"),
        json!({"api_key": ""}),
        json!({"api_key": "canary key"}),
        json!({"api_key": ["canary"]}),
        json!({"api_key": "canary".repeat(100)}),
        json!({"api_key": "canary", "name": "work"}),
    ] {
        let response = house.ask(Method::PUT, PATH, Some(body.clone())).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{body}");
        let answer = json_of(response).await.to_string();
        assert!(!answer.contains("canary"), "{answer}");
    }
    for name in ["A", "-a", "a%20b", &"a".repeat(65)] {
        let path = format!("/v1/credentials/{name}");
        let response = house.ask(Method::PUT, &path, Some(json!({"api_key": "canary"}))).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{name}");
    }
}

#[tokio::test]
async fn where_no_keys_are_kept_that_is_what_one_is_told() {
    let house = house();
    for (method, path, body) in [
        (Method::GET, "/v1/credentials", None),
        (Method::PUT, PATH, Some(json!({"api_key": "canary"}))),
        (Method::DELETE, PATH, None),
    ] {
        let response = house.ask(method, path, body).await;
        assert_eq!(response.status(), StatusCode::CONFLICT);
        let problem = json_of(response).await;
        assert_eq!(problem["code"], "CONFLICT");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("keeps no keys")), "{problem}");
    }
}

#[tokio::test]
async fn an_open_names_a_key_of_the_callers_or_brings_one_and_not_both() {
    for (kept, credential, detail) in [
        (true, json!({"name": "work"}), "credential.name: you have no key work"),
        (false, json!({"name": "work"}), "credential.name: this server keeps no keys"),
        (true, json!({}), "credential must have either api_key or name"),
        (true, json!({"name": "work", "api_key": "canary"}), "credential must have either api_key or name"),
        (true, json!({"name": "../work"}), "field `name`"),
        (true, json!("canary"), "the body can't be used"),
    ] {
        let house = house_with(&["shell"], if kept { keeping() } else { Config::default() });
        let response = house.ask(Method::POST, "/v1/sessions", Some(json!({ "credential": credential }))).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{credential}");
        let problem = json_of(response).await;
        assert!(problem["detail"].as_str().is_some_and(|told| told.contains(detail)), "{problem}");
        assert!(!problem.to_string().contains("canary"), "{problem}");
    }
}
