//! The store can't be written: a full disk (a small one, in a mount namespace of the test's own), or another program that holds it.

use std::{
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
};

use super::*;

const KIB: u64 = 1024;
/// Text of one write.
const TEXT: usize = 32 * 1024;

/// Settings that fit a disk of 6 MiB.
fn settings(ballast_bytes: u64) -> Settings {
    Settings { log_step_bytes: 128 * KIB, log_bytes: 512 * KIB, ballast_bytes, ..Settings::default() }
}

/// Runs a test of this file, one of the ignored, in a folder that is a disk of 6 MiB. Whoever may not mount one can't run it.
fn on_a_small_disk(test: &str) {
    const MOUNT: &str =
        "mount -t tmpfs -o size=6m,mode=700 none \"$GREENROOM_TEST_FOLDER\" || exit 77; exec \"$0\" \"$@\"";
    let folder = tempfile::tempdir().expect("a folder for the test");
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "--", "sh", "-c", MOUNT]).arg(this_program());
    let output = child(&format!("full::{test}"), folder.path(), command).output();
    let output = output.expect("util-linux is there");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.code() == Some(77) || said.contains("unshare failed") {
        eprintln!("skipped: no disk may be mounted here: {said}");
        return;
    }
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// A store on the small disk, and how much of what was written is durable.
struct Disk {
    folder: PathBuf,
    store: Arc<Sqlite>,
    durable: Arc<AtomicU64>,
    given: u64,
}

impl Disk {
    fn open(ballast_bytes: u64) -> Option<Self> {
        let folder = PathBuf::from(std::env::var_os(FOLDER)?);
        let store = Sqlite::open(&folder.join(FILE_NAME), &settings(ballast_bytes)).expect("the store opens");
        Some(Self { folder, store, durable: Arc::default(), given: 0 })
    }

    /// Gives the store changes; they are to be durable after all before.
    fn give(&mut self, changes: Vec<Change>) {
        self.given += 1;
        let (durable, given) = (Arc::clone(&self.durable), self.given);
        let done = move || assert_eq!(durable.fetch_add(1, Ordering::SeqCst) + 1, given, "not in the order given");
        self.store.write(changes, Box::new(done));
    }

    fn give_event(&mut self, session: &SessionId, seq: u64) {
        let events = vec![vec![b'x'; TEXT].into()];
        self.give(vec![Change::Events { session: session.clone(), first: seq, events }]);
    }

    fn is_failing(&self) -> bool {
        *self.store.health.borrow() != Health::Well
    }

    fn all_durable(&self) -> bool {
        self.durable.load(Ordering::SeqCst) == self.given
    }

    /// Writes events from `next` on until the disk is full; the last of them is not durable. The number of the next.
    async fn fill(&mut self, session: &SessionId, mut next: u64) -> u64 {
        while !self.is_failing() {
            assert!(next < 1000, "the disk is never full");
            self.give_event(session, next);
            next += 1;
            until(async || self.all_durable() || self.is_failing()).await;
        }
        next
    }

    /// How many events can be read.
    async fn count(&self, session: &SessionId) -> u64 {
        match self.store.events(session, 0, usize::MAX, usize::MAX).await.expect("it can be read") {
            EventRows::Rows(rows) => rows.len() as u64,
            EventRows::Expired { earliest } => panic!("expired; the earliest is {earliest}"),
        }
    }

    /// Waits until nothing is left of what was forgotten.
    async fn until_removed(&self) {
        const FORGOTTEN: &str = "SELECT count(*) FROM sessions WHERE forgotten";
        self.until_healed().await;
        let db = rusqlite::Connection::open(self.folder.join(FILE_NAME)).expect("it opens");
        until(async || db.query_row(FORGOTTEN, [], |row| row.get::<_, i64>(0)).expect("read") == 0).await;
    }

    async fn until_healed(&self) {
        until(async || self.all_durable() && !self.is_failing()).await;
    }
}

#[test]
fn a_full_disk_loses_nothing_and_heals_when_something_is_forgotten() {
    on_a_small_disk("fill_and_forget");
}

#[tokio::test]
#[ignore = "run by the test above"]
async fn fill_and_forget() {
    let Some(mut disk) = Disk::open(1024 * KIB) else { return };
    let new = session(0);
    disk.give(vec![put(&new)]);
    // Again and again: the reserve comes back too, as room in the file.
    for round in 1..=5 {
        let old = session(round);
        disk.give(vec![put(&old)]);
        let next = disk.fill(&old, 1).await;
        assert!(next > 20, "round {round}: full after {next}");
        let of_new = 5 * round as u64;
        (of_new - 4..=of_new).for_each(|seq| disk.give_event(&new, seq));
        let late = disk.store.flush(Duration::from_millis(300)).await;
        assert!(matches!(&late, Err(StoreError::Failing(reason)) if reason == "the disk is full"), "{late:?}");
        // What is durable can be read.
        assert_eq!(disk.count(&old).await, next - 2);
        if round % 2 == 0 {
            disk.give(vec![Change::Trim { session: old.clone(), up_to: next - 2 }]);
        } else {
            disk.give(vec![Change::Forget { session: old.clone() }]);
        }
        disk.until_healed().await;
        assert_eq!(disk.count(&new).await, of_new);
        disk.give(vec![Change::Forget { session: old.clone() }]);
        disk.until_removed().await;
    }
    disk.store.close(PATIENCE).await;
}

#[test]
fn a_disk_that_others_filled_heals_the_store_when_they_make_room() {
    on_a_small_disk("filled_by_others");
}

#[tokio::test]
#[ignore = "run by the test above"]
async fn filled_by_others() {
    let Some(mut disk) = Disk::open(1024 * KIB) else { return };
    let id = session(1);
    disk.give(vec![put(&id)]);
    disk.until_healed().await;
    let filler = disk.folder.join("filler");
    assert!(std::fs::write(&filler, vec![0; 8 * 1024 * 1024]).is_err(), "the disk is larger than that");
    let next = disk.fill(&id, 1).await;
    (next..next + 20).for_each(|seq| disk.give_event(&id, seq));
    // What the ballast gave is gone at once, too.
    let more = disk.folder.join("more");
    let _full = std::fs::write(&more, vec![0; 8 * 1024 * 1024]);
    assert!(matches!(disk.store.flush(Duration::from_secs(2)).await, Err(StoreError::Failing(_))));
    assert!(!disk.all_durable());
    for path in [filler, more] {
        std::fs::remove_file(path).expect("it is there");
    }
    disk.until_healed().await;
    assert_eq!(disk.count(&id).await, next + 19);
    disk.store.close(PATIENCE).await;
}

#[tokio::test]
async fn a_store_that_another_program_holds_waits_for_it_and_heals() {
    let house = House::new();
    let store = house.open();
    write(&store, vec![put(&session(1))]).await;
    let other = rusqlite::Connection::open(house.path()).expect("it opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("nobody else writes now");
    store.write(vec![numbered(&session(1), 1, 1)], Box::new(|| {}));
    let mut health = store.health();
    let failing = time::timeout(PATIENCE, health.wait_for(|health| *health != Health::Well)).await;
    assert!(
        matches!(&*failing.expect("in time").expect("the store lives"), Health::Failing(reason) if reason.contains("another program"))
    );
    assert_eq!(read(&store, &session(1), 0).await, [0; 0]);
    other.execute_batch("COMMIT").expect("it can");
    store.flush(PATIENCE).await.expect("it is written");
    assert_eq!((read(&store, &session(1), 0).await, &*health.borrow_and_update()), (vec![1], &Health::Well));
}

#[tokio::test]
async fn a_store_that_fails_while_it_is_closed_gives_up_in_time() {
    let house = House::new();
    let store = house.open();
    write(&store, vec![put(&session(1))]).await;
    let other = rusqlite::Connection::open(house.path()).expect("it opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("nobody else writes now");
    let (told, durable) = oneshot::channel::<()>();
    let done = move || {
        let _nobody_waits = told.send(());
    };
    store.write(vec![numbered(&session(1), 1, 1)], Box::new(done));
    let begun = Instant::now();
    store.close(Duration::from_millis(10)).await;
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert!(durable.await.is_err(), "it was not written");
}
