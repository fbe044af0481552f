//! Turns end when they should: by their deadlines, by a cancel, and with an agent that doesn't listen.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    client::id,
    house::{House, model},
    recorder::Recorder,
    settings::Settings,
    wait::until,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_that_talks_for_too_long_fails_and_the_session_goes_on() {
    let settings = Settings::new().gemini(model(None).await).set("session", "turn_timeout", "\"3s\"");
    let house = House::start(settings).await;
    let alice = house.alice();
    // The time of a turn is no idle time.
    let session = alice.open(json!({"idle_timeout_s": 2})).await;
    let events = alice.prompt(&session, "[chunks:2000] [delay:20]").await.rest().await;
    let (begin, end) = (&events[0], events.last().expect("events"));
    assert_eq!((end.kind.as_str(), &end.content["code"]), ("turn.failed", &json!("AGENT_TIMEOUT")), "{end:?}");
    let taken = end.time.duration_since(begin.time).as_secs_f64();
    assert!((2.8..6.0).contains(&taken), "failed after {taken} s instead of 3");
    assert!(crate::stream::text(&events).starts_with("chunk-1 chunk-2 "), "what it said until then is there");
    assert_eq!(alice.ask(&session, "[words:shorter]").await, "shorter");
    let path = format!("/v1/sessions/{}/turns/{}/cancel", id(&session), begin.turn.as_deref().expect("a turn"));
    alice.post_text(&path, "").await.problem(409, "CONFLICT");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_does_not_hear_a_cancel_is_killed_after_the_grace() {
    let settings = Settings::new().shell().set("session", "cancel_grace", "\"1s\"");
    let house = House::start(settings).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell", "workspace": "kept"})).await;
    let path = format!("/v1/sessions/{}", id(&session));
    let deaf = "echo kept >/sandbox/workspace/file; trap '' INT TERM HUP; echo deaf; sleep 100; sleep 100";
    let mut turn = alice.prompt(&session, deaf).await;
    let begun = turn.up_to("message.delta").await;
    let cancel = format!("{path}/turns/{}/cancel", begun[0].turn.as_deref().expect("a turn"));
    let asked = Instant::now();
    let answer = alice.post_text(&cancel, "").await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text());
    // Asking again is no fault, and makes nothing quicker.
    alice.post_text(&cancel, "").await;
    let end = turn.rest().await.pop().expect("the turn's end");
    assert!(["turn.ended", "turn.failed"].contains(&end.kind.as_str()), "{end:?}");
    assert!(asked.elapsed() < Duration::from_secs(5), "the turn ended {:?} after the cancel", asked.elapsed());
    let ended = async || {
        let now = alice.get_json(&path).await;
        (now["state"] == "ended").then(|| now["end"]["reason"].clone())
    };
    assert_eq!(until("the session ends with its agent", Duration::from_secs(5), ended).await, "agent_exited");
    let again = alice.open(json!({"template": "shell", "workspace": "kept"})).await;
    assert_eq!(alice.ask(&again, "cat /sandbox/workspace/file").await.trim(), "kept");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_and_links_in_a_prompt_reach_the_agent_and_its_model() {
    let model = Recorder::start().await;
    let house = House::start(Settings::new().gemini(model.address)).await;
    let alice = house.alice();
    let session = alice.open(json!({})).await;
    // One white dot.
    let image = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8/5+hHgAHggJ/PchI7wAAAABJRU5ErkJggg==";
    let prompt = json!({"prompt": [
        {"type": "text", "text": "what-is-in-this-image"},
        {"type": "image", "data": image, "mimeType": "image/png"},
        {"type": "resource_link", "uri": "https://docs.example/linked-page", "name": "linked-page"},
        {"type": "resource", "resource": {"uri": "https://docs.example/notes.txt", "text": "embedded-words", "mimeType": "text/plain"}},
    ]});
    let path = format!("/v1/sessions/{}/turns", id(&session));
    let turn = alice.post(&path, &prompt).await.expect(StatusCode::ACCEPTED);
    let sent = until("the model is asked", Duration::from_secs(20), async || {
        let received = model.received();
        received.into_iter().find(|one| String::from_utf8_lossy(&one.body).contains("what-is-in-this-image"))
    });
    let sent = String::from_utf8_lossy(&sent.await.body).into_owned();
    for expected in [image, "image/png", "linked-page", "embedded-words"] {
        assert!(sent.contains(expected), "{expected} isn't in {}", &sent[sent.len().saturating_sub(3000)..]);
    }
    // The log has the prompt as it was, for replay.
    let begun = alice.events(&session, 0).await.up_to("turn.started").await.pop().expect("the turn's beginning");
    assert_eq!(begun.content["prompt"], prompt["prompt"]);
    let _answer = alice.post_text(&format!("{path}/{}/cancel", id(&turn)), "").await;
    house.stop().await;
}
