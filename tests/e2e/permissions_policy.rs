//! Policies answer for the user: by the kind of tool, per session or per template, and by time.

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::{
    client::{Client, id},
    house::{House, model},
    permissions::WRITE,
    processes::files,
    settings::Settings,
    stream::Event,
};

/// A tool of another kind, which asks as well.
const EXECUTE: &str = "[tool:run_shell_command command=touch /sandbox/workspace/touched] [words:as told]";

/// A turn that nobody answers anything of.
async fn turn(client: &Client, session: &Value, prompt: &str) -> Vec<Event> {
    let events = client.prompt(session, prompt).await.rest().await;
    assert_eq!(events.last().map(|event| event.kind.as_str()), Some("turn.ended"), "{events:#?}");
    events
}

/// What was asked and how it was resolved: the tool's kind, outcome, who, and the kind of the option that was taken.
#[track_caller]
fn resolutions(events: &[Event]) -> Vec<[Value; 4]> {
    let of_kind = |kind: &str| events.iter().filter(|event| event.kind == kind).collect::<Vec<_>>();
    let (asked, resolved) = (of_kind("permission.requested"), of_kind("permission.resolved"));
    assert_eq!(asked.len(), resolved.len(), "{events:#?}");
    let pairs = asked.iter().zip(&resolved).map(|(asked, resolved)| {
        assert_eq!(asked.content["permission_id"], resolved.content["permission_id"]);
        let options = asked.content["options"].as_array().expect("options");
        let taken = options.iter().find(|option| option["option_id"] == resolved.content["option_id"]);
        let kind = taken.map_or(Value::Null, |option| option["kind"].clone());
        [
            asked.content["tool_call"]["kind"].clone(),
            resolved.content["outcome"].clone(),
            resolved.content["by"].clone(),
            kind,
        ]
    });
    pairs.collect()
}

fn by_policy(kind: &str, option: &str) -> [Value; 4] {
    [kind, "selected", "policy", option].map(Value::from)
}

/// Whether a workspace that is at home has this file.
fn has(house: &House, workspace: &str, file: &str) -> bool {
    let end = format!("/{workspace}/{file}");
    files(&house.state().join("workspaces")).iter().any(|path| path.to_string_lossy().ends_with(&end))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_answers_by_the_kind_of_tool_and_can_be_changed() {
    let house = House::start(Settings::new().gemini(model(None).await)).await;
    let alice = house.alice();

    let wish = json!({"workspace": "split", "permissions": {"default": "deny", "kinds": {"edit": "allow"}}});
    let session = alice.open(wish.clone()).await;
    assert_eq!(session["permissions"]["default"], "deny", "{session}");
    assert_eq!(session["permissions"]["kinds"]["edit"], "allow", "{session}");
    assert_eq!(resolutions(&turn(&alice, &session, WRITE).await), [by_policy("edit", "allow_once")]);
    assert_eq!(resolutions(&turn(&alice, &session, EXECUTE).await), [by_policy("execute", "reject_once")]);

    // The other way round, from the next question on.
    let path = format!("/v1/sessions/{}", id(&session));
    let changed = json!({"permissions": {"default": "allow", "kinds": {"edit": "deny"}}});
    let patched = alice.patch(&path, &changed).await.expect(StatusCode::OK);
    assert_eq!(patched["permissions"]["default"], "allow", "{patched}");
    assert_eq!(patched["permissions"]["kinds"]["edit"], "deny", "{patched}");
    let other = WRITE.replace("notes.txt", "other.txt");
    assert_eq!(resolutions(&turn(&alice, &session, &other).await), [by_policy("edit", "reject_once")]);
    assert_eq!(resolutions(&turn(&alice, &session, EXECUTE).await), [by_policy("execute", "allow_once")]);

    // Absent means ask, as ever.
    alice.patch(&path, &json!({"permissions": {}})).await.expect(StatusCode::OK);
    let mut asking = alice.prompt(&session, &WRITE.replace("notes.txt", "asked.txt")).await;
    let asked = asking.up_to("permission.requested").await.pop().expect("the question");
    assert_eq!(alice.get_json(&path).await["state"], "waiting");
    let permission = asked.content["permission_id"].as_str().expect("an id");
    let given = alice.post(&format!("{path}/permissions/{permission}"), &json!({"cancelled": true})).await;
    assert_eq!(given.status, StatusCode::NO_CONTENT, "{}", given.text());
    let rest = asking.rest().await;
    let resolved = rest.iter().find(|event| event.kind == "permission.resolved").expect("it is resolved");
    assert_eq!(resolved.content["by"], "user");
    alice.close(&session).await;
    for (file, expected) in [("notes.txt", true), ("touched", true), ("other.txt", false), ("asked.txt", false)] {
        assert_eq!(has(&house, "split", file), expected, "{file}");
    }

    for refused in [
        json!({"permissions": {"default": "perhaps"}}),
        json!({"permissions": {"kinds": {"edit": "perhaps"}}}),
        json!({"permissions": {"kinds": {"no-such-kind": "allow"}}}),
        json!({"permissions": {"defaults": "allow"}}),
        json!({"permissions": "allow"}),
    ] {
        alice.post("/v1/sessions", &refused).await.problem(400, "INVALID_REQUEST");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_template_denies_no_user_can_allow() {
    let settings = Settings::new().gemini(model(None).await);
    let settings = settings.set("templates.gemini.permissions", "default", "\"allow\"");
    let house = House::start(settings.set("templates.gemini.permissions", "kinds", r#"{edit = "deny"}"#)).await;
    let alice = house.alice();

    // Who wishes nothing gets the template's policy.
    let session = alice.open(json!({"workspace": "plain"})).await;
    assert_eq!(
        (&session["permissions"]["default"], &session["permissions"]["kinds"]["edit"]),
        (&json!("allow"), &json!("deny"))
    );
    assert_eq!(resolutions(&turn(&alice, &session, WRITE).await), [by_policy("edit", "reject_once")]);
    assert_eq!(resolutions(&turn(&alice, &session, EXECUTE).await), [by_policy("execute", "allow_once")]);

    // Loosening is refused, or does nothing; it is never granted.
    let loose = json!({"permissions": {"default": "allow", "kinds": {"edit": "allow"}}});
    let path = format!("/v1/sessions/{}", id(&session));
    let answers = [
        alice.patch(&path, &loose).await,
        alice.post("/v1/sessions", &json!({"workspace": "loose", "permissions": loose["permissions"]})).await,
        alice.post("/v1/sessions", &json!({"workspace": "looser", "permissions": {"default": "allow"}})).await,
    ];
    for answer in answers {
        if answer.status.is_success() {
            let session = answer.json();
            assert_eq!(session["permissions"]["kinds"]["edit"], "deny", "{session}");
            assert_eq!(resolutions(&turn(&alice, &session, WRITE).await), [by_policy("edit", "reject_once")]);
        } else {
            assert!(answer.status.is_client_error(), "{}", answer.text());
        }
    }

    // Tightening is everybody's right.
    alice.patch(&path, &json!({"permissions": {"default": "deny"}})).await.expect(StatusCode::OK);
    let denied = EXECUTE.replace("touched", "denied");
    assert_eq!(resolutions(&turn(&alice, &session, &denied).await), [by_policy("execute", "reject_once")]);
    for session in alice.get_json("/v1/sessions?state=ready").await["items"].as_array().expect("a list") {
        alice.close(session).await;
    }
    assert!(has(&house, "plain", "touched") && !has(&house, "plain", "denied"));
    for workspace in ["plain", "loose", "looser"] {
        assert!(!has(&house, workspace, "notes.txt"), "{workspace}");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_nobody_answers_is_denied_in_time_and_the_turn_goes_on() {
    let settings = Settings::new().gemini(model(None).await).set("session", "permission_timeout", "\"1s\"");
    // The time in which nobody answers is neither idle nor the agent's silence.
    let settings = settings.set("session", "first_output_timeout", "\"3s\"");
    let house = House::start(settings).await;
    let alice = house.alice();
    let session = alice.open(json!({"workspace": "late", "idle_timeout_s": 1})).await;
    let events = turn(&alice, &session, WRITE).await;
    let [one] = &resolutions(&events)[..] else { panic!("one question: {events:#?}") };
    assert_eq!(one[2], "timeout", "{events:#?}");
    assert_eq!(one[3], "reject_once", "the gentlest refusal");
    let time = |kind| events.iter().find(|event| event.kind == kind).expect("it is there").time;
    let taken = time("permission.resolved").duration_since(time("permission.requested")).as_secs_f64();
    assert!((0.9..2.5).contains(&taken), "denied after {taken} s instead of 1");
    alice.close(&session).await;
    assert!(!has(&house, "late", "notes.txt"));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mode_of_the_agent_can_be_chosen_and_changed() {
    let house = House::start(Settings::new().gemini(model(None).await)).await;
    let alice = house.alice();
    // In this mode the agent doesn't ask at all.
    let session = alice.open(json!({"workspace": "modes", "mode": "yolo"})).await;
    assert_eq!(session["mode"], "yolo");
    assert_eq!(resolutions(&turn(&alice, &session, WRITE).await), [] as [[Value; 4]; 0]);
    let path = format!("/v1/sessions/{}", id(&session));
    let patched = alice.patch(&path, &json!({"mode": "default", "permissions": {"default": "deny"}})).await;
    assert_eq!(patched.expect(StatusCode::OK)["mode"], "default");
    let other = WRITE.replace("notes.txt", "other.txt");
    assert_eq!(resolutions(&turn(&alice, &session, &other).await), [by_policy("edit", "reject_once")]);
    alice.close(&session).await;
    assert!(has(&house, "modes", "notes.txt") && !has(&house, "modes", "other.txt"));
    alice.post("/v1/sessions", &json!({"mode": "no-such-mode"})).await.problem(400, "INVALID_REQUEST");
    house.stop().await;
}
