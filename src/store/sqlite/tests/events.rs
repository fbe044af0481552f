//! Reading events, and removing them.

use std::collections::VecDeque;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

/// What is done to a log.
#[derive(Debug, Clone)]
enum Step {
    /// Events of these lengths are written, in one go.
    Write(Vec<usize>),
    /// All up to a part of the log may go.
    Trim(f64),
    /// Events after a part of the log are read.
    Read(f64, usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let length = prop_oneof![8 => 2..40_usize, 1 => 60_000..200_000_usize];
    prop_oneof![
        3 => prop::collection::vec(length, 0..12).prop_map(Step::Write),
        1 => (0.0..1.2).prop_map(Step::Trim),
        4 => (0.0..1.2, 0..20_usize, prop_oneof![0..100_usize, 0..300_000_usize]).prop_map(|(at, limit, bytes)| Step::Read(at, limit, bytes)),
    ]
}

/// The log as it should be.
#[derive(Default)]
struct Model {
    events: VecDeque<Bytes>,
    earliest: u64,
    trimmed: u64,
}

impl Model {
    fn last(&self) -> u64 {
        self.earliest + self.events.len() as u64 - 1
    }

    fn read(&self, after: u64, limit: usize, max_bytes: usize) -> Vec<(u64, Bytes)> {
        let mut bytes = 0;
        let rest = (self.earliest..).zip(&self.events).skip_while(|(seq, _)| *seq <= after);
        rest.take(limit)
            .enumerate()
            .take_while(|(place, (_, text))| {
                bytes += text.len();
                *place == 0 || bytes <= max_bytes
            })
            .map(|(_, (seq, text))| (seq, text.clone()))
            .collect()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "small numbers"
)]
fn part_of(last: u64, part: f64) -> u64 {
    (last as f64 * part) as u64
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_read_gives_what_the_log_has(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let house = House::new();
            let store = house.open();
            let id = session(1);
            write(&store, vec![put(&id)]).await;
            let mut model = Model { earliest: 1, ..Model::default() };
            for step in steps {
                match step {
                    Step::Write(lengths) => {
                        let first = model.last() + 1;
                        let events: Vec<Bytes> = lengths.iter().zip(0..).map(|(length, at)| vec![b'a' + at; *length].into()).collect();
                        model.events.extend(events.iter().cloned());
                        // Some wait for what is under way and some come in company.
                        store.write(vec![Change::Events { session: id.clone(), first, events }], Box::new(|| {}));
                    }
                    Step::Trim(part) => {
                        let up_to = part_of(model.last(), part);
                        model.trimmed = model.trimmed.max(up_to);
                        store.write(vec![Change::Trim { session: id.clone(), up_to }], Box::new(|| {}));
                    }
                    Step::Read(part, limit, max_bytes) => {
                        store.flush(PATIENCE).await.expect("it is written");
                        let after = part_of(model.last(), part);
                        match store.events(&id, after, limit, max_bytes).await.expect("it can be read") {
                            EventRows::Rows(rows) => prop_assert_eq!(rows, model.read(after, limit, max_bytes)),
                            EventRows::Expired { earliest } => {
                                prop_assert!(after + 1 < earliest && earliest <= model.trimmed + 1);
                                while model.earliest < earliest {
                                    model.events.pop_front();
                                    model.earliest += 1;
                                }
                            }
                        }
                    }
                }
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_session_that_is_not_there_has_no_events() {
    let house = House::new();
    let store = house.open();
    assert_eq!(read(&store, &session(1), 0).await, [0; 0]);
    // Not put: it takes nothing.
    write(&store, vec![numbered(&session(1), 1, 3), Change::Mark { session: session(1), document: "x".to_owned() }])
        .await;
    assert_eq!(read(&store, &session(1), 0).await, [0; 0]);
    assert!(store.sessions().await.expect("read").is_empty());
}

#[tokio::test]
async fn trimmed_events_are_told_from_events_that_never_were() {
    let house = House::new();
    let store = house.open();
    let id = session(1);
    write(&store, vec![put(&id)]).await;
    for batch in 0..10 {
        write(&store, vec![numbered(&id, batch * 10 + 1, 10)]).await;
    }
    // In the middle of the seventh row: six rows go.
    write(&store, vec![Change::Trim { session: id.clone(), up_to: 65 }]).await;
    let gone =
        async |store: &Sqlite| store.events(&id, 0, 1, 1).await.expect("read") == EventRows::Expired { earliest: 61 };
    until(async || gone(&store).await).await;
    assert_eq!(store.events(&id, 59, 9, 9).await.expect("read"), EventRows::Expired { earliest: 61 });
    assert_eq!(read(&store, &id, 60).await, (61..=100).collect::<Vec<_>>());
    assert_eq!(read(&store, &id, 100).await, [0; 0]);

    // All of them: the log goes on where it was, also after the next open.
    write(&store, vec![Change::Trim { session: id.clone(), up_to: 100 }]).await;
    until(async || store.events(&id, 99, 1, 1).await.expect("read") == EventRows::Expired { earliest: 101 }).await;
    store.close(PATIENCE).await;
    drop(store);
    let store = house.open();
    let stored = store.sessions().await.expect("read").remove(0);
    assert_eq!((stored.earliest_seq, stored.last_seq, stored.bytes), (101, 100, 0));
    write(&store, vec![numbered(&id, 101, 2)]).await;
    assert_eq!(read(&store, &id, 100).await, [101, 102]);
}

#[tokio::test]
async fn a_forgotten_session_is_gone_at_once_and_its_room_comes_back() {
    let house = House::new();
    let store = house.open();
    let (id, other) = (session(1), session(2));
    let mut changes = vec![put(&id), put(&other), numbered(&other, 1, 1)];
    changes.extend((0..1000).map(|number| Change::Turn { session: id.clone(), number, document: "{}".to_owned() }));
    write(&store, changes).await;
    for batch in 0..40 {
        let events = vec![Bytes::from(vec![b'x'; 100_000])];
        write(&store, vec![Change::Events { session: id.clone(), first: batch + 1, events }]).await;
    }
    store.write(vec![Change::Forget { session: id.clone() }], Box::new(|| {}));
    // Late words about it do nothing.
    write(&store, vec![put(&id), numbered(&id, 41, 1)]).await;
    assert_eq!(read(&store, &id, 0).await, [0; 0]);
    let kept = store.sessions().await.expect("read");
    assert_eq!(kept.iter().map(|kept| &kept.row.session).collect::<Vec<_>>(), [&other]);
    let left = || {
        let db = rusqlite::Connection::open(house.path()).expect("it opens");
        let count = |table: &str| -> i64 {
            db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).expect("it is there")
        };
        ["sessions", "events", "turns", "permissions", "marks", "trims"].map(count)
    };
    until(async || left() == [1, 1, 0, 0, 0, 0]).await;
    assert_eq!(read(&store, &other, 0).await, [1]);
}

#[tokio::test]
async fn what_was_to_be_removed_is_removed_by_the_next_run() {
    let house = House::new();
    let store = house.open();
    let id = session(1);
    write(&store, vec![put(&id), numbered(&id, 1, 10)]).await;
    store.close(PATIENCE).await;
    drop(store);
    let db = rusqlite::Connection::open(house.path()).expect("it opens");
    db.execute_batch("UPDATE sessions SET forgotten = 1").expect("it is written");
    drop(db);
    let store = house.open();
    assert!(store.sessions().await.expect("read").is_empty());
    let db = rusqlite::Connection::open(house.path()).expect("it opens");
    until(async || db.query_row("SELECT count(*) FROM sessions", [], |row| row.get::<_, i64>(0)).expect("read") == 0)
        .await;
}
