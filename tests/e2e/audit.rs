//! The audit log of a real server: a story and the lines it leaves, with nothing in them of what was said.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    client::{Client, id},
    house::{House, model},
    ownership::ROOT,
    permissions::{WRITE, option},
    secret::Canary,
    settings::{ALICE, BOB, Settings},
    wait::until,
};

/// Deadline for a line to be in the file.
const WRITTEN: Duration = Duration::from_secs(20);

fn settings() -> Settings {
    let tokens = format!(
        r#"[{{user="alice",token="{ALICE}"}},{{user="bob",token="{BOB}"}},{{user="root",token="{ROOT}",scopes=["admin"]}}]"#
    );
    Settings::new().set("auth", "tokens", &tokens)
}

fn file(house: &House) -> PathBuf {
    house.state().join("audit.jsonl")
}

/// The lines so far, without what differs from run to run.
fn lines(house: &House) -> Vec<Value> {
    let text = fs::read_to_string(file(house)).expect("the audit log");
    let line = |line: &str| {
        let mut line: Value = serde_json::from_str(line).expect("a line is JSON");
        let fields = line.as_object_mut().expect("an object");
        let time = fields.remove("time").expect("a time");
        assert!(time.as_str().is_some_and(|time| time.parse::<jiff::Timestamp>().is_ok()), "{time}");
        if let Some(remote) = fields.remove("remote") {
            assert!(remote.as_str().is_some_and(|remote| remote.starts_with("127.0.0.1:")), "{remote}");
            assert!(fields.remove("request_id").is_some_and(|id| id.as_str().is_some_and(|id| !id.is_empty())));
        }
        line
    };
    text.lines().map(line).collect()
}

/// Waits for a line with this action.
pub async fn written(house: &House, action: &str) -> Vec<Value> {
    until(&format!("{action} is written"), WRITTEN, async || {
        let lines = lines(house);
        lines.iter().any(|line| line["action"] == action).then_some(lines)
    })
    .await
}

fn with(mut line: Value, more: &Value) -> Value {
    line.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    line
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_story_leaves_one_line_for_each_act_and_nothing_of_what_was_said() {
    let (key, said, content, name) = (Canary::new(), Canary::new(), Canary::new(), Canary::new());
    let house = House::start(settings().gemini(model(Some(&key.key)).await)).await;
    let (alice, root) = (house.alice(), Client::new(house.address, Some(ROOT)));

    let wish = json!({
        "template": "gemini", "workspace": "notes", "credential": {"api_key": key.key}, "labels": {"of": said.key}
    });
    let session = alice.open(wish).await;
    let path = format!("/v1/sessions/{}", id(&session));
    let mut turn = alice.prompt(&session, &format!("{WRITE} {}", said.key)).await;
    let asked = turn.up_to("permission.requested").await.pop().expect("the question");
    let permission = asked.content["permission_id"].as_str().expect("an id").to_owned();
    let answer = json!({"option_id": option(&asked, "allow_once")});
    let given = alice.post(&format!("{path}/permissions/{permission}"), &answer).await;
    assert!(given.status.is_success(), "{}", given.text());
    turn.rest().await;
    let put = format!("{path}/files/{}.txt", name.key);
    alice.call(Method::PUT, &put, &[], Bytes::from(content.key.clone())).await;
    alice.get(&put).await;
    house.bob().delete(&path).await.problem(404, "NOT_FOUND");
    house.visitor().get(&path).await.problem(401, "UNAUTHENTICATED");
    alice.get("/v1/sessions?user=bob").await.problem(403, "FORBIDDEN");
    root.close(&session).await;
    house.operator().post("/pools/gemini/pause", &json!({})).await.expect(StatusCode::OK);

    let lines = written(&house, "pause_pool").await;
    let what = json!({"session": id(&session), "template": "gemini", "workspace": "notes"});
    let turn = json!({"turn": asked.turn});
    let by = |user: &str| with(json!({"user": user, "credential": "settings"}), &what);
    let ok = |action: &str, status: u16| json!({"action": action, "outcome": "ok", "status": status});
    let of_alice = with(what.clone(), &json!({"user": "alice"}));
    let resolved = json!({
        "action": "permission.resolved", "outcome": "ok", "permission": permission, "by": "user", "reason": "allow_once"
    });
    let expected = [
        json!({"action": "server.started", "outcome": "ok"}),
        with(ok("open_session", 201), &by("alice")),
        with(with(ok("start_turn", 200), &by("alice")), &turn),
        with(with(resolved, &of_alice), &turn),
        with(with(ok("answer_permission", 204), &by("alice")), &json!({"permission": permission})),
        with(ok("write_file", 201), &by("alice")),
        json!({
            "action": "close_session", "outcome": "NOT_FOUND", "status": 404, "user": "bob", "credential": "settings",
            "session": id(&session)
        }),
        json!({
            "action": "auth.failed", "outcome": "UNAUTHENTICATED", "status": 401, "call": "get_session",
            "session": id(&session)
        }),
        json!({
            "action": "list_sessions", "outcome": "FORBIDDEN", "status": 403, "user": "alice", "credential": "settings"
        }),
        with(json!({"action": "session.ended", "outcome": "ok", "reason": "closed"}), &of_alice),
        with(with(ok("close_session", 204), &by("root")), &json!({"owner": "alice"})),
        with(ok("pause_pool", 200), &json!({"door": "operators", "template": "gemini"})),
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, expected) in lines.iter().zip(&expected) {
        assert_eq!(line, expected);
    }

    let text = fs::read(file(&house)).expect("the audit log");
    for (what, canary) in [("the key", key), ("the prompt", said), ("a file", content), ("a file's name", name)] {
        canary.assert_not_in(what, &text);
    }
    for token in [ALICE, BOB, ROOT] {
        assert!(!String::from_utf8_lossy(&text).contains(token), "a token");
    }
    assert_eq!(fs::metadata(file(&house)).expect("it is there").permissions().mode() & 0o777, 0o600);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_taken_away_is_begun_anew_and_one_of_a_crash_is_gone_on_with() {
    let mut house = House::start(settings().shell().hands_over()).await;
    let session = house.alice().open(json!({"template": "shell"})).await;
    written(&house, "open_session").await;
    let aside = house.state().join("taken-away");
    fs::rename(file(&house), &aside).expect("moved");
    house.alice().delete("/v1/workspaces/none").await.problem(404, "NOT_FOUND");
    until("there is a new file", WRITTEN, async || file(&house).exists().then_some(())).await;
    written(&house, "delete_workspace").await;

    house.crash().await;
    let torn = [fs::read(file(&house)).expect("the audit log"), b"{\"time\":\"20".to_vec()].concat();
    fs::write(file(&house), torn).expect("written");
    house.launch().await;
    house.alice().close(&session).await;
    let text = until("the session's end is written", WRITTEN, async || {
        let text = fs::read_to_string(file(&house)).expect("the audit log");
        text.contains("\"close_session\"").then_some(text)
    });
    let whole = |line: &str| serde_json::from_str::<Value>(line).ok();
    let text = text.await;
    let broken: Vec<_> = text.lines().filter(|line| whole(line).is_none()).collect();
    assert_eq!(broken, ["{\"time\":\"20"], "half a line stays alone");
    let acts: Vec<_> = text.lines().filter_map(whole).map(|line| line["action"].clone()).collect();
    assert_eq!(acts, ["delete_workspace", "server.started", "session.ended", "close_session"]);
    let aside = fs::read_to_string(aside).expect("what was taken away");
    assert!(aside.contains("open_session") && !aside.contains("delete_workspace"));
    house.stop().await;
}
