//! The store as its users see it, in a file of each test's own.

mod claims;
mod copies;
mod durable;
mod events;
mod full;
mod killed;
mod versions;

use std::{path::PathBuf, process::Command};

use tempfile::TempDir;

use super::*;
use crate::store::SessionRow;

const PATIENCE: Duration = Duration::from_secs(20);

/// A folder with a store in it, which can be closed and opened again.
struct House {
    folder: TempDir,
    settings: Settings,
}

impl House {
    fn new() -> Self {
        let settings = Settings { ballast_bytes: 64 * 1024, ..Settings::default() };
        Self { folder: tempfile::tempdir().expect("a folder for the test"), settings }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(FILE_NAME)
    }

    fn open(&self) -> Arc<Sqlite> {
        Sqlite::open(&self.path(), &self.settings).expect("the store opens")
    }
}

fn session(number: usize) -> SessionId {
    SessionId::from_client(&format!("ses_{number}"))
}

fn user() -> UserId {
    UserId::parse("ada").expect("it is one")
}

fn row(session: &SessionId, document: &str) -> SessionRow {
    SessionRow { session: session.clone(), user: user(), ended_at: None, document: document.to_owned() }
}

fn put(session: &SessionId) -> Change {
    Change::Session(row(session, "{}"))
}

/// `count` events from `first` on, each telling its number.
fn numbered(session: &SessionId, first: u64, count: u64) -> Change {
    let events = (first..first + count).map(|seq| format!(r#"{{"seq":{seq}}}"#).into()).collect();
    Change::Events { session: session.clone(), first, events }
}

/// Writes, and waits until it is durable.
async fn write(store: &Sqlite, changes: Vec<Change>) {
    store.write(changes, Box::new(|| {}));
    store.flush(PATIENCE).await.expect("it is written");
}

async fn read(store: &Sqlite, session: &SessionId, after: u64) -> Vec<u64> {
    match store.events(session, after, usize::MAX, usize::MAX).await.expect("it can be read") {
        EventRows::Rows(rows) => rows
            .into_iter()
            .map(|(seq, text)| {
                assert_eq!(text, format!(r#"{{"seq":{seq}}}"#), "the text is another's");
                seq
            })
            .collect(),
        EventRows::Expired { earliest } => panic!("expired; the earliest is {earliest}"),
    }
}

/// Waits until something is so.
async fn until(mut so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so().await {
        assert!(Instant::now() < deadline, "it did not come to be");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Tells a child where to work.
const FOLDER: &str = "GREENROOM_TEST_FOLDER";

/// This test program itself.
fn this_program() -> PathBuf {
    std::env::current_exe().expect("the kernel knows")
}

/// A child that runs one of the ignored tests below this module; `command` ends with this program.
fn child(test: &str, folder: &Path, mut command: Command) -> Command {
    let (_crate, module) = module_path!().split_once("::").expect("it is in a crate");
    let test = format!("{module}::{test}");
    command.args([&test, "--exact", "--ignored", "--nocapture", "--test-threads=1"]).env(FOLDER, folder);
    command
}
