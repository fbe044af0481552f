//! Turns end when they should: by their deadlines, by a cancel, and with an agent that doesn't listen.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    client::id,
    follower::Follower,
    house::{House, model},
    recorder::Recorder,
    settings::{BUSYBOX, Settings},
    wait::until,
};

/// An agent that speaks enough ACP to begin a turn, and never ends one.
const DEAF: &str = r#"while IFS= read -r line; do
id=$(echo "$line" | sed 's/.*"id":\("[^"]*"\|[0-9]*\).*/\1/')
case $line in
*'"initialize"'*) result='{"protocolVersion":1,"agentCapabilities":{},"authMethods":[]}' ;;
*'"session/new"'*) result='{"sessionId":"the-only-one"}' ;;
*'"session/prompt"'*)
    echo kept >/sandbox/workspace/file
    echo '{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"the-only-one","update":{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"deaf"}}}}'
    continue ;;
*'"session/cancel"'*) continue ;;
*) result='{}' ;;
esac
echo "{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":$result}"
done"#;

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
    let settings =
        Settings::new().template("deaf", BUSYBOX, &["sh", "-c", DEAF]).set("session", "cancel_grace", "\"1s\"");
    let house = House::start(settings.shell()).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "deaf", "workspace": "kept"})).await;
    let path = format!("/v1/sessions/{}", id(&session));
    let mut turn = alice.prompt(&session, "listen!").await;
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
    let session = alice.open(json!({"model": "gemini-2.5-pro"})).await;
    // One white dot.
    let image = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8/5+hHgAHggJ/PchI7wAAAABJRU5ErkJggg==";
    let (note, page) = ("https://docs.example/notes.txt", "https://docs.example/linked-page");
    // In two prompts: Gemini CLI 0.61 leaves images out where there are links as well.
    for (prompt, expected) in [
        (
            json!([{"type": "text", "text": "prompt-1"}, {"type": "image", "data": image, "mimeType": "image/png"}]),
            vec![image, "image/png"],
        ),
        (
            json!([
                {"type": "text", "text": "prompt-2"},
                {"type": "resource_link", "uri": page, "name": "linked-page"},
                {"type": "resource", "resource": {"uri": note, "text": "embedded-words", "mimeType": "text/plain"}},
            ]),
            vec![page, "embedded-words"],
        ),
    ] {
        let path = format!("/v1/sessions/{}/turns", id(&session));
        let turn = alice.post(&path, &json!({ "prompt": prompt })).await.expect(StatusCode::ACCEPTED);
        let words = prompt[0]["text"].as_str().expect("a text");
        let sent = until("the model is asked", Duration::from_secs(20), async || {
            let received = model.received();
            received.into_iter().find(|one| String::from_utf8_lossy(&one.body).contains(words))
        });
        let sent = String::from_utf8_lossy(&sent.await.body).into_owned();
        for expected in expected {
            assert!(sent.contains(expected), "{expected} isn't in {}", &sent[..sent.len().min(3000)]);
        }
        // The log has the prompt as it was, for replay.
        let mut follower = Follower::of(&alice, &session);
        let begun = follower.until(|event| event.kind == "turn.started" && event.turn.as_deref() == Some(id(&turn)));
        assert_eq!(begun.await.content["prompt"], prompt);
        let _answer = alice.post_text(&format!("{path}/{}/cancel", id(&turn)), "").await;
        follower.turn(id(&turn)).await;
    }
    house.stop().await;
}
