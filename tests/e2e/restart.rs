//! A server is killed or replaced, and sessions go on: nothing of what was said is lost, and nothing is said or done twice.
//!
//! What was acknowledged, by an answer or by an event that somebody read, is as true after a restart as before it.

mod hand_over;
mod keys;
mod permissions;
mod remains;
mod streams;
mod times;

use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    client::{Client, id},
    house::House,
    settings::{CONTAINER, Settings},
    wait::until,
};

/// Settings of a server whose agents wait long for the next one.
fn settings() -> Settings {
    Settings::new().set("sandbox", "orphan_grace", "\"60s\"")
}

/// Kills the server as a crash would, and starts it again at once. Waits until it serves, and not for its stock, which a busy machine takes
/// its time for.
async fn restart(house: &mut House) {
    house.crash().await;
    house.launch_unready();
    let visitor = house.visitor();
    let serves = async || {
        let health = visitor.try_call(Method::GET, "/healthz", &[], Bytes::new()).await;
        health.is_ok_and(|health| health.status == StatusCode::OK).then_some(())
    };
    until("the server serves again", Duration::from_secs(60), serves).await;
}

/// Starts a turn without reading it, and gives back its id.
async fn start(client: &Client, session: &Value, prompt: &str) -> String {
    let path = format!("/v1/sessions/{}/turns", id(session));
    let turn = client.post(&path, &json!({ "prompt": prompt })).await.expect(StatusCode::ACCEPTED);
    id(&turn).to_owned()
}

/// The id of the container of a session of a shell.
async fn container(client: &Client, session: &Value) -> String {
    client.ask(session, CONTAINER).await.trim().to_owned()
}

/// The session as it is now.
async fn now(client: &Client, session: &Value) -> Value {
    client.get_json(&format!("/v1/sessions/{}", id(session))).await
}
