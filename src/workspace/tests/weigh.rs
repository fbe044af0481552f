//! What a workspace takes on the disk.

use std::os::unix::fs::symlink;

use super::{
    files::{Held, held},
    *,
};

const MIB: u64 = 1024 * 1024;

impl Held {
    fn weighed(&self) -> Used {
        let live = self.live();
        let mut weigher = live.weigh().expect("nobody else weighs it");
        while !weigher.step().expect("it is there") {}
        live.used().expect("it was weighed")
    }
}

fn nested(held: &Held, depth: usize) {
    let deep = held.at(&vec!["d"; depth].join("/"));
    fs::create_dir_all(deep).expect("made");
}

#[test]
fn a_new_workspace_is_known_to_take_nothing_and_one_that_was_there_is_not_known() {
    let held = held();
    assert_eq!(held.live().used().expect("it is new").bytes, 0);
    fs::write(held.at("a"), vec![1; 1000]).expect("written");
    held.hold.move_back(&held.slot).expect("moved back");
    let again = held.house.slot();
    held.hold.move_in(&again).expect("moved in");
    assert!(held.live().used().is_none());
}

#[test]
fn files_count_where_they_are_and_holes_and_further_names_do_not() {
    let held = held();
    let empty = held.weighed().bytes;
    fs::create_dir_all(held.at("a/b")).expect("made");
    fs::write(held.at("a/b/two"), vec![1; 2 * MIB as usize]).expect("written");
    fs::write(held.at("one"), vec![1; MIB as usize]).expect("written");
    fs::hard_link(held.at("one"), held.at("a/one again")).expect("linked");
    fs::File::create(held.at("hole")).and_then(|file| file.set_len(1 << 40)).expect("made");
    let bytes = held.weighed().bytes - empty;
    assert!((3 * MIB..3 * MIB + MIB / 4).contains(&bytes), "{bytes}");
    fs::remove_dir_all(held.at("a")).expect("removed");
    let bytes = held.weighed().bytes - empty;
    assert!((MIB..MIB + MIB / 4).contains(&bytes), "{bytes}");
}

#[test]
fn what_links_lead_to_counts_for_nothing() {
    let held = held();
    let before = held.weighed().bytes;
    fs::write(held.slot.box_dir().join("outside/large"), vec![1; MIB as usize]).expect("written");
    symlink("../outside", held.at("out")).expect("linked");
    symlink("/", held.at("root")).expect("linked");
    let after = held.weighed();
    assert!(after.bytes - before < MIB / 4 && !after.countless, "{after:?}");
}

#[test]
fn what_is_nested_too_deeply_to_be_counted_is_too_much() {
    let held = held();
    nested(&held, 120);
    assert!(!held.weighed().countless);
    nested(&held, 130);
    let used = held.weighed();
    assert!(used.countless && used.exceeds(u64::MAX));
}

#[test]
fn many_entries_are_weighed_in_pieces_and_by_one_at_a_time() {
    let held = held();
    for number in 0..150 {
        fs::create_dir(held.at(&format!("{number}"))).expect("made");
    }
    let live = held.live();
    let mut weigher = live.weigh().expect("free");
    assert!(live.weigh().is_none(), "somebody is at it");
    assert!(!weigher.step().expect("it is there"), "the rest is another piece");
    let told = live.weighings();
    drop(weigher);
    assert!(told.has_changed().expect("the scale lives"), "who waits learns that it came to nothing");
    let mut weigher = live.weigh().expect("free again");
    while !weigher.step().expect("it is there") {}
}

#[test]
fn a_session_that_is_over_is_not_weighed() {
    let held = held();
    let live = held.live();
    let mut weigher = live.weigh().expect("free");
    held.hold.move_back(&held.slot).expect("moved back");
    assert!(matches!(weigher.step(), Err(FileError::Ended)));
}
