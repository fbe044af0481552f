//! Copies of a store that is being written.

use std::{
    os::unix::fs::PermissionsExt as _,
    sync::atomic::{AtomicBool, Ordering},
};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_made_at_full_speed_is_a_beginning_of_the_log() {
    let house = House::new();
    let store = house.open();
    let stop = Arc::new(AtomicBool::new(false));
    let ids = [session(0), session(1)];
    write(&store, ids.iter().map(put).collect()).await;
    let writer = {
        let (store, stop, ids) = (Arc::clone(&store), Arc::clone(&stop), ids.clone());
        tokio::spawn(async move {
            let mut next = 1;
            while !stop.load(Ordering::Relaxed) {
                // Both sessions in one batch: a copy has both or neither.
                store.write(ids.iter().map(|id| numbered(id, next, 20)).collect(), Box::new(|| {}));
                next += 20;
                if next % 400 == 1 {
                    store.flush(PATIENCE).await.expect("it is written");
                }
            }
            next - 1
        })
    };
    let mut lengths = Vec::new();
    for number in 0..3 {
        let copies = House::new();
        let (from, to) = (house.path(), copies.path());
        let before = store.sessions().await.expect("read")[0].last_seq;
        let copied = task::spawn_blocking(move || backup(&from, &to)).await.expect("it ends").expect("it is copied");
        let data = std::fs::metadata(copies.path()).expect("it is there");
        assert_eq!((data.len(), data.permissions().mode() & 0o777), (copied.bytes, 0o600));
        assert_eq!(std::fs::read_dir(copies.folder.path()).expect("readable").count(), 1, "something was left behind");
        let copy = copies.open();
        let kept = copy.sessions().await.expect("read");
        let last = kept[0].last_seq;
        assert!(
            last >= before && last == kept[1].last_seq,
            "copy {number}: {before} before, {last} and {} in it",
            kept[1].last_seq
        );
        for id in &ids {
            assert_eq!(read(&copy, id, 0).await, (1..=last).collect::<Vec<_>>());
        }
        lengths.push(last);
    }
    stop.store(true, Ordering::Relaxed);
    let written = writer.await.expect("it ends");
    assert!(lengths.is_sorted() && lengths[2] <= written, "{lengths:?} of {written}");
    assert_eq!(read(&store, &ids[0], 0).await.len() as u64, written);
}

#[tokio::test]
async fn nothing_is_overwritten_and_a_failed_copy_leaves_nothing() {
    let house = House::new();
    house.open().close(PATIENCE).await;
    let to = house.folder.path().join("copy");
    std::fs::write(&to, "precious").expect("written");
    assert!(matches!(backup(&house.path(), &to), Err(BackupError::Exists(_))));
    assert_eq!(std::fs::read_to_string(&to).expect("there"), "precious");
    let nowhere = house.folder.path().join("no such folder/copy");
    assert!(matches!(backup(&house.path(), &nowhere), Err(BackupError::Target { .. })));
    for (content, reason) in [
        (None, "there is no such file"),
        (Some("a letter"), "not a database"),
        (Some(""), "not a store of Greenroom's"),
    ] {
        let source = house.folder.path().join("source");
        if let Some(content) = content {
            std::fs::write(&source, content).expect("written");
        }
        let refusal = backup(&source, &house.folder.path().join("new")).expect_err("it is no store").to_string();
        assert!(refusal.contains(reason), "{refusal}");
    }
    for file in std::fs::read_dir(house.folder.path()).expect("readable") {
        let name = file.expect("readable").file_name().into_string().expect("ours are UTF-8");
        assert!(name != "new" && !name.ends_with(".part"), "{name} was left behind");
    }
}
