//! Asking a server that may be away: once, or until it has answered.

use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::Value;
use tokio::time::sleep;

use crate::client::{Client, Lost, Reply};

/// Before the next try.
pub const PAUSE: Duration = Duration::from_millis(80);

/// Posts once.
pub async fn post(client: &Client, path: &str, headers: &[(&str, &str)], body: &Value) -> Result<Reply, Lost> {
    let headers = [&[("content-type", "application/json")], headers].concat();
    client.try_call(Method::POST, path, &headers, Bytes::from(body.to_string())).await
}

/// Posts until there is an answer other than "later".
pub async fn persist(client: &Client, path: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
    loop {
        match post(client, path, headers, body).await {
            Ok(reply) if reply.status == StatusCode::SERVICE_UNAVAILABLE => {}
            // The same key, from before the crash or not: it is being worked on.
            Ok(reply) if !headers.is_empty() && reply.status == StatusCode::CONFLICT => {
                let code = reply.json()["code"].clone();
                assert!(["CONFLICT", "TURN_IN_PROGRESS"].map(Value::from).contains(&code), "{}", reply.text());
            }
            Ok(reply) => return reply,
            Err(Lost) => {}
        }
        sleep(PAUSE).await;
    }
}

/// Reads until there is an answer.
pub async fn get(client: &Client, path: &str) -> Value {
    loop {
        match client.try_call(Method::GET, path, &[], Bytes::new()).await {
            Ok(reply) if reply.status == StatusCode::SERVICE_UNAVAILABLE => {}
            Ok(reply) => return reply.expect(StatusCode::OK),
            Err(Lost) => {}
        }
        sleep(PAUSE).await;
    }
}
