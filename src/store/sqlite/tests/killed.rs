//! The store's process is killed while it writes.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
    sync::mpsc::sync_channel,
};

use super::*;

const SESSIONS: usize = 8;
const ROUNDS: usize = 10;
const UNDER_WAY: usize = 8;

/// Log bounds so small that the log begins anew all the time.
fn settings() -> Settings {
    const KIB: u64 = 1024;
    Settings { log_step_bytes: 128 * KIB, log_bytes: 512 * KIB, ballast_bytes: 64 * KIB, ..Settings::default() }
}

fn text(seq: u64) -> String {
    format!(r#"{{"seq":{seq},"text":"{}"}}"#, "x".repeat((seq % 400) as usize))
}

/// A write as a session's driver makes them: events, how far the agent was heard, and a turn, all or nothing.
fn changes(session: &SessionId, first: u64, count: u64) -> Vec<Change> {
    let last = first + count - 1;
    let events = (first..=last).map(|seq| text(seq).into()).collect();
    vec![
        Change::Events { session: session.clone(), first, events },
        Change::Mark { session: session.clone(), document: last.to_string() },
        Change::Turn { session: session.clone(), number: first, document: last.to_string() },
    ]
}

/// The child: writes without an end, and says what is durable.
#[test]
#[ignore = "run by the test below"]
fn write_until_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let path = std::path::Path::new(&folder).join(FILE_NAME);
    let store = Sqlite::open(&path, &settings()).expect("the store opens");
    let stored = tokio_test(async { store.sessions().await.expect("read") });
    let mut next = [1; SESSIONS];
    for stored in &stored {
        let number = (0..SESSIONS).find(|number| session(*number) == stored.row.session).expect("one of ours");
        next[number] = stored.last_seq + 1;
    }
    let (permit, permits) = sync_channel(UNDER_WAY * SESSIONS);
    (0..UNDER_WAY * SESSIONS).for_each(|_| permit.send(()).expect("there is room"));
    for turn in 0.. {
        permits.recv().expect("the store lives");
        let number = turn % SESSIONS;
        let id = session(number);
        let (first, count) = (next[number], 1 + (turn as u64 * 7) % 30);
        next[number] += count;
        let mut changes = changes(&id, first, count);
        if first == 1 {
            changes.insert(0, put(&id));
        }
        let (permit, last) = (permit.clone(), first + count - 1);
        let done = move || {
            // One call, so that a kill leaves no half line.
            std::io::stdout().write_all(format!("\ndurable {number} {last}\n").as_bytes()).expect("the parent listens");
            permit.send(()).expect("the child lives");
        };
        store.write(changes, Box::new(done));
    }
}

fn tokio_test<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

/// Lets a child write until it has told `count` times of something durable, and kills it. What it told of each session.
fn write_and_kill(folder: &std::path::Path, count: usize) -> [u64; SESSIONS] {
    let mut child = child("killed::write_until_killed", folder, Command::new(this_program()))
        .stdout(Stdio::piped())
        .spawn()
        .expect("it was built for this");
    let mut told = [0; SESSIONS];
    let mut left = count;
    for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
        let line = line.expect("it can be read");
        let Some((number, last)) = line.strip_prefix("durable ").and_then(|told| told.split_once(' ')) else {
            continue;
        };
        told[number.parse::<usize>().expect("a number")] = last.parse().expect("a number");
        left = left.saturating_sub(1);
        if left == 0 {
            // What it said before is read to the end.
            child.kill().expect("it is ours");
        }
    }
    child.wait().expect("it is ours");
    assert_eq!(left, 0, "it ended by itself");
    told
}

#[tokio::test]
async fn whoever_is_killed_leaves_what_was_durable_and_no_half_of_anything() {
    let house = House { settings: settings(), ..House::new() };
    let mut written = 0;
    for round in 0..ROUNDS {
        let count = 1 + usize::from(u16::from_le_bytes(crate::ids::random_bytes())) % 2000;
        let told = write_and_kill(house.folder.path(), count);
        let store = house.open();
        let stored = store.sessions().await.expect("read");
        for (number, told) in told.into_iter().enumerate() {
            let id = session(number);
            let Some(stored) = stored.iter().find(|stored| stored.row.session == id) else {
                assert_eq!(told, 0, "round {round}: session {number} is lost");
                continue;
            };
            let last = stored.last_seq;
            assert!(last >= told, "round {round}: {told} was durable, {last} is there");
            let last_text = Some(last.to_string()).filter(|_| last > 0);
            assert_eq!(
                (stored.mark.as_ref(), stored.turns.last()),
                (last_text.as_ref(), last_text.as_ref()),
                "a half batch"
            );
            let rows = store.events(&id, 0, usize::MAX, usize::MAX).await.expect("read");
            let whole = (1..=last).map(|seq| (seq, text(seq).into())).collect();
            assert!(rows == EventRows::Rows(whole), "round {round}: session {number} has a hole, or another's text");
            written = written.max(last);
        }
        store.close(PATIENCE).await;
    }
    assert!(written > 0);
    let db = rusqlite::Connection::open(house.path()).expect("it opens");
    assert_eq!(db.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0)).expect("read"), "ok");
}
