//! Tickets: how a browser's `EventSource` follows a session, and that what it shows in its address is soon worth nothing.

use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    client::{Client, Reply, id},
    house::House,
    ownership::ROOT,
    settings::{ALICE, BOB, Settings},
    stream::Events,
    wait::within,
};

/// By when a stream has ended whose key was revoked.
const REVOKED: Duration = Duration::from_secs(60);

fn settings() -> Settings {
    let tokens = format!(
        r#"[{{user="alice",token="{ALICE}"}},{{user="bob",token="{BOB}"}},{{user="root",token="{ROOT}",scopes=["admin"]}}]"#
    );
    Settings::new().shell().stock("shell", 2, 2).set("auth", "tokens", &tokens).set("telemetry", "log", "\"trace\"")
}

async fn ticket(client: &Client, session: &Value) -> String {
    let reply = client.post(&format!("/v1/sessions/{}/tickets", id(session)), &json!({})).await;
    assert_eq!(reply.header("cache-control"), "no-store");
    let ticket = reply.expect(StatusCode::CREATED);
    assert!(ticket["expires_at"].as_str().is_some_and(|time| time.ends_with('Z')), "{ticket}");
    ticket["ticket"].as_str().expect("a text").to_owned()
}

fn events(session: &Value, ticket: &str, after: u64) -> String {
    format!("/v1/sessions/{}/events?ticket={ticket}&after={after}", id(session))
}

/// As a browser asks: no header of ours.
async fn follow(house: &House, path: &str) -> Events {
    Events::of(house.visitor().send(Method::GET, path, &[("accept", "text/event-stream")], Bytes::new()).await)
}

/// What is refused, without what is of the one request.
fn refusal(reply: &Reply) -> Value {
    let mut problem = reply.problem(401, "UNAUTHENTICATED");
    for field in ["instance", "request_id"] {
        problem.as_object_mut().expect("an object").remove(field);
    }
    problem
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_follows_a_session_by_tickets_and_each_is_good_once() {
    let mut house = House::start(settings().hands_over()).await;
    let alice = house.alice();
    let (session, other) =
        (alice.open(json!({"template": "shell"})).await, alice.open(json!({"template": "shell"})).await);

    let first = ticket(&alice, &session).await;
    let mut stream = follow(&house, &events(&session, &first, 0)).await;
    alice.ask(&session, "echo hello").await;
    let seen = stream.up_to("turn.ended").await;
    assert_eq!(seen.first().map(|event| event.kind.as_str()), Some("session.ready"));
    drop(stream);

    // The browser lost its connection: it gets another ticket, and goes on after what it saw.
    let last = seen.last().expect("there were some").seq;
    let second = ticket(&alice, &session).await;
    let mut stream = follow(&house, &events(&session, &second, last)).await;
    alice.ask(&session, "echo again").await;
    let more = stream.up_to("turn.ended").await;
    assert_eq!(more.first().map(|event| event.seq), Some(last + 1));

    // Used up; another session's; somebody's who may not look; one of before a restart: all as if there were none.
    let visitor = house.visitor();
    let nobody = refusal(&visitor.get(&format!("/v1/sessions/{}/events", id(&session))).await);
    for used in [&first, &second] {
        assert_eq!(refusal(&visitor.get(&events(&session, used, 0)).await), nobody);
    }
    let of_another = ticket(&alice, &other).await;
    assert_eq!(refusal(&visitor.get(&events(&session, &of_another, 0)).await), nobody);
    let both = alice.get(&events(&session, &ticket(&alice, &session).await, 0)).await;
    both.problem(400, "INVALID_REQUEST");
    let path = format!("/v1/sessions/{}/tickets", id(&session));
    let denied = house.bob().post(&path, &json!({})).await.problem(404, "NOT_FOUND");
    assert_eq!(denied["instance"], path.as_str());
    let old = ticket(&alice, &session).await;
    house.crash().await;
    house.launch().await;
    assert_eq!(refusal(&house.visitor().get(&events(&session, &old, 0)).await), nobody);
    let fresh = ticket(&house.alice(), &session).await;
    let (fresh_path, headers) = (events(&session, &fresh, 0), [("accept", "application/json")]);
    let page = house.visitor().call(Method::GET, &fresh_path, &headers, Bytes::new()).await;
    assert_eq!(page.expect(StatusCode::OK)["items"][0]["type"], "session.ready");

    let log = String::from_utf8_lossy(&house.log()).into_owned();
    let audit = std::fs::read_to_string(house.state().join("audit.jsonl")).expect("the audit log");
    for ticket in [&first, &second, &of_another, &old, &fresh] {
        assert!(!log.contains(ticket.as_str()) && !audit.contains(ticket.as_str()), "a ticket is in a log");
    }
    assert!(!log.contains("ticket="), "a query is in the log");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_and_what_was_opened_with_it_end_with_the_key_it_was_got_with() {
    let house = House::start(settings()).await;
    let root = Client::new(house.address, Some(ROOT));
    let key = root.post("/v1/keys", &json!({"user": "alice", "scopes": ["read"]})).await.expect(StatusCode::CREATED);
    let reader = Client::new(house.address, key["token"].as_str());
    let session = house.alice().open(json!({"template": "shell"})).await;

    let (shown, kept) = (ticket(&reader, &session).await, ticket(&reader, &session).await);
    let mut stream = follow(&house, &events(&session, &shown, 0)).await;
    stream.up_to("session.ready").await;
    let revoked = root.delete(&format!("/v1/keys/{}", id(&key))).await;
    assert_eq!(revoked.status, StatusCode::NO_CONTENT, "{}", revoked.text());
    house.visitor().get(&events(&session, &kept, 0)).await.problem(401, "UNAUTHENTICATED");
    within("the stream ends", REVOKED, async { while let Some(_event) = stream.next().await {} }).await;
    let alive = house.alice().get_json(&format!("/v1/sessions/{}", id(&session))).await;
    assert_eq!(alive["state"], "ready", "the session itself is not touched");
    house.stop().await;
}
