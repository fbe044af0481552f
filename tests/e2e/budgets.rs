//! What a user may spend, as users and agents learn of it.

use std::time::{Duration, Instant};

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::{
    audit::written,
    client::{Client, id},
    gateway::{CALL, PORT},
    house::{House, model},
    settings::Settings,
    stream::{Event, text},
};

/// How long a turn may take whose call is refused: an agent that came again later would need longer.
const AT_ONCE: Duration = Duration::from_secs(8);

async fn window(client: &Client, name: &str) -> Value {
    let me = client.get_json("/v1/me").await;
    let windows = me["budgets"].as_array().unwrap_or_else(|| panic!("no budgets: {me}"));
    windows.iter().find(|window| window["window"] == name).unwrap_or_else(|| panic!("no {name}: {me}")).clone()
}

#[track_caller]
fn assert_failed(events: &[Event], code: &str) -> Value {
    let last = events.last().expect("a turn has an end");
    assert_eq!((last.kind.as_str(), &last.content["code"]), ("turn.failed", &json!(code)), "{events:#?}");
    last.content.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_of_gemini_cli_without_a_budget_ends_at_once_and_says_why() {
    // No request of it has so few bytes.
    let settings = Settings::new().gemini(model(None).await).set("budget", "input_tokens_per_hour", "1000");
    let house = House::start(settings).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "gemini"})).await;
    for _ in 0..2 {
        let begun = Instant::now();
        let events = alice.prompt(&session, "[words:never said]").await.rest().await;
        let failure = assert_failed(&events, "BUDGET_EXHAUSTED");
        assert!(begun.elapsed() < AT_ONCE, "the agent came again and again: {:?}", begun.elapsed());
        let detail = failure["detail"].as_str().expect("a sentence");
        assert!(detail.contains("the token budget of this hour is used up; it begins anew at 20"), "{detail}");
        assert_eq!(text(&events), "");
    }
    let now = alice.get_json(&format!("/v1/sessions/{}", id(&session))).await;
    assert_eq!(now["state"], "ready", "the session goes on: {now}");
    let hour = window(&alice, "hour").await;
    assert_eq!(hour["input_tokens"], json!({"limit": 1000, "used": 0, "reserved": 0, "left": 1000}), "{hour}");
    assert_eq!(hour["output_tokens"]["limit"], Value::Null, "{hour}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gemini_cli_works_within_a_budget_and_what_it_used_is_shown() {
    let budget = |settings: Settings, window: &str| {
        let settings = settings.set("budget", &format!("input_tokens_per_{window}"), "10000000");
        settings.set("budget", &format!("output_tokens_per_{window}"), "1000000")
    };
    let settings = ["hour", "day", "session"].into_iter().fold(Settings::new().gemini(model(None).await), budget);
    let house = House::start(settings).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "gemini"})).await;
    assert_eq!(alice.ask(&session, "[words:said and paid]").await, "said and paid");
    let now = alice.get_json(&format!("/v1/sessions/{}", id(&session))).await;
    let own = &now["budget"];
    assert_eq!((&own["window"], &own["resets_at"]), (&json!("session"), &Value::Null), "{now}");
    for (kind, limit) in [("input_tokens", 10_000_000), ("output_tokens", 1_000_000)] {
        let used = now["usage"][kind].as_u64().expect("a number");
        assert!(used > 0, "{now}");
        let expected = json!({"limit": limit, "used": used, "reserved": 0, "left": limit - used});
        assert_eq!(own[kind], expected, "{now}");
        for name in ["hour", "day"] {
            let window = window(&alice, name).await;
            assert_eq!(window[kind], expected, "{window}");
            assert!(window["resets_at"].is_string(), "{window}");
        }
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spent_budget_is_told_at_the_door_and_outlives_the_server() {
    let settings = Settings::new().shell().model(model(None).await).hands_over();
    let settings = settings.set("budget", "output_tokens_per_day", "3").set("sandbox", "orphan_grace", "\"60s\"");
    let mut house = House::start(settings).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell"})).await;
    // The stub writes as much as it likes, and that is what is charged.
    alice.ask(&session, &format!("{PORT}; {CALL}")).await;
    let spent = window(&alice, "day").await;
    assert!(spent["output_tokens"]["used"].as_u64() >= Some(3), "{spent}");
    assert_eq!(spent["output_tokens"]["left"], 0, "{spent}");

    let refused = async |house: &House, session: &Value| {
        let path = format!("/v1/sessions/{}/turns", id(session));
        let reply = house.alice().post(&path, &json!({"prompt": "echo never"})).await;
        let problem = reply.problem(429, "BUDGET_EXHAUSTED");
        assert!(problem["detail"].as_str().is_some_and(|text| text.contains("of this day")), "{problem}");
        let wait = reply.header("retry-after").parse::<u64>().expect("seconds");
        assert!((1..=24 * 3600).contains(&wait), "{wait} s");
    };
    refused(&house, &session).await;
    let bob = house.bob();
    let others = bob.open(json!({"template": "shell"})).await;
    assert_eq!(bob.ask(&others, "echo mine is whole").await.trim(), "mine is whole");

    house.terminate();
    house.ended().await;
    house.launch().await;
    assert_eq!(window(&house.alice(), "day").await, spent, "it is neither forgotten nor counted twice");
    refused(&house, &session).await;
    house.crash().await;
    house.launch().await;
    assert_eq!(window(&house.alice(), "day").await, spent);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_the_model_refuses_fails_the_turn_as_that_and_another_one_heals_it() {
    let house = House::start(Settings::new().gemini(model(Some("the-right-key")).await)).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "gemini", "credential": {"api_key": "a-wrong-key"}})).await;
    let events = alice.prompt(&session, "[words:never said]").await.rest().await;
    let failure = assert_failed(&events, "API_KEY_INVALID");
    assert_eq!(failure["status"], 401, "{failure}");
    let detail = failure["detail"].as_str().expect("a sentence");
    assert!(detail.contains("the model API refused the API key") && !detail.contains("a-wrong-key"), "{detail}");

    let path = format!("/v1/sessions/{}", id(&session));
    alice.patch(&path, &json!({"credential": {"api_key": "the-right-key"}})).await.expect(StatusCode::OK);
    assert_eq!(alice.ask(&session, "[words:healed]").await, "healed");
    alice.close(&session).await;
    // However often the agent tried.
    let lines = written(&house, "session.ended").await;
    assert_eq!(lines.iter().filter(|line| line["action"] == "key.refused").count(), 1, "{lines:#?}");
    house.stop().await;
}
