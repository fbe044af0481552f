//! Requests with an `Idempotency-Key` that come to nothing: what came of others needs an agent, and is tried with real ones.

use poem::{
    Response,
    http::{Method, StatusCode},
};
use serde_json::{Value, json};

use crate::house::{House, house, json_of};

async fn open(house: &House, keys: &[&[u8]], body: &Value) -> Response {
    let headers: Vec<_> = keys.iter().map(|key| ("idempotency-key", *key)).collect();
    house.ask_with(Method::POST, "/v1/sessions", &headers, body).await
}

#[tokio::test]
async fn a_key_is_one_and_of_visible_ascii() {
    let house = house();
    let longest = [b'x'; 255];
    let too_long = [b'x'; 256];
    let bad: [&[&[u8]]; 6] = [&[b""], &[b"two words"], &["ключ".as_bytes()], &[b"\x09"], &[&too_long], &[b"a", b"b"]];
    for keys in bad {
        let response = open(&house, keys, &json!({})).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{keys:?}");
        let detail = json_of(response).await["detail"].to_string();
        assert!(detail.contains("Idempotency-Key"), "{detail}");
    }
    for key in [&longest[..], b"!\"#~", b"0190f5a2-7c1e-7000-8000-000000000000"] {
        let detail = json_of(open(&house, &[key], &json!({})).await).await["detail"].to_string();
        assert!(detail.contains("template"), "{detail}");
    }
}

#[tokio::test]
async fn a_failure_is_not_kept_and_the_same_key_tries_again_at_once_also_with_another_body() {
    let house = house();
    for template in ["nowhere", "nowhere", "elsewhere", "nowhere"] {
        let body = json!({"template": template});
        let response = open(&house, &[b"key-1"], &body).await;
        assert_eq!(response.header("idempotent-replayed"), None);
        let problem = json_of(response).await;
        assert!(problem["detail"].to_string().contains(template), "{problem}");
    }
}

#[tokio::test]
async fn a_faulty_body_claims_nothing() {
    let house = house();
    for body in [json!({"colour": 1}), json!({"workspace": "../x"}), json!(7)] {
        assert_eq!(open(&house, &[b"key-1"], &body).await.status(), StatusCode::BAD_REQUEST, "{body}");
    }
    let problem = json_of(open(&house, &[b"key-1"], &json!({"template": "nowhere"})).await).await;
    assert!(problem["detail"].to_string().contains("nowhere"), "{problem}");
}
