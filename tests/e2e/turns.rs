//! One turn at a time, and how turns end before their answer does.

use hyper::StatusCode;
use serde_json::json;

use crate::{
    client::id,
    house::{House, model},
    settings::Settings,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_turn_refuses_the_next_prompt_and_can_be_cancelled() {
    let house = House::start(Settings::new().gemini(model(None).await)).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "gemini"})).await;
    let path = format!("/v1/sessions/{}", id(&session));
    let mut events = alice.events(&session, 0).await;

    let turn = alice.post(&format!("{path}/turns"), &json!({"prompt": "[hang]"})).await.expect(StatusCode::ACCEPTED);
    events.up_to("turn.started").await;
    assert_eq!(alice.get_json(&path).await["state"], "running");
    alice.post(&format!("{path}/turns"), &json!({"prompt": "me too"})).await.problem(409, "TURN_IN_PROGRESS");

    let cancel = format!("{path}/turns/{}/cancel", id(&turn));
    house.bob().post(&cancel, &json!({})).await.problem(404, "NOT_FOUND");
    let cancelled = alice.post_text(&cancel, "").await;
    assert_eq!(cancelled.status, StatusCode::ACCEPTED, "{}", cancelled.text());
    let end = events.up_to("turn.ended").await.pop().expect("the end");
    assert_eq!(end.content["stop_reason"], "cancelled", "{end:?}");

    let told = alice.get_json(&format!("{path}/turns/{}", id(&turn))).await;
    assert_eq!(told["stop_reason"], "cancelled", "{told}");
    assert_eq!(alice.ask(&session, "[words:still here]").await, "still here");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_model_ends_the_turn_and_not_the_session() {
    let house = House::start(Settings::new().gemini(model(None).await)).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "gemini"})).await;

    let events = alice.prompt(&session, "[error:400]").await.rest().await;
    let end = events.last().expect("a turn has events");
    assert!(["turn.failed", "turn.ended"].contains(&end.kind.as_str()), "{end:?}");
    if end.kind == "turn.failed" {
        assert_eq!(end.content["code"], "AGENT_FAILED", "{end:?}");
    }
    assert_eq!(alice.ask(&session, "[words:fine again]").await, "fine again");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_without_output_fails_in_time() {
    let settings = Settings::new().gemini(model(None).await).set("session", "first_output_timeout", "\"1s\"");
    let house = House::start(settings).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "gemini"})).await;
    let end = alice.prompt(&session, "[hang]").await.rest().await.pop().expect("a turn has events");
    assert_eq!((end.kind.as_str(), &end.content["code"]), ("turn.failed", &json!("AGENT_TIMEOUT")), "{end:?}");
    assert_eq!(alice.ask(&session, "[words:quicker]").await, "quicker");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_lines_arrives_whole_and_in_order() {
    let house = House::start(Settings::new().shell()).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell"})).await;
    let events = alice.prompt(&session, "seq 1 20000 | sed s,^,line-,").await.rest().await;
    crate::stream::assert_gapless(&events, events[0].seq);
    let lines = events.iter().filter_map(|event| event.content["text"].as_str()).flat_map(str::lines);
    let lines = lines.filter(|line| !line.is_empty()).collect::<Vec<_>>();
    let wrong = (1..=20_000).zip(&lines).find(|(number, line)| format!("line-{number}") != **line);
    assert_eq!((wrong, lines.len()), (None, 20_000), "{:?}", events.last());
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_in_the_middle_of_a_turn_ends_turn_session_and_stream() {
    let house = House::start(Settings::new().gemini(model(None).await)).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "gemini"})).await;
    let path = format!("/v1/sessions/{}", id(&session));
    let mut turn = alice.prompt(&session, "[hang]").await;
    turn.up_to("turn.started").await;

    alice.close(&session).await;
    let rest = turn.rest().await;
    assert!(
        rest.last().is_some_and(|event| event.kind.starts_with("turn.") || event.kind == "session.ended"),
        "{rest:?}"
    );
    alice.delete(&path).await.problem(404, "NOT_FOUND");
    let ended = alice.get_json(&path).await;
    assert_eq!((&ended["state"], &ended["end"]["reason"]), (&json!("ended"), &json!("closed")), "{ended}");
    alice.post(&format!("{path}/turns"), &json!({"prompt": "anyone?"})).await.problem(409, "SESSION_ENDED");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_holds_what_it_was_asked_and_nothing_of_the_one_before() {
    let house = House::start(Settings::new().shell()).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell"})).await;
    // A prompt of several lines is one prompt, or is refused; it is not several.
    let path = format!("/v1/sessions/{}/turns", id(&session));
    let several = alice.post(&path, &json!({"prompt": "echo one\necho two\r\necho three"})).await;
    if several.status == StatusCode::ACCEPTED {
        alice.events(&session, 0).await.up_to("turn.ended").await;
    }
    assert_eq!(alice.ask(&session, "echo four").await.trim(), "four");
    assert_eq!(alice.ask(&session, "echo five").await.trim(), "five");

    // What comes between two turns belongs to neither.
    alice.ask(&session, "(sleep 0.3; echo late) & echo now").await;
    let mut events = alice.events(&session, 0).await;
    while !events.next().await.expect("the late line comes").content.to_string().contains("late") {}
    assert_eq!(alice.ask(&session, "echo six").await.trim(), "six");
    house.stop().await;
}
