//! An agent that changes the workspace while its user reads and writes.

use std::{
    os::unix::fs::symlink,
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, Instant},
};

use super::{
    files::{held, path},
    *,
};

/// How long the two are at it.
const TIME: Duration = Duration::from_secs(2);

/// Until it is told to stop: swaps a folder for a link that leads out, and back, also one that is being written to.
fn swap(workspace: &Path, stop: &AtomicBool) {
    let at = |name: &str| workspace.join(name);
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let target = if number % 2 == 0 { "real" } else { "../outside" };
        let _raced = fs::remove_file(at("next"));
        let _raced = symlink(target, at("next"));
        let _raced = fs::rename(at("next"), at("dir"));
        // A folder of the same name as files that are written below it, then a link, then nothing.
        let _raced = fs::rename(at("fresh"), at(&format!("was-{}", number % 8)));
        let _raced = symlink("../outside", at("fresh"));
        let _raced = fs::remove_file(at("fresh"));
        let _raced = fs::rename(at("real/sub"), at("moved"));
        let _raced = fs::rename(at("moved"), at("real/sub"));
    }
}

#[test]
fn an_agent_that_swaps_folders_for_links_gets_nothing_outside_touched() {
    let held = held();
    let stop = AtomicBool::new(false);
    fs::create_dir_all(held.at("real/sub")).expect("made");
    fs::write(held.at("real/file"), "inside").expect("written");
    symlink("real", held.at("dir")).expect("linked");
    let (mut inside, mut refused) = (0, 0);
    thread::scope(|scope| {
        scope.spawn(|| swap(&held.slot.workspace(), &stop));
        let begun = Instant::now();
        while begun.elapsed() < TIME {
            match held.read("dir/file") {
                Ok(content) => {
                    assert_eq!(content, b"inside");
                    inside += 1;
                }
                Err(FileError::Outside) => refused += 1,
                Err(FileError::NotFound) => {}
                Err(other) => panic!("{other:?}"),
            }
            assert!(held.read("dir/canary").is_err(), "the canary was read");
            let _raced = held.write("dir/new", b"x");
            let _raced = held.write("fresh/new", b"x");
            let _raced = held.write("fresh/deeper/new", b"x");
            let _raced = held.live().delete(&path("dir/canary"), true);
            let _raced = held.live().delete(&path("fresh/canary"), true);
            let _raced = held.live().delete(&path("fresh"), true);
            let _raced = held.live().list(&path("dir"), None, 10).map(|listing| {
                assert!(!listing.entries.iter().any(|entry| entry.name == "canary"), "the outside was listed");
            });
            let mut packer = held.live().pack(ArchiveLimits { bytes: 1 << 20, entries: 1000 }).expect("begun");
            while !packer.measure().expect("measured") {}
            while let Some(piece) = packer.read().expect("read") {
                assert!(!piece.windows(5).any(|bytes| bytes == b"sings"), "the outside was packed");
            }
            assert!(!held.slot.box_dir().join("outside/new").exists(), "something was written outside");
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(inside > 0 && refused > 0, "{inside} reads inside, {refused} refused: the two never met");
    held.canary_sings();
}
