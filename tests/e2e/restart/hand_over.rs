//! A server that is told to stop leaves its sandboxes to the next one; told to drain, or by Ctrl-C, it ends them.

use std::{collections::BTreeSet, time::Duration};

use rustix::process::Signal;
use serde_json::json;

use super::{container, now, settings, start};
use crate::{
    client::id,
    follower::{Follower, assert_counts},
    house::{House, model},
    permissions::{WRITE, option},
    pools::{in_state, no_orphans},
    settings::Settings,
    wait::until,
};

/// What a client is told to wait before it comes again.
const RETRY: Option<u64> = Some(1000);

/// Waits until no sandbox comes or goes: the one that proved the engine may be there for a moment after a start.
async fn at_rest(house: &House) {
    until("nothing comes or goes", Duration::from_secs(20), async || {
        let moving = [in_state(house, "starting").await, in_state(house, "ending").await];
        moving.iter().all(Vec::is_empty).then_some(())
    })
    .await;
    no_orphans(house).await;
}

/// Tells the server to stop, and waits until it has; everything that is at rest must go on without it.
async fn handed_over(house: &mut House) {
    at_rest(house).await;
    let before = running(house).await;
    house.terminate();
    assert_eq!(house.ended().await.code(), Some(0));
    assert_eq!(running(house).await, before);
}

/// The containers that run.
async fn running(house: &House) -> BTreeSet<String> {
    house.engine().running(&house.instance).await.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_server_goes_on_with_sessions_and_stock() {
    let mut house = House::start(settings().hands_over().shell().stock("shell", 2, 2)).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell", "workspace": "kept"})).await;
    let own = container(&alice, &session).await;
    house.stocked().await;
    let stock = house.engine().running(&house.instance).await;

    let mut follower = Follower::of(&alice, &session);
    let mut turn = alice.prompt(&session, "for n in $(seq 1 200); do echo line-$n; sleep 0.02; done").await;
    let begun = turn.up_to("message.delta").await;
    let all = alice.events(&session, 0).await;
    let turn_id = begun[0].turn.clone().expect("a turn's event");
    follower.up_to("message.delta").await;
    let stopping = async {
        let (of_turn, of_all) = tokio::join!(turn.rest_and_retry(), all.rest_and_retry());
        for (events, retry) in [of_turn, of_all] {
            assert_eq!(retry, RETRY);
            let is_over = |kind: &str| ["turn.ended", "turn.failed", "session.ended"].contains(&kind);
            let mut of_turn = events.iter().filter(|event| event.turn.as_deref() == Some(&turn_id));
            assert!(of_turn.all(|event| !is_over(&event.kind)), "{:?}", events.last());
        }
    };
    tokio::join!(stopping, handed_over(&mut house));

    house.launch().await;
    assert_eq!(now(&alice, &session).await["state"], "running");
    let end = follower.turn(&turn_id).await;
    assert_eq!((end.kind.as_str(), &end.content["stop_reason"]), ("turn.ended", &json!("end_turn")), "{end:?}");
    assert_counts(&follower.read, "line", 200);
    follower.assert_is_log().await;
    assert_eq!(container(&alice, &session).await, own);

    // What was warm is warm: nothing had to be started again.
    for _ in 0..2 {
        let next = alice.open(json!({"template": "shell"})).await;
        assert_eq!(next["lease"]["start"], "warm", "{next}");
        let given = container(&alice, &next).await;
        assert!(given != own && stock.contains(&given), "{given} isn't of {stock:?}");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gemini_in_stock_is_taken_over_and_so_is_one_that_waits_for_an_answer() {
    let mut house = House::start(settings().hands_over().gemini(model(None).await)).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "gemini"})).await;
    let mut follower = Follower::of(&alice, &session);
    let turn = start(&alice, &session, WRITE).await;
    let asked = follower.up_to("permission.requested").await;
    house.stocked().await;
    at_rest(&house).await;
    let before = running(&house).await;

    for _ in 0..2 {
        handed_over(&mut house).await;
        house.launch().await;
    }
    at_rest(&house).await;
    assert_eq!(running(&house).await, before);
    let permission = asked.content["permission_id"].as_str().expect("an id");
    let answer = format!("/v1/sessions/{}/permissions/{permission}", id(&session));
    let given = alice.post(&answer, &json!({"option_id": option(&asked, "allow_once")})).await;
    assert!(given.status.is_success(), "{}", given.text());
    assert_eq!(follower.turn(&turn).await.kind, "turn.ended");
    follower.assert_is_log().await;

    let next = alice.open(json!({"template": "gemini", "workspace": "fresh"})).await;
    assert_eq!(next["lease"]["start"], "warm", "{next}");
    assert_eq!(alice.ask(&next, "[words:warm as ever]").await, "warm as ever");
    assert_eq!(alice.ask(&session, "[words:and so am I]").await, "and so am I");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_ends_everything_and_what_has_ended_can_still_be_read() {
    let mut house = House::start(settings().hands_over().shell()).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell", "workspace": "kept"})).await;
    alice.ask(&session, "echo kept >/sandbox/workspace/file").await;
    let mut follower = Follower::of(&alice, &session);
    let events = alice.events(&session, 0).await;
    house.signal(Signal::INT);
    let (said, _) = events.rest_and_retry().await;
    let last = said.last().expect("there are events");
    assert_eq!((last.kind.as_str(), &last.content["reason"]), ("session.ended", &json!("shutdown")), "{last:?}");
    assert_eq!(house.ended().await.code(), Some(0));
    assert_eq!(house.engine().containers(&house.instance).await, []);

    house.launch().await;
    assert_eq!(follower.end().await.content["reason"], "shutdown");
    assert_eq!(now(&alice, &session).await["end"]["reason"], "shutdown");
    let again = alice.open(json!({"template": "shell", "workspace": "kept"})).await;
    assert_eq!(alice.ask(&again, "cat /sandbox/workspace/file").await.trim(), "kept");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stock_of_a_template_that_changed_is_replaced_and_sessions_of_it_go_on() {
    let settings = || settings().hands_over().shell();
    let mut house = House::start(settings()).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell"})).await;
    let own = container(&alice, &session).await;
    house.stocked().await;
    let old = house.engine().running(&house.instance).await;
    handed_over(&mut house).await;

    house.rewrite(changed(settings()));
    house.launch().await;
    assert_eq!(container(&alice, &session).await, own);
    let next = alice.open(json!({"template": "shell"})).await;
    assert_eq!(alice.ask(&next, "echo $RECIPE").await.trim(), "new");
    assert!(!old.contains(&container(&alice, &next).await));
    house.stop().await;
}

fn changed(settings: Settings) -> Settings {
    settings.set("templates.shell", "env", r#"{RECIPE = "new"}"#)
}
