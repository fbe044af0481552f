//! What is somebody's is theirs: to everybody else it is as if it had never been, and an administrator sees and does all of it.

use bytes::Bytes;
use hyper::{Method, StatusCode, header::HeaderMap};
use serde_json::{Value, json};

use crate::{
    client::{Client, Reply, id},
    house::{House, model},
    settings::{ALICE, BOB, Settings},
};

/// The token of an administrator.
pub const ROOT: &str = "root-token-for-tests-3";

fn settings() -> Settings {
    let tokens = format!(
        r#"[{{user="alice",token="{ALICE}"}},{{user="bob",token="{BOB}"}},{{user="root",token="{ROOT}",scopes=["admin"]}}]"#
    );
    Settings::new().shell().set("auth", "tokens", &tokens)
}

fn root(house: &House) -> Client {
    Client::new(house.address, Some(ROOT))
}

/// An answer as whoever compares would see it: without the request's own id, and with the session's blanked.
fn seen(reply: &Reply, session: &str) -> (StatusCode, Vec<(String, String)>, String) {
    let own = reply.header("x-request-id").to_owned();
    let blank = |text: &str| text.replace(session, "SESSION").replace(&own, "REQUEST");
    let told = |headers: &HeaderMap| {
        let left = headers.iter().filter(|(name, _)| *name != "date");
        left.map(|(name, value)| (name.to_string(), blank(value.to_str().expect("ASCII")))).collect()
    };
    (reply.status, told(&reply.headers), blank(&reply.text()))
}

/// A request: method, what follows the session's id, headers, body.
type Asked = (Method, &'static str, Vec<(&'static str, &'static str)>, &'static str);

/// Requests about a session, good and bad in every way that is looked at before the session is.
fn requests() -> Vec<Asked> {
    let json = ("content-type", "application/json");
    let once = ("idempotency-key", "the-same-key");
    let mut all = vec![
        (Method::GET, "", vec![], ""),
        (Method::DELETE, "", vec![], ""),
        (Method::PUT, "", vec![], ""),
        (Method::PATCH, "", vec![json], r#"{"labels": {}}"#),
        (Method::PATCH, "", vec![json, ("if-match", "\"1\"")], r#"{"labels": {}}"#),
        (Method::PATCH, "", vec![json, ("if-match", "\"77\"")], r#"{"labels": {}}"#),
        (Method::PATCH, "", vec![json, ("if-match", "nonsense")], r#"{"labels": {}}"#),
        (Method::PATCH, "", vec![json], r#"{"max_age_s": 0}"#),
        (Method::PATCH, "", vec![json], r#"{"nonsense": 1}"#),
        (Method::PATCH, "", vec![], "{}"),
        (Method::POST, "/turns", vec![json], r#"{"prompt": "true"}"#),
        (Method::POST, "/turns", vec![json], r#"{"prompt": []}"#),
        (Method::POST, "/turns", vec![json], "{"),
        (Method::POST, "/turns", vec![json, once], r#"{"prompt": "true"}"#),
        (Method::POST, "/turns", vec![json, once], r#"{"prompt": "false"}"#),
        (Method::POST, "/turns", vec![json, ("idempotency-key", "")], r#"{"prompt": "true"}"#),
        (Method::POST, "/turns", vec![json, ("accept", "text/event-stream")], r#"{"prompt": "true"}"#),
        (Method::GET, "/turns/turn_0", vec![], ""),
        (Method::POST, "/turns/turn_0/cancel", vec![], ""),
        (Method::GET, "/events", vec![], ""),
        (Method::GET, "/events?after=1000000", vec![], ""),
        (Method::GET, "/events?after=nonsense", vec![], ""),
        (Method::GET, "/events", vec![("accept", "application/json")], ""),
        (Method::POST, "/tickets", vec![], ""),
        (Method::GET, "/permissions", vec![], ""),
        (Method::POST, "/permissions/perm_0", vec![json], r#"{"cancelled": true}"#),
        (Method::POST, "/permissions/perm_0", vec![json], r#"{"cancelled": false}"#),
        (Method::GET, "/files/", vec![], ""),
        (Method::GET, "/files/mine.txt", vec![], ""),
        (Method::GET, "/files/../../etc/passwd", vec![], ""),
        (Method::PUT, "/files/mine.txt", vec![], "overwritten"),
        (Method::PUT, "/files/mine.txt", vec![("content-type", "application/json")], "{}"),
        (Method::DELETE, "/files/mine.txt", vec![], ""),
        (Method::GET, "/archive", vec![], ""),
        (Method::PUT, "/archive", vec![("content-type", "application/x-tar")], "no archive"),
        (Method::GET, "/nowhere", vec![], ""),
    ];
    all.push((Method::OPTIONS, "", vec![], ""));
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_elses_session_answers_as_one_that_never_was_whatever_is_asked() {
    let house = House::start(settings()).await;
    let (alice, bob) = (house.alice(), house.bob());
    let session = alice.open(json!({"template": "shell", "workspace": "notes"})).await;
    let path = format!("/v1/sessions/{}", id(&session));
    let written =
        alice.call(Method::PUT, &format!("{path}/files/mine.txt"), &[], Bytes::from_static(b"of alice")).await;
    assert_eq!(written.status, StatusCode::CREATED, "{}", written.text());
    alice.ask(&session, "echo hello").await;
    let before = alice.get_json(&path).await;

    let none = format!("ses_{}", "0123456789abcdef".repeat(2));
    assert_eq!(none.len(), id(&session).len());
    for (method, rest, headers, body) in requests() {
        let ask = async |session: &str| {
            let path = format!("/v1/sessions/{session}{rest}");
            let reply = bob.call(method.clone(), &path, &headers, Bytes::from_static(body.as_bytes())).await;
            assert!(!reply.status.is_success(), "{method} {path}: {reply:?}");
            seen(&reply, session)
        };
        let (of_alice, of_nobody) = (ask(id(&session)).await, ask(&none).await);
        assert_eq!(of_alice, of_nobody, "{method} {rest} {headers:?} {body}");
    }
    assert_eq!(bob.get_json("/v1/sessions").await["items"], json!([]));
    assert_eq!(bob.get_json("/v1/workspaces").await["items"], json!([]));
    let seen_of = async |name: &str| {
        let reply = bob.delete(&format!("/v1/workspaces/{name}")).await;
        let (status, _, text) = seen(&reply, name);
        (status, text)
    };
    assert_eq!(seen_of("notes").await, seen_of("other").await);
    assert_eq!(alice.get_json(&path).await, before, "nothing of it was touched");
    let file = alice.get(&format!("{path}/files/mine.txt")).await;
    assert_eq!(file.text(), "of alice");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrator_sees_and_does_all_of_it_and_the_owner_pays() {
    let house = House::start(settings().gemini(model(None).await)).await;
    let (alice, bob, root) = (house.alice(), house.bob(), root(&house));
    let session = alice.open(json!({"template": "gemini", "workspace": "notes"})).await;
    let others = bob.open(json!({"template": "shell"})).await;
    let path = format!("/v1/sessions/{}", id(&session));

    let listed = async |query: &str| {
        let page = root.get_json(&format!("/v1/sessions{query}")).await;
        let items = page["items"].as_array().expect("a list").clone();
        let mut named: Vec<_> = items.iter().map(|one| (one["user"].clone(), id(one).to_owned())).collect();
        named.sort_by_key(|(user, _)| user.to_string());
        named
    };
    let (of_alice, of_bob) = ((json!("alice"), id(&session).to_owned()), (json!("bob"), id(&others).to_owned()));
    assert_eq!(listed("").await, []);
    assert_eq!(listed("?user=alice").await, std::slice::from_ref(&of_alice));
    assert_eq!(listed("?user=*").await, [of_alice, of_bob]);

    // Turn, events, files, change: as if it were theirs.
    let said = root.ask(&session, "[words:well done]").await;
    assert!(said.contains("well done"), "{said}");
    let read = root.events(&session, 0).await.up_to("turn.ended").await;
    assert_eq!(read.first().map(|event| event.kind.as_str()), Some("session.ready"));
    let file = format!("{path}/files/by-root.txt");
    let written = root.call(Method::PUT, &file, &[], Bytes::from_static(b"left here")).await;
    assert_eq!(written.status, StatusCode::CREATED, "{}", written.text());
    assert_eq!(alice.get(&file).await.text(), "left here");
    let changed = root.patch(&path, &json!({"labels": {"seen": "by-root"}})).await.expect(StatusCode::OK);
    assert_eq!((&changed["user"], &changed["labels"]["seen"]), (&json!("alice"), &json!("by-root")));

    // The tokens and the session are the owner's, the key for asking again is the caller's.
    let me = async |client: &Client| client.get_json("/v1/me").await;
    let (hers, theirs) = (me(&alice).await, me(&root).await);
    assert!(hers["usage"]["input_tokens"].as_u64() > Some(0), "{hers}");
    assert_eq!(theirs["usage"], json!({"input_tokens": 0, "output_tokens": 0}), "{theirs}");
    let (headers, prompt) = ([("idempotency-key", "twice")], json!({"prompt": "[words:once]"}));
    let turns = format!("{path}/turns");
    let first = root.post_with(&turns, &headers, &prompt).await.expect(StatusCode::ACCEPTED);
    let again = root.post_with(&turns, &headers, &prompt).await;
    assert_eq!((again.header("idempotent-replayed"), id(&again.json())), ("true", id(&first)));
    root.events(&session, first["first_seq"].as_u64().expect("a number")).await.up_to("turn.ended").await;
    let own: Value = alice.post_with(&turns, &headers, &prompt).await.expect(StatusCode::ACCEPTED);
    assert_ne!(id(&own), id(&first));

    root.close(&session).await;
    assert_eq!(alice.get_json(&path).await["state"], "ended");
    let workspaces = root.get_json("/v1/workspaces?user=alice").await;
    let named = |one: &Value| (one["user"].clone(), one["name"].clone(), one["session"].clone());
    let found: Vec<_> = workspaces["items"].as_array().expect("a list").iter().map(named).collect();
    assert_eq!(found, [(json!("alice"), json!("notes"), json!(null))]);
    root.delete("/v1/workspaces/notes").await.problem(404, "NOT_FOUND");
    let removed = root.delete("/v1/workspaces/notes?user=alice").await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT, "{}", removed.text());
    assert_eq!(alice.get_json("/v1/workspaces").await["items"], json!([]));
    house.stop().await;
}
