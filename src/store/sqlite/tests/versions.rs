//! Files of other versions, and files that are something else.

use super::*;

/// A store as version 1 wrote it. Never changed.
const VERSION_1: &str = include_str!("version1.sql");

impl House {
    fn with(sql: &str) -> Self {
        let house = Self::new();
        rusqlite::Connection::open(house.path())
            .and_then(|db| db.execute_batch(sql))
            .expect("the fixture is well formed");
        house
    }

    fn refusal(&self) -> StoreError {
        Sqlite::open(&self.path(), &self.settings).expect_err("it must not open")
    }
}

#[tokio::test]
async fn a_store_of_version_1_opens_with_all_that_is_in_it() {
    let house = House::with(VERSION_1);
    let store = house.open();
    let [first, second] = <[StoredSession; 2]>::try_from(store.sessions().await.expect("read")).expect("two sessions");
    let (one, other) = (SessionId::from_client("ses_one"), SessionId::from_client("ses_other"));
    assert_eq!((first.row.session, first.row.document.as_str()), (one.clone(), r#"{"title":"one"}"#));
    assert_eq!(first.row.ended_at, None);
    assert_eq!((first.turns.len(), first.permissions.len(), first.mark.as_deref()), (2, 1, Some(r#"{"chunk":9}"#)));
    assert_eq!((first.earliest_seq, first.last_seq, first.bytes), (3, 5, 27));
    assert_eq!(second.row.ended_at.map(|at| at.to_string()).as_deref(), Some("2026-11-20T12:00:00.5Z"));
    assert_eq!((second.earliest_seq, second.last_seq), (1, 1));
    assert_eq!(store.events(&one, 1, 9, 999).await.expect("read"), EventRows::Expired { earliest: 3 });
    assert_eq!(read(&store, &one, 2).await, [3, 4, 5]);

    // It works on, also with what version 1 did not have.
    let spent = Change::Spent { user: user(), hour: 7, input: 1, output: 2 };
    write(&store, vec![numbered(&one, 6, 1), spent]).await;
    assert_eq!((read(&store, &one, 4).await, read(&store, &other, 0).await), (vec![5, 6], vec![1]));
    assert_eq!(store.spent(&user()).await.expect("read"), (1, 2));
    store.close(PATIENCE).await;
    drop(store);
    assert_eq!(house.open().sessions().await.expect("read").len(), 2);
}

#[tokio::test]
async fn a_store_of_version_2_keeps_its_sums_and_counts_hours_from_now_on() {
    let house = House::with(&format!(
        "{VERSION_1} CREATE TABLE spent (user TEXT PRIMARY KEY, input INTEGER NOT NULL, output INTEGER NOT NULL) STRICT, WITHOUT ROWID; \
         CREATE TABLE answers (user TEXT NOT NULL, route TEXT NOT NULL, key TEXT NOT NULL, body BLOB NOT NULL, \
             expires_at INTEGER NOT NULL, document TEXT NOT NULL, PRIMARY KEY (user, route, key)) STRICT, WITHOUT ROWID; \
         CREATE INDEX answers_by_age ON answers (expires_at); \
         INSERT INTO spent VALUES ('ada', 40, 2); PRAGMA user_version = 2;"
    ));
    let store = house.open();
    assert_eq!((store.spent(&user()).await.expect("read"), spent_since(&store, 0).await), ((40, 2), vec![]));
    write(&store, vec![Change::Spent { user: user(), hour: 7, input: 1, output: 2 }]).await;
    assert_eq!((store.spent(&user()).await.expect("read"), spent_since(&store, 0).await), ((41, 4), vec![(7, 1, 2)]));
}

async fn spent_since(store: &Sqlite, hour: u64) -> Vec<(u64, u64, u64)> {
    let rows = store.spent_since(&user(), hour).await.expect("read");
    rows.into_iter().map(|row| (row.hour, row.input, row.output)).collect()
}

#[tokio::test]
async fn what_was_spent_is_summed_up_by_the_hour_and_forgotten_after_two_days() {
    let house = House::new();
    let store = house.open();
    let spend = |hour, input| Change::Spent { user: user(), hour, input, output: 1 };
    write(&store, vec![spend(100, 1), spend(100, 2), spend(101, 4)]).await;
    let of_bob = Change::Spent { user: UserId::parse("bob").expect("it is one"), hour: 100, input: 9, output: 9 };
    write(&store, vec![of_bob]).await;
    assert_eq!(spent_since(&store, 100).await, [(100, 3, 2), (101, 4, 1)]);
    assert_eq!(spent_since(&store, 101).await, [(101, 4, 1)]);
    write(&store, vec![spend(149, 8)]).await;
    assert_eq!(spent_since(&store, 0).await, [(101, 4, 1), (149, 8, 1)]);
    assert_eq!(store.spent(&user()).await.expect("read").0, 15, "the sum of all time forgets nothing");
}

#[test]
fn a_store_of_a_later_version_is_refused_with_both_numbers() {
    let house = House::with(&format!("{VERSION_1} PRAGMA user_version = 99;"));
    let refusal = house.refusal();
    assert!(matches!(refusal, StoreError::TooNew { theirs: 99, ours: schema::VERSION, .. }), "{refusal:?}");
    assert!(
        refusal.to_string().ends_with("greenroom.db has version 99; this server knows versions up to 3"),
        "{refusal}"
    );
}

#[test]
fn what_is_no_store_is_refused_with_a_remedy() {
    let text = House::new();
    let letter = "a letter to a friend, longer than the head of a database would be. ".repeat(3);
    std::fs::write(text.path(), &letter).expect("written");
    let foreign = House::with("CREATE TABLE cats (name TEXT)");
    let other_application = House::with("PRAGMA application_id = 7; CREATE TABLE cats (name TEXT)");
    let folder = House::new();
    std::fs::create_dir(folder.path()).expect("made");
    for (house, said) in [
        (&text, "it is not a database; move it away or put a backup in its place"),
        (&foreign, "it is another program's database; move it away"),
        (&other_application, "it is another program's database; move it away"),
        (&folder, "it must be a file of the server's own"),
    ] {
        let refusal = house.refusal();
        assert!(matches!(refusal, StoreError::Open { .. }) && refusal.to_string().contains(said), "{refusal}");
    }
    assert_eq!(std::fs::read_to_string(text.path()).expect("still there"), letter, "it was touched");
}

#[tokio::test]
async fn a_damaged_store_says_so_with_a_remedy() {
    let house = House::new();
    let store = house.open();
    for number in 0..200 {
        store.write(vec![Change::Session(row(&session(number), &"x".repeat(1000)))], Box::new(|| {}));
    }
    store.close(PATIENCE).await;
    drop(store);
    let mut bytes = std::fs::read(house.path()).expect("read");
    let garbage = crate::ids::random_bytes::<4096>();
    bytes[4096..].chunks_exact_mut(4096).for_each(|page| page.copy_from_slice(&garbage));
    std::fs::write(house.path(), bytes).expect("written");
    let refusal = house.refusal();
    let said = refusal.to_string();
    assert!(said.contains("it is damaged") && said.contains("put a backup in its place"), "{said}");
}
