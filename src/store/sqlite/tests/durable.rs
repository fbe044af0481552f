//! What was written is there when the store is opened again, in the order it was given.

use std::sync::Mutex;

use super::*;

#[tokio::test]
async fn what_was_written_is_there_after_the_next_open() {
    let house = House::new();
    let (one, other) = (session(1), session(2));
    let store = house.open();
    let ended_at = Some("2026-11-20T12:00:00.123456789Z".parse().expect("it is one"));
    let part = |document: &str| (one.clone(), document.to_owned());
    let turn = |number, (session, document)| Change::Turn { session, number, document };
    let permission = |number, (session, document)| Change::Permission { session, number, document };
    store.write(vec![put(&one), put(&other)], Box::new(|| {}));
    store.write(vec![turn(2, part("second")), turn(1, part("first")), permission(7, part("may it?"))], Box::new(|| {}));
    store.write(
        vec![numbered(&one, 1, 3), Change::Mark { session: one.clone(), document: "here".to_owned() }],
        Box::new(|| {}),
    );
    store.write(
        vec![
            Change::Session(SessionRow { ended_at, ..row(&one, "changed") }),
            turn(2, part("second, changed")),
            Change::Spent { user: user(), hour: 7, input: 5, output: 7 },
        ],
        Box::new(|| {}),
    );
    write(&store, vec![Change::Spent { user: user(), hour: 7, input: 1, output: 1 }]).await;
    store.close(PATIENCE).await;
    assert!(matches!(store.sessions().await, Err(StoreError::Closed)));
    drop(store);

    let store = house.open();
    let [first, second] = <[StoredSession; 2]>::try_from(store.sessions().await.expect("read")).expect("two sessions");
    assert_eq!(first.row, SessionRow { ended_at, ..row(&one, "changed") });
    assert_eq!(
        (first.turns, first.permissions),
        (vec!["first".to_owned(), "second, changed".to_owned()], vec!["may it?".to_owned()])
    );
    assert_eq!((first.mark.as_deref(), first.earliest_seq, first.last_seq, first.bytes), (Some("here"), 1, 3, 27));
    assert_eq!((second.row, second.mark, second.earliest_seq, second.last_seq), (row(&other, "{}"), None, 1, 0));
    assert_eq!(store.spent(&user()).await.expect("read"), (6, 8));
    assert_eq!(store.spent(&UserId::parse("bob").expect("it is one")).await.expect("read"), (0, 0));
    assert_eq!(read(&store, &one, 1).await, [2, 3]);
}

#[tokio::test]
async fn durable_changes_are_told_in_the_order_they_were_given() {
    let house = House::new();
    let store = house.open();
    let told = Arc::new(Mutex::new(Vec::new()));
    for number in 0..2000 {
        let (told, id) = (Arc::clone(&told), session(number % 7));
        let done = move || told.lock().expect("nobody panics").push(number);
        store.write(vec![put(&id)], Box::new(done));
    }
    store.flush(PATIENCE).await.expect("it is written");
    assert_eq!(*told.lock().expect("nobody panics"), (0..2000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_batch_that_can_never_be_written_is_left_out_and_blocks_nobody() {
    let house = House::new();
    let store = house.open();
    let (one, other) = (session(1), session(2));
    write(&store, vec![put(&one), put(&other), numbered(&one, 1, 1)]).await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let batches = [
        vec![numbered(&other, 1, 2)],
        // A hole: nothing of this batch may be written.
        vec![Change::Mark { session: one.clone(), document: "ahead".to_owned() }, numbered(&one, 3, 1)],
        vec![numbered(&one, 2, 1)],
    ];
    for (number, changes) in batches.into_iter().enumerate() {
        let told = Arc::clone(&told);
        store.write(changes, Box::new(move || told.lock().expect("nobody panics").push(number)));
    }
    store.flush(PATIENCE).await.expect("it is written");
    assert_eq!(*told.lock().expect("nobody panics"), [0, 2]);
    assert_eq!((read(&store, &one, 0).await, read(&store, &other, 0).await), (vec![1, 2], vec![1, 2]));
    assert_eq!(store.sessions().await.expect("read")[0].mark, None);
}

#[tokio::test]
async fn a_closed_store_drops_what_it_is_given_untold() {
    let house = House::new();
    let store = house.open();
    store.close(PATIENCE).await;
    let (told, durable) = oneshot::channel::<()>();
    store.write(
        vec![put(&session(1))],
        Box::new(move || {
            let _nobody_waits = told.send(());
        }),
    );
    assert!(durable.await.is_err());
    assert!(matches!(store.flush(PATIENCE).await, Err(StoreError::Closed)));
    store.close(PATIENCE).await;
}

#[tokio::test]
async fn the_files_are_for_the_server_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let house = House::new();
    std::fs::write(house.path(), "").expect("the folder is writable");
    std::fs::set_permissions(house.path(), std::fs::Permissions::from_mode(0o644)).expect("it is ours");
    let store = house.open();
    write(&store, vec![put(&session(1))]).await;
    let files: Vec<_> =
        std::fs::read_dir(house.folder.path()).expect("readable").map(|file| file.expect("readable")).collect();
    assert_eq!(files.len(), 4, "the file, its log, the log's index and the ballast: {files:?}");
    for file in files {
        assert_eq!(file.metadata().expect("readable").permissions().mode() & 0o777, 0o600, "{file:?}");
    }
}

#[tokio::test]
async fn the_log_of_changes_has_a_bound_while_it_is_written_without_a_pause() {
    const MIB: u64 = 1024 * 1024;
    let mut house = House::new();
    house.settings = Settings { log_step_bytes: MIB / 4, log_bytes: MIB, ..house.settings };
    let store = house.open();
    let id = session(1);
    write(&store, vec![put(&id)]).await;
    let log = house.folder.path().join(format!("{FILE_NAME}-wal"));
    let (mut longest, mut written, mut rounds) = (0, 0, 0..800);
    // How long it becomes is the disk's speed; that it begins anew shows in how much more was written than it ever held.
    while written < 3 * longest.max(8 * MIB) {
        let round = rounds.next().expect("it begins anew long before that");
        for seq in round * 10 + 1..=round * 10 + 10 {
            let events = vec![vec![b'x'; 64 * 1024].into()];
            store.write(vec![Change::Events { session: id.clone(), first: seq, events }], Box::new(|| {}));
        }
        written += 10 * 64 * 1024;
        // Only so much is under way.
        store.flush(PATIENCE).await.expect("it is written");
        longest = longest.max(std::fs::metadata(&log).expect("it is there").len());
    }
}
