//! The simple door: one call, no session to care about.

use bytes::Bytes;
use hyper::Method;
use serde_json::json;

use crate::{
    house::{House, model},
    settings::Settings,
    stream::{Events, text},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_simple_door_opens_a_session_once_and_streams_each_turn() {
    let house = House::start(Settings::new().gemini(model(None).await)).await;
    let alice = house.alice();

    let body = Bytes::from(json!({"prompt": "[words:hello there]"}).to_string());
    let json_headers = [("content-type", "application/json")];
    let first = Events::of(alice.send(Method::POST, "/v1/chat", &json_headers, body).await).rest().await;
    assert_eq!(text(&first), "hello there");
    assert_eq!(first.last().map(|event| event.kind.as_str()), Some("turn.ended"));

    let body = Bytes::from("prompt=%5Bwords%3Aa+form%5D");
    let form_headers = [("content-type", "application/x-www-form-urlencoded")];
    let second = Events::of(alice.send(Method::POST, "/v1/chat", &form_headers, body).await).rest().await;
    assert_eq!(text(&second), "a form");

    let sessions = alice.get_json("/v1/sessions").await;
    assert_eq!(sessions["items"].as_array().map(Vec::len), Some(1), "one default session: {sessions}");

    // Closed or not, the door opens a new one when it needs it.
    alice.close(&sessions["items"][0]).await;
    let body = Bytes::from(json!({"prompt": "[words:again]"}).to_string());
    let third = Events::of(alice.send(Method::POST, "/v1/chat", &json_headers, body).await).rest().await;
    assert_eq!(text(&third), "again");

    alice.post("/v1/chat", &json!({"prompt": ""})).await.problem(400, "INVALID_REQUEST");
    alice.post("/v1/chat", &json!({"prompt": "hi", "shell": true})).await.problem(400, "INVALID_REQUEST");
    house.stop().await;
}
