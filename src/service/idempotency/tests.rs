use serde_json::json;

use super::*;
use crate::{
    identity::Whose,
    ids::UserId,
    store::{Change, fake::Fake},
};

const BODY: [u8; 32] = [7; 32];

fn key() -> IdempotencyKey {
    let user = UserId::parse("alice").expect("a good name");
    IdempotencyKey { whose: Whose::recorded(user), route: "POST /v1/sessions".to_owned(), key: "key-1".to_owned() }
}

/// What becomes of the same request now.
async fn come(store: &Arc<Fake>) -> Result<Claim, Problem> {
    claim(Arc::clone(store) as AnyStore, key(), BODY).await
}

async fn fresh(store: &Arc<Fake>) -> Ticket {
    match come(store).await.expect("the store works") {
        Claim::Fresh(ticket) => ticket,
        Claim::Made(made) => panic!("it was made before: {made:?}"),
    }
}

async fn made(store: &Arc<Fake>) -> Made {
    match come(store).await.expect("the store works") {
        Claim::Made(made) => made,
        Claim::Fresh(ticket) => panic!("it is new: {ticket:?}"),
    }
}

async fn code(store: &Arc<Fake>, body: [u8; 32]) -> Code {
    claim(Arc::clone(store) as AnyStore, key(), body).await.expect_err("it is refused").code
}

fn session() -> Created {
    Created::Session(SessionId::from_client("ses_1"))
}

fn answer(body: &str) -> Answer {
    Answer { location: "/v1/sessions/ses_1".to_owned(), version: Some(1), body: body.to_owned() }
}

/// As a session's journal does it.
fn write(store: &Fake, changes: Vec<Change>) {
    store::Store::write(store, changes, Box::new(|| {}));
}

#[tokio::test]
async fn what_was_answered_is_answered_again() {
    let store = Fake::new();
    let ticket = fresh(&store).await;
    write(&store, ticket.created(session()));
    ticket.answered(&answer("{}"));
    drop(ticket);
    for _ in 0..2 {
        let made = made(&store).await;
        assert_eq!((made.created, made.answer), (session(), Some(answer("{}"))));
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_anything_came_of_it_leaves_the_key_free() {
    let store = Fake::new();
    drop(fresh(&store).await);
    drop(fresh(&store).await);
    // Also if it leaves while the store is asked: what it would have been given is dropped.
    drop(come(&store).await);
    fresh(&store).await;
}

#[tokio::test]
async fn a_client_that_leaves_after_something_was_created_finds_it_by_its_name() {
    let store = Fake::new();
    let ticket = fresh(&store).await;
    write(&store, ticket.created(session()));
    drop(ticket);
    let found = made(&store).await;
    assert_eq!((&found.created, &found.answer), (&session(), &None));
    found.answered(&answer("made anew"));
    assert_eq!(made(&store).await.answer, Some(answer("made anew")));
}

#[tokio::test]
async fn a_failed_request_may_be_tried_again_as_soon_as_it_is_answered() {
    let store = Fake::new();
    fresh(&store).await.failed().await;
    let ticket = fresh(&store).await;
    // It looked as if something came of it, and then nothing did.
    let _unwritten = ticket.created(session());
    ticket.nothing_created();
    ticket.failed().await;
    fresh(&store).await;
}

#[tokio::test]
async fn a_failure_does_not_free_a_key_whose_work_still_goes_on() {
    let store = Fake::new();
    let ticket = fresh(&store).await;
    let working = ticket.clone();
    ticket.failed().await;
    assert_eq!(code(&store, BODY).await, Code::Conflict);
    write(&store, working.created(session()));
    drop(working);
    assert_eq!(made(&store).await.created, session());
}

#[tokio::test]
async fn the_same_key_for_another_body_is_a_mistake_and_for_the_same_one_under_way_a_conflict() {
    let store = Fake::new();
    let ticket = fresh(&store).await;
    assert_eq!(code(&store, BODY).await, Code::Conflict);
    assert_eq!(code(&store, [8; 32]).await, Code::IdempotencyMismatch);
    write(&store, ticket.created(session()));
    drop(ticket);
    assert_eq!(code(&store, [8; 32]).await, Code::IdempotencyMismatch);
}

#[tokio::test(start_paused = true)]
async fn a_failed_request_does_not_wait_for_ever_for_a_store_that_is_stuck() {
    let store = Fake::new();
    let ticket = fresh(&store).await;
    store.hold();
    let start = tokio::time::Instant::now();
    ticket.failed().await;
    assert_eq!(start.elapsed(), RELEASE_PATIENCE);
    store.release();
    fresh(&store).await;
}

#[test]
fn a_request_without_a_key_writes_nothing() {
    let ticket = Ticket::default();
    assert!(ticket.created(session()).is_empty());
    ticket.answered(&answer("{}"));
}

#[test]
fn a_body_is_the_same_in_any_order_of_its_fields_and_no_other_way() {
    let parsed = |text: &str| digest(&serde_json::from_str(text).expect("JSON"));
    assert_eq!(
        parsed(r#"{"a": 1, "b": {"x": [true, null], "y": "\u0041"}}"#),
        parsed(r#"{"b":{"y":"A","x":[true,null]},"a":1}"#)
    );
    let bodies = [
        json!(null),
        json!({}),
        json!([]),
        json!(""),
        json!(0),
        json!("0"),
        json!(false),
        json!({"a": null}),
        json!({"a": []}),
        json!(["a"]),
        json!([["a"], "b"]),
        json!([["a", "b"]]),
        json!(["ab"]),
        json!(["a", "b"]),
        json!({"a": "b"}),
        json!({"ab": ""}),
        json!([1, 2]),
        json!([12]),
        json!([2, 1]),
        json!("n"),
        json!("[]"),
        json!([{}]),
        json!([[]]),
        json!({"": ""}),
    ];
    let mut digests: Vec<_> = bodies.iter().map(digest).collect();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), bodies.len());
}
