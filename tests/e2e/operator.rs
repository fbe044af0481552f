//! What an operator does beside a running server.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::{client::Client, house::House, settings::Settings, wait::until};

/// Runs a command that must work, and gives back what it printed.
async fn printed(house: &House, arguments: &[&str]) -> String {
    let output = house.command(arguments).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {:?} {said}", output.status);
    String::from_utf8(output.stdout).expect("the program prints UTF-8")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_made_beside_the_server_works_until_it_is_revoked() {
    let house = House::start(Settings::new().shell()).await;
    let said = printed(&house, &["keys", "create", "--user", "carol", "--name", "laptop"]).await;
    let token = said.split_whitespace().max_by_key(|word| word.len()).expect("a token is printed");

    let carol = Client::new(house.address, Some(token));
    let known = async || (carol.get("/v1/me").await.status == StatusCode::OK).then_some(());
    until("the new token works", Duration::from_secs(5), known).await;
    assert_eq!(carol.get_json("/v1/me").await["user"], "carol");
    let session = carol.open(json!({"template": "shell"})).await;
    assert_eq!(carol.ask(&session, "echo mine").await.trim(), "mine");

    let list = printed(&house, &["keys", "list"]).await;
    assert!(list.contains("carol") && list.contains("laptop") && !list.contains(token), "{list}");
    for file in crate::processes::files(&house.state()) {
        let content = std::fs::read(&file).unwrap_or_default();
        assert!(!crate::secret::contains(&content, token.as_bytes()), "the token is in {}", file.display());
    }
    let row = list.lines().find(|line| line.contains("carol")).expect("the key is listed");
    let key = row.split_whitespace().next().expect("a row begins with the id");
    printed(&house, &["keys", "revoke", key]).await;
    let refused = async || (carol.get("/v1/me").await.status == StatusCode::UNAUTHORIZED).then_some(());
    until("the revoked token is refused", Duration::from_secs(5), refused).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_beside_the_server_tell_the_truth() {
    let house = House::start(Settings::new().shell()).await;
    printed(&house, &["healthcheck"]).await;

    let checked = printed(&house, &["check"]).await;
    assert!(checked.to_lowercase().contains("seccomp"), "{checked}");
    let checked = printed(&house, &["check", "--json"]).await;
    serde_json::from_str::<Value>(&checked).unwrap_or_else(|error| panic!("{error}: {checked}"));
    // It makes a sandbox to find out, and takes it away again; the server's own are left alone.
    assert_eq!(house.engine().containers(&house.instance).await.len(), 1);
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell"})).await;
    assert_eq!(alice.ask(&session, "echo untouched").await.trim(), "untouched");

    let served = house.visitor().get("/openapi.json").await.expect(StatusCode::OK);
    for path in ["/v1/sessions", "/v1/sessions/{id}/turns", "/v1/sessions/{id}/events", "/v1/chat", "/v1/pools"] {
        assert!(served["paths"].get(path).is_some(), "{path} is not described");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_on_one_engine_leave_each_other_alone() {
    let (first, second) = tokio::join!(House::start(Settings::new().shell()), House::start(Settings::new().shell()));
    let session = first.alice().open(json!({"template": "shell"})).await;
    second.stop().await;
    assert_eq!(first.alice().ask(&session, "echo still here").await.trim(), "still here");
    first.stop().await;
}
