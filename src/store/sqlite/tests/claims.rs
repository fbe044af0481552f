//! Requests that are sent twice.

use super::*;
use crate::identity::Whose;

const KEEP: Duration = Duration::from_secs(3600);

fn key(text: &str) -> IdempotencyKey {
    IdempotencyKey { whose: Whose::recorded(user()), route: "POST /v1/sessions".to_owned(), key: text.to_owned() }
}

async fn claim(store: &Sqlite, text: &str, body: u8) -> Claimed {
    store.claim(&key(text), [body; 32], KEEP).await.expect("it can be claimed")
}

#[tokio::test]
async fn a_request_sent_again_gets_the_first_ones_answer() {
    let house = House::new();
    let store = house.open();
    assert_eq!(claim(&store, "a", 1).await, Claimed::New);
    assert_eq!(claim(&store, "a", 1).await, Claimed::Running);
    assert_eq!(claim(&store, "a", 2).await, Claimed::Mismatch);
    assert_eq!(claim(&store, "b", 2).await, Claimed::New);
    write(&store, vec![Change::Answered { key: key("a"), document: "made".to_owned() }]).await;
    assert_eq!(claim(&store, "a", 1).await, Claimed::Answered("made".to_owned()));
    assert_eq!(claim(&store, "a", 2).await, Claimed::Mismatch);
    // A later word about the same request.
    write(&store, vec![Change::Answered { key: key("a"), document: "made and told".to_owned() }]).await;
    assert_eq!(claim(&store, "a", 1).await, Claimed::Answered("made and told".to_owned()));
    write(&store, vec![Change::Released { key: key("b") }]).await;
    assert_eq!(claim(&store, "b", 3).await, Claimed::New);
}

#[tokio::test]
async fn answers_outlive_the_server_and_claims_do_not() {
    let house = House::new();
    let store = house.open();
    assert_eq!(claim(&store, "answered", 1).await, Claimed::New);
    assert_eq!(claim(&store, "under way", 1).await, Claimed::New);
    write(&store, vec![Change::Answered { key: key("answered"), document: "made".to_owned() }]).await;
    store.close(PATIENCE).await;
    drop(store);
    let store = house.open();
    assert_eq!(claim(&store, "answered", 1).await, Claimed::Answered("made".to_owned()));
    assert_eq!(claim(&store, "under way", 1).await, Claimed::New);
}

#[tokio::test]
async fn keys_are_forgotten_after_their_time() {
    let house = House::new();
    let store = house.open();
    for text in ["answered", "under way"] {
        assert_eq!(store.claim(&key(text), [1; 32], Duration::ZERO).await.expect("claimed"), Claimed::New);
    }
    write(&store, vec![Change::Answered { key: key("answered"), document: "made".to_owned() }]).await;
    for text in ["answered", "under way"] {
        assert_eq!(claim(&store, text, 2).await, Claimed::New);
    }
    store.close(PATIENCE).await;
    drop(store);
    let _store = house.open();
    let db = rusqlite::Connection::open(house.path()).expect("it opens");
    until(async || db.query_row("SELECT count(*) FROM answers", [], |row| row.get::<_, i64>(0)).expect("read") == 0)
        .await;
}
