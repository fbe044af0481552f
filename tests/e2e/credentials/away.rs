//! Keys that can't be looked up: while a vault is away, over a restart, under another master key.

use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::json;

use super::{call, file, now, vault, with};
use crate::{
    client::id,
    gateway::{CALL, PORT},
    house::House,
    processes,
    recorder::Recorder,
    secret::Canary,
    settings::Settings,
    vault::Vault,
    wait::until,
};

const SOON: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_vault_is_away_sessions_go_on_for_a_while_and_new_ones_wait_for_it() {
    let (model, keys) = (Recorder::start().await, Vault::start().await);
    let settings = vault(Settings::new().shell().model(model.address), &keys).set("credentials", "outage", "\"4s\"");
    let house = House::start(settings.stock("shell", 2, 2)).await;
    let alice = house.alice();
    keys.put("greenroom/alice/work", "key-1");
    let session = alice.open(with("work")).await;
    keys.away(Some(StatusCode::SERVICE_UNAVAILABLE));
    let refused = alice.post("/v1/sessions", &with("work")).await.problem(503, "CREDENTIAL_UNAVAILABLE");
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.starts_with("credential.name: ")), "{refused}");
    assert_eq!(call(&alice, &session, &model).await.as_deref(), Some("key-1"), "what it has it keeps");
    let without = async || call(&alice, &session, &model).await.is_none().then_some(());
    until("it goes on without a key", SOON, without).await;
    assert_eq!(now(&alice, &session).await["needs_credential"], false, "nobody has to send anything");
    keys.put("greenroom/alice/work", "key-2");
    keys.away(None);
    let again = async || (call(&alice, &session, &model).await.as_deref() == Some("key-2")).then_some(());
    until("it has a key again", SOON, again).await;
    let another = alice.open(with("work")).await;
    assert_eq!(call(&alice, &another, &model).await.as_deref(), Some("key-2"));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_with_a_key_that_is_kept_has_it_again_after_a_restart() {
    let (model, keys, own) = (Recorder::start().await, Vault::start().await, Canary::new());
    let settings = vault(Settings::new().shell().model(model.address), &keys);
    let mut house = House::start(settings.set("sandbox", "orphan_grace", "\"60s\"")).await;
    let alice = house.alice();
    keys.put("greenroom/alice/work", &own.key);
    let session = alice.open(with("work")).await;
    house.crash().await;
    for path in processes::files(&house.state()) {
        own.assert_not_in(&path.to_string_lossy(), &std::fs::read(&path).unwrap_or_default());
    }
    house.launch_unready();
    let serves = async || {
        let health = house.visitor().try_call(Method::GET, "/healthz", &[], bytes::Bytes::new()).await;
        health.is_ok_and(|health| health.status == StatusCode::OK).then_some(())
    };
    until("the server serves again", Duration::from_secs(60), serves).await;
    assert_eq!(now(&alice, &session).await["needs_credential"], false);
    assert_eq!(call(&alice, &session, &model).await.as_deref(), Some(own.key.as_str()), "from the first call on");

    // And once more, to a server that can't look it up at first.
    keys.away(Some(StatusCode::BAD_GATEWAY));
    house.crash().await;
    house.launch_unready();
    let serves = async || {
        let health = house.visitor().try_call(Method::GET, "/healthz", &[], bytes::Bytes::new()).await;
        health.is_ok_and(|health| health.status == StatusCode::OK).then_some(())
    };
    until("the server serves again", Duration::from_secs(60), serves).await;
    assert_eq!(call(&alice, &session, &model).await, None, "there is none yet, and no other in its place");
    assert_eq!(now(&alice, &session).await["needs_credential"], false, "nobody has to send it");
    keys.away(None);
    let again = async || call(&alice, &session, &model).await.filter(|key| *key == own.key);
    until("the key is there", SOON, again).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_another_master_key_does_not_start_and_says_which_it_needs() {
    let settings = Settings::new().set("runtime", "kind", "\"process\"").shell();
    let mut house = House::start(file(settings.clone())).await;
    let output = house.command_with(&["credentials", "set", "--user", "alice", "work"], "key-1").await;
    assert!(output.status.success(), "{output:?}");
    house.terminate();
    assert_eq!(house.ended().await.code(), Some(0));
    house.rewrite(file(settings));
    house.launch_unready();
    assert_eq!(house.ended().await.code(), Some(78));
    let log = String::from_utf8_lossy(&house.log()).into_owned();
    let last = log.lines().last().unwrap_or_default();
    assert!(last.contains("credentials.json has keys that were sealed with the master key"), "{last}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn within_a_second_of_a_close_the_slots_socket_lets_nothing_out() {
    let model = Recorder::start().await;
    let house = House::start(Settings::new().shell().model(model.address)).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell", "credential": {"api_key": "key-of-this-session"}})).await;
    // Of all slots, the one whose socket lets a call through is the session's.
    let sockets = processes::sockets(&house.state().join("slots"), "gateway.sock");
    let mut own = None;
    for socket in sockets {
        if answered(&socket).await == Some(200) {
            own = Some(socket);
        }
    }
    let own = own.expect("the session's socket lets its calls through");
    alice.ask(&session, &format!("{PORT}; {CALL}")).await;
    let calls = model.received().len();
    alice.close(&session).await;
    let closed = tokio::time::Instant::now();
    let refused = async || answered(&own).await.is_none_or(|status| status == 403).then_some(());
    until("the socket refuses", Duration::from_secs(1), refused).await;
    assert!(closed.elapsed() < Duration::from_secs(1));
    assert_eq!(model.received().len(), calls, "nothing went out after the close");
    assert_eq!(id(&now(&alice, &session).await), id(&session));
    house.stop().await;
}

/// Makes the model's call on a slot's socket, as its agent would; none: nobody is there.
async fn answered(socket: &std::path::Path) -> Option<u16> {
    use http_body_util::Full;
    let stream = tokio::net::UnixStream::connect(socket).await.ok()?;
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.ok()?;
    tokio::spawn(connection);
    let request = hyper::Request::post("/v1beta/models/m:generateContent")
        .header("host", "127.0.0.1")
        .header("content-type", "application/json")
        .body(Full::new(bytes::Bytes::from_static(b"{}")))
        .expect("a request");
    let answer = tokio::time::timeout(Duration::from_millis(500), sender.send_request(request)).await.ok()?.ok()?;
    Some(answer.status().as_u16())
}
