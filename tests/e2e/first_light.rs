//! The whole way of one prompt: a warm, real Gemini CLI in a real container, with a scripted model behind it.

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::{
    client::id,
    house::{House, model},
    settings::Settings,
    stream::{assert_gapless, text},
};

/// What the stub says when told `[chunks:30]`.
fn thirty_pieces() -> String {
    (1..=30).map(|number| format!("chunk-{number} ")).collect()
}

#[track_caller]
fn assert_warm(lease: &Value) {
    assert_eq!(lease["start"], "warm", "{lease}");
    for phase in ["wait_ms", "workspace_ms", "agent_ms", "total_ms"] {
        assert!(lease[phase].as_f64().is_some_and(|taken| (0.0..5_000.0).contains(&taken)), "{phase} in {lease}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_warm_gemini_answers_a_prompt_with_numbered_events_in_order() {
    let house = House::start(Settings::new().gemini(model(None).await)).await;
    let alice = house.alice();

    let session = alice.open(json!({"template": "gemini", "labels": {"purpose": "test"}})).await;
    assert_eq!((&session["state"], &session["template"]), (&json!("ready"), &json!("gemini")), "{session}");
    assert_eq!(session["labels"], json!({"purpose": "test"}));
    assert_eq!(session["end"], Value::Null);
    assert_warm(&session["lease"]);

    let path = format!("/v1/sessions/{}", id(&session));
    let asked = alice.post(&format!("{path}/turns"), &json!({"prompt": "[chunks:30]"})).await;
    let turn = asked.expect(StatusCode::ACCEPTED);
    let mut events = alice.events(&session, 0).await;
    let first = events.up_to("turn.ended").await;

    assert_gapless(&first, 1);
    assert_eq!(first[0].kind, "session.ready");
    assert_warm(&first[0].content);
    let begin = first.iter().find(|event| event.kind == "turn.started").expect("the turn begins");
    assert_eq!(begin.content["turn_id"], id(&turn));
    assert_eq!(text(&first), thirty_pieces());
    // The agent may also tell about itself, which belongs to no turn.
    let of_turn = first.iter().filter(|event| event.seq >= begin.seq && event.kind != "agent.update");
    assert!(of_turn.clone().all(|event| event.turn.as_deref() == Some(id(&turn))), "{first:#?}");
    assert!(of_turn.clone().any(|event| event.kind == "message.delta"), "{first:#?}");
    let used = first.iter().find(|event| event.kind == "usage.updated").expect("tokens are counted");
    assert!(used.content["model"].as_str().is_some_and(|name| name.contains("gemini")), "{used:?}");
    assert!(
        used.content["input_tokens"].as_u64() > Some(0) && used.content["output_tokens"].as_u64() > Some(0),
        "{used:?}"
    );
    let end = first.last().expect("there are events");
    assert_eq!(end.content["stop_reason"], "end_turn");
    assert!(end.content["usage"]["output_tokens"].as_u64() > Some(0), "{end:?}");

    let told = alice.get_json(&format!("{path}/turns/{}", id(&turn))).await;
    assert_eq!(
        (&told["stop_reason"], &told["first_seq"], &told["last_seq"]),
        (&json!("end_turn"), &json!(begin.seq), &json!(end.seq))
    );
    assert_eq!(told["usage"], end.content["usage"]);

    // The second turn of the same session goes on counting, and its stream ends by itself.
    let second = alice.prompt(&session, "[words:second answer]").await.rest().await;
    assert_gapless(&second, end.seq + 1);
    assert_eq!((second[0].kind.as_str(), text(&second).as_str()), ("turn.started", "second answer"));
    assert_eq!(second.last().map(|event| event.kind.as_str()), Some("turn.ended"));
    assert_eq!(events.up_to("turn.ended").await, second, "both readers see the same");

    let now = alice.get_json(&path).await;
    assert_eq!((&now["state"], &now["last_seq"]), (&json!("ready"), &json!(second.last().expect("events").seq)));
    assert!(now["usage"]["input_tokens"].as_u64() > Some(0), "{now}");

    alice.close(&session).await;
    let rest = events.rest().await;
    assert_eq!(rest.last().map(|event| event.kind.as_str()), Some("session.ended"), "{rest:?}");
    assert_eq!(rest.last().map(|event| &event.content["reason"]), Some(&json!("closed")), "{rest:?}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_without_any_wish_gets_a_gemini_and_the_next_one_too() {
    let house = House::start(Settings::new().gemini(model(None).await)).await;
    let alice = house.alice();
    // Only one is kept warm: the second has to wait or is started cold, and says why.
    let (first, second) = (alice.open(json!({})).await, alice.open(json!({})).await);
    assert_warm(&first["lease"]);
    assert_eq!(second["template"], "gemini");
    if second["lease"]["start"] == "cold" {
        assert_eq!(second["lease"]["reason"], "empty", "{second}");
    }
    assert_ne!(id(&first), id(&second));

    let listed = alice.get_json("/v1/sessions").await;
    let mut listed = listed["items"].as_array().expect("a page").iter().map(id).collect::<Vec<_>>();
    let mut opened = [id(&first), id(&second)];
    listed.sort_unstable();
    opened.sort_unstable();
    assert_eq!(listed, opened);
    assert_eq!(house.bob().get_json("/v1/sessions").await["items"], json!([]), "bob sees none of alice's");

    let (one, other) = tokio::join!(alice.ask(&first, "[words:one]"), alice.ask(&second, "[words:other]"));
    assert_eq!((one.as_str(), other.as_str()), ("one", "other"));
    let blocks = json!({"prompt": [{"type": "text", "text": "[words:of"}, {"type": "text", "text": "blocks]"}]});
    let path = format!("/v1/sessions/{}/turns", id(&first));
    let turn = alice.post(&path, &blocks).await.expect(StatusCode::ACCEPTED);
    let mut events = alice.events(&first, 0).await;
    while events
        .next()
        .await
        .is_some_and(|event| event.kind != "turn.ended" || event.turn.as_deref() != Some(id(&turn)))
    {}
    assert_eq!(alice.get_json(&format!("{path}/{}", id(&turn))).await["stop_reason"], "end_turn");
    let pools = alice.get_json("/v1/pools").await.to_string();
    assert!(pools.contains("gemini") && pools.contains("leased"), "{pools}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_template_that_keeps_nothing_warm_is_started_cold_and_says_so() {
    let mut settings = Settings::new().shell().set("templates.shell", "min_warm", "0");
    settings.await_stock = false;
    let house = House::start(settings).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell"})).await;
    assert_eq!(
        (&session["lease"]["start"], &session["lease"]["reason"]),
        (&json!("cold"), &json!("over_target")),
        "{session}"
    );
    assert_eq!(alice.ask(&session, "echo cold").await.trim(), "cold");
    house.stop().await;
}
