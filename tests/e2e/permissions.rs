//! Tools ask first: what the user allows is done, what they deny isn't.

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::{
    client::{Client, id},
    house::{House, model},
    settings::Settings,
    stream::{Event, Events},
};

pub const WRITE: &str = "[tool:write_file path=notes.txt text=hello] [words:as told]";

/// Prompts for a file and reads up to the question.
pub async fn ask_to_write(client: &Client, session: &Value) -> (Events, Event) {
    let mut turn = client.prompt(session, WRITE).await;
    let asked = turn.up_to("permission.requested").await.pop().expect("the question");
    (turn, asked)
}

/// The id of the option of this kind.
#[track_caller]
pub fn option(asked: &Event, kind: &str) -> String {
    let options = asked.content["options"].as_array().unwrap_or_else(|| panic!("no options: {asked:?}"));
    let found = options.iter().find(|option| option["kind"] == kind).unwrap_or_else(|| panic!("no {kind}: {asked:?}"));
    found["option_id"].as_str().expect("an option has an id").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_that_is_allowed_writes_its_file_and_one_that_is_denied_does_not() {
    let settings = Settings::new().gemini(model(None).await).shell().set("templates.shell", "min_warm", "1");
    let house = House::start(settings).await;
    let alice = house.alice();

    let session = alice.open(json!({"template": "gemini", "workspace": "allowed"})).await;
    let path = format!("/v1/sessions/{}", id(&session));
    let (turn, asked) = ask_to_write(&alice, &session).await;
    assert_eq!(alice.get_json(&path).await["state"], "waiting");
    let open = alice.get_json(&format!("{path}/permissions")).await;
    let permission = asked.content["permission_id"].as_str().expect("a permission has an id").to_owned();
    assert!(permission.starts_with("perm_") && open.to_string().contains(&permission), "{open}");

    let answer = format!("{path}/permissions/{permission}");
    house.bob().post(&answer, &json!({"option_id": option(&asked, "allow_once")})).await.problem(404, "NOT_FOUND");
    alice.post(&answer, &json!({"option_id": "no-such-option"})).await.problem(400, "INVALID_REQUEST");
    alice.post(&answer, &json!({})).await.problem(400, "INVALID_REQUEST");
    let given = alice.post(&answer, &json!({"option_id": option(&asked, "allow_once")})).await;
    assert!(given.status.is_success(), "{}", given.text());
    alice.post(&answer, &json!({"cancelled": true})).await.problem(409, "PERMISSION_ANSWERED");
    let rest = turn.rest().await;
    let resolved = rest.iter().find(|event| event.kind == "permission.resolved").expect("the answer is an event");
    assert_eq!((&resolved.content["permission_id"], &resolved.content["by"]), (&json!(permission), &json!("user")));
    assert!(rest.iter().any(|event| event.kind == "tool.updated"), "{rest:#?}");
    assert_eq!(rest.last().map(|event| &event.content["stop_reason"]), Some(&json!("end_turn")));
    assert_eq!(alice.get_json(&path).await["state"], "ready");
    alice.close(&session).await;

    let session = alice.open(json!({"template": "gemini", "workspace": "denied"})).await;
    let path = format!("/v1/sessions/{}", id(&session));
    let (turn, asked) = ask_to_write(&alice, &session).await;
    let permission = asked.content["permission_id"].as_str().expect("a permission has an id");
    let denial = json!({"option_id": option(&asked, "reject_once")});
    let given = alice.post(&format!("{path}/permissions/{permission}"), &denial).await;
    assert!(given.status.is_success(), "{}", given.text());
    let end = turn.rest().await.pop().expect("the turn's end");
    assert_eq!(end.kind, "turn.ended", "{end:?}");
    alice.close(&session).await;

    // Another agent looks into both folders.
    for (workspace, expected) in [("allowed", "hello"), ("denied", "nothing")] {
        let looking = alice.open(json!({"template": "shell", "workspace": workspace})).await;
        let found = alice.ask(&looking, "cd /sandbox/workspace && cat notes.txt 2>/dev/null || echo nothing").await;
        assert_eq!(found.trim(), expected, "{workspace}");
        alice.close(&looking).await;
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_nobody_wants_to_answer_ends_with_its_turn() {
    let house = House::start(Settings::new().gemini(model(None).await)).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "gemini"})).await;
    let path = format!("/v1/sessions/{}", id(&session));
    let (turn, asked) = ask_to_write(&alice, &session).await;

    let running = asked.turn.as_deref().expect("a question belongs to a turn");
    let cancelled = alice.post_text(&format!("{path}/turns/{running}/cancel"), "").await;
    assert_eq!(cancelled.status, StatusCode::ACCEPTED, "{}", cancelled.text());
    let end = turn.rest().await.pop().expect("the turn's end");
    assert_eq!((end.kind.as_str(), &end.content["stop_reason"]), ("turn.ended", &json!("cancelled")), "{end:?}");
    let late = alice
        .post(
            &format!("{path}/permissions/{}", asked.content["permission_id"].as_str().expect("an id")),
            &json!({"option_id": option(&asked, "allow_once")}),
        )
        .await;
    late.problem(409, "PERMISSION_ANSWERED");
    assert_eq!(alice.get_json(&path).await["state"], "ready");
    house.stop().await;
}
