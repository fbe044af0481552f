//! A user's own key is in memory only: after a restart the user sends it again, and nothing else can be used in its place.

use hyper::StatusCode;
use serde_json::json;

use super::{now, restart, settings};
use crate::{
    client::id,
    gateway::{CALL, PORT},
    house::House,
    processes::files,
    recorder::Recorder,
    secret::Canary,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_with_a_key_of_its_own_asks_for_it_after_a_restart_and_goes_on_once_it_has_it() {
    let model = Recorder::start().await;
    let (own, next, servers) = (Canary::new(), "another-key-of-the-user", "key-of-the-server");
    let settings = settings().shell().model(model.address).stock("shell", 2, 2).variable("GEMINI_API_KEY", servers);
    let mut house = House::start(settings).await;
    let alice = house.alice();
    let with_key = alice.open(json!({"template": "shell", "credential": {"api_key": own.key}})).await;
    let without = alice.open(json!({"template": "shell"})).await;
    assert_eq!((&with_key["needs_credential"], &without["needs_credential"]), (&json!(false), &json!(false)));
    let call = format!("{PORT}; {CALL}");
    let key_of_last = || {
        model.received().last().map(|one| {
            one.headers.get("x-goog-api-key").map_or("no key", |key| key.to_str().expect("ASCII")).to_owned()
        })
    };
    alice.ask(&with_key, &call).await;
    assert_eq!(key_of_last().as_deref(), Some(own.key.as_str()));

    restart(&mut house).await;
    for file in files(&house.state()) {
        own.assert_not_in(&file.to_string_lossy(), &std::fs::read(&file).unwrap_or_default());
    }
    assert_eq!(now(&alice, &with_key).await["needs_credential"], true);
    assert_eq!(now(&alice, &without).await["needs_credential"], false);
    let calls = model.received().len();
    let refused = alice.prompt(&with_key, &call).await.rest().await;
    assert_eq!(model.received().len(), calls, "a call went out with {:?}: {refused:?}", key_of_last());
    let end = refused.last().expect("a turn has an end");
    assert_eq!((end.kind.as_str(), &end.content["code"]), ("turn.failed", &json!("API_KEY_INVALID")), "{end:?}");
    alice.ask(&without, &call).await;
    assert_eq!(key_of_last().as_deref(), Some(servers), "the other goes on with the server's");

    let path = format!("/v1/sessions/{}", id(&with_key));
    house.bob().patch(&path, &json!({"credential": {"api_key": "of-bob"}})).await.problem(404, "NOT_FOUND");
    let healed = alice.patch(&path, &json!({"credential": {"api_key": next}})).await;
    let session = healed.expect(StatusCode::OK);
    assert_eq!(session["needs_credential"], false, "{session}");
    assert!(!healed.text().contains(next), "keys are never told");
    alice.ask(&with_key, &call).await;
    assert_eq!(key_of_last().as_deref(), Some(next));
    own.assert_not_in("the server's log", &house.log());
    house.stop().await;
}
