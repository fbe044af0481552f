//! A key that is changed where it is kept is changed in the sessions that use it.

use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::json;

use super::{call, file, now, vault, with};
use crate::{
    client::{Client, Reply, id},
    house::House,
    recorder::Recorder,
    settings::Settings,
    vault::Vault,
    wait::until,
};

const SOON: Duration = Duration::from_secs(20);

async fn put(client: &Client, name: &str, key: &str) -> Reply {
    let body = Bytes::from(json!({ "api_key": key }).to_string());
    let headers = [("content-type", "application/json")];
    client.call(Method::PUT, &format!("/v1/credentials/{name}"), &headers, body).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_in_the_file_is_changed_and_taken_away_under_a_living_session() {
    let model = Recorder::start().await;
    let settings = file(Settings::new().shell().model(model.address)).variable("GEMINI_API_KEY", "key-of-the-server");
    let house = House::start(settings).await;
    let alice = house.alice();
    alice.post("/v1/sessions", &with("work")).await.problem(400, "INVALID_REQUEST");
    assert_eq!(put(&alice, "work", "key-1").await.status, StatusCode::NO_CONTENT);
    // Of the same name, and nobody else's business.
    assert_eq!(put(&house.bob(), "work", "key-of-bob").await.status, StatusCode::NO_CONTENT);
    let session = alice.open(with("work")).await;
    assert_eq!(session["credential"], json!({"name": "work"}), "{session}");
    assert_eq!(call(&alice, &session, &model).await.as_deref(), Some("key-1"));

    assert_eq!(put(&alice, "work", "key-2").await.status, StatusCode::NO_CONTENT);
    assert_eq!(call(&alice, &session, &model).await.as_deref(), Some("key-2"), "at once, over REST");

    let output = house.command_with(&["credentials", "set", "--user", "alice", "work"], "key-3\n").await;
    assert!(output.status.success(), "{output:?}");
    let third = async || (call(&alice, &session, &model).await.as_deref() == Some("key-3")).then_some(());
    until("what the command line put is used", SOON, third).await;
    let output = house.command_with(&["credentials", "list"], "").await;
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        listed.starts_with("alice  work  ") && listed.contains("\nbob  work  ") && !listed.contains("key-"),
        "{listed}"
    );

    assert_eq!(alice.delete("/v1/credentials/work").await.status, StatusCode::NO_CONTENT);
    assert_eq!(call(&alice, &session, &model).await, None, "not with the server's key either");
    assert_eq!(now(&alice, &session).await["needs_credential"], true);
    let path = format!("/v1/sessions/{}", id(&session));
    alice.patch(&path, &with("work")["credential"]).await.problem(400, "INVALID_REQUEST");
    alice.patch(&path, &json!({"credential": {"name": "work"}})).await.problem(400, "INVALID_REQUEST");
    let healed = alice.patch(&path, &json!({"credential": {"api_key": "key-4"}})).await.expect(StatusCode::OK);
    assert_eq!((&healed["credential"], &healed["needs_credential"]), (&json!(null), &json!(false)), "{healed}");
    assert_eq!(call(&alice, &session, &model).await.as_deref(), Some("key-4"));
    // From a key of one's own to one that is kept.
    assert_eq!(put(&alice, "home", "key-5").await.status, StatusCode::NO_CONTENT);
    let named = alice.patch(&path, &json!({"credential": {"name": "home"}})).await.expect(StatusCode::OK);
    assert_eq!(named["credential"]["name"], "home", "{named}");
    assert_eq!(call(&alice, &session, &model).await.as_deref(), Some("key-5"));
    let bobs = house.bob().open(with("work")).await;
    assert_eq!(call(&house.bob(), &bobs, &model).await.as_deref(), Some("key-of-bob"));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_in_a_vault_is_changed_and_deleted_under_a_living_session() {
    let (model, keys) = (Recorder::start().await, Vault::start().await);
    let house = House::start(vault(Settings::new().shell().model(model.address), &keys)).await;
    let alice = house.alice();
    keys.put("greenroom/alice/work", "key-1");
    let session = alice.open(with("work")).await;
    assert_eq!(call(&alice, &session, &model).await.as_deref(), Some("key-1"));
    keys.put("greenroom/alice/work", "key-2");
    let second = async || (call(&alice, &session, &model).await.as_deref() == Some("key-2")).then_some(());
    until("what the vault has now is used", SOON, second).await;
    keys.delete("greenroom/alice/work");
    let gone = async || (now(&alice, &session).await["needs_credential"] == true).then_some(());
    until("a deleted key is taken away", SOON, gone).await;
    assert_eq!(call(&alice, &session, &model).await, None);
    keys.put("greenroom/alice/work", "key-3");
    let third = async || (call(&alice, &session, &model).await.as_deref() == Some("key-3")).then_some(());
    until("it is there again", SOON, third).await;
    assert_eq!(now(&alice, &session).await["needs_credential"], false);
    // A vault is only read.
    put(&alice, "work", "key-4").await.problem(409, "CONFLICT");
    alice.get("/v1/credentials").await.problem(409, "CONFLICT");
    alice.delete("/v1/credentials/work").await.problem(409, "CONFLICT");
    house.stop().await;
}
