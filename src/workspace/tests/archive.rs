//! A whole workspace out and in.

use std::{collections::BTreeMap, io::Read as _, os::unix::fs::symlink};

use proptest::prelude::*;
use tar::{Builder, EntryType, Header};

use super::{
    files::{Held, held, path},
    *,
};

const LIMITS: ArchiveLimits = ArchiveLimits { bytes: 1024 * 1024, entries: 200 };

impl Held {
    fn pack(&self, limits: ArchiveLimits) -> Result<Vec<u8>, FileError> {
        let mut packer = self.live().pack(limits)?;
        while !packer.measure()? {}
        let mut archive = Vec::new();
        while let Some(piece) = packer.read()? {
            archive.extend_from_slice(&piece);
        }
        Ok(archive)
    }

    /// Unpacks, given in pieces of this size.
    fn unpack(&self, archive: &[u8], piece: usize) -> Result<(), FileError> {
        let mut unpacker = self.live().unpack(LIMITS);
        archive.chunks(piece).try_for_each(|piece| unpacker.take(piece))?;
        unpacker.finish()
    }
}

/// An archive of one entry, whose names are written as they are.
fn archive_of(kind: EntryType, name: &str, target: &str, content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o4777);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut builder = Builder::new(Vec::new());
    builder.append(&header, content).expect("into memory");
    builder.into_inner().expect("into memory")
}

/// What is in an archive, as another program reads it: name to kind, link target and content.
fn read(archive: &[u8]) -> BTreeMap<String, (EntryType, String, Vec<u8>)> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().expect("an archive").map(|entry| {
        let mut entry = entry.expect("an entry");
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("whole");
        let target = entry.link_name().expect("a name").map(|link| link.to_string_lossy().into_owned());
        let name = entry.path().expect("a name").to_string_lossy().into_owned();
        (name, (entry.header().entry_type(), target.unwrap_or_default(), content))
    });
    entries.collect()
}

#[test]
fn what_goes_out_is_what_comes_in() {
    let (from, to) = (held(), held());
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(200));
    let large: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).take(300_001).collect();
    from.write("a/b/file", b"content").expect("written");
    from.write(&long, b"long").expect("written");
    from.write("empty", b"").expect("written");
    fs::write(from.at("large"), &large).expect("written");
    fs::create_dir_all(from.at("bare/folder")).expect("made");
    symlink("../a/b/file", from.at("bare/link")).expect("linked");
    symlink("l".repeat(150), from.at("long-link")).expect("linked");
    fs::set_permissions(from.at("a/b/file"), fs::Permissions::from_mode(0o711)).expect("changed");

    let archive = from.pack(LIMITS).expect("packed");
    let entries = read(&archive);
    assert_eq!(entries["a/b/file"].2, b"content");
    assert_eq!(entries["large"].2, large);
    assert_eq!(entries["bare/link"], (EntryType::Symlink, "../a/b/file".to_owned(), vec![]));
    assert_eq!(entries[&long].2, b"long");
    for piece in [1, 511, 512, 513, 100_000] {
        to.unpack(&archive, piece).expect("unpacked");
        assert_eq!(to.read(&long).expect("read"), b"long");
        assert_eq!(to.read("bare/link").expect("read"), b"content");
        assert_eq!(fs::read(to.at("large")).expect("read"), large);
        assert_eq!(to.pack(LIMITS).map(|again| read(&again)).expect("packed"), entries);
    }
    let mode = |name: &str| fs::metadata(to.at(name)).expect("there").permissions().mode() & 0o7777;
    assert_eq!((mode("a/b/file"), mode("empty"), mode("bare/folder")), (0o755, 0o644, 0o755));
}

#[test]
fn what_leads_out_or_is_neither_file_nor_folder_is_left_out() {
    let held = held();
    held.write("file", b"x").expect("written");
    rustix::fs::mkfifoat(rustix::fs::CWD, held.at("pipe"), rustix::fs::Mode::RWXU).expect("made");
    for (name, target) in [("out", "../outside"), ("root", "/"), ("sneaky", "a/../../b"), ("inside", "file")] {
        symlink(target, held.at(name)).expect("linked");
    }
    let entries = read(&held.pack(LIMITS).expect("packed"));
    assert_eq!(entries.keys().collect::<Vec<_>>(), ["file", "inside"]);
}

#[test]
fn an_archive_that_would_be_too_large_is_not_begun() {
    let held = held();
    fs::File::create(held.at("sparse")).expect("made").set_len(1 << 40).expect("a hole");
    assert!(matches!(held.live().pack(LIMITS).expect("begun").measure(), Err(FileError::TooLarge(_))));
    held.live().delete(&path("sparse"), false).expect("removed");
    for number in 0..LIMITS.entries {
        fs::write(held.at(&number.to_string()), "").expect("written");
    }
    held.pack(LIMITS).expect("just as many as may be");
    fs::write(held.at("one-more"), "").expect("written");
    assert!(matches!(held.live().pack(LIMITS), Err(FileError::TooLarge(_))));
}

#[test]
fn a_file_that_shrinks_while_it_is_packed_does_not_shift_what_follows() {
    let held = held();
    fs::write(held.at("a"), vec![b'x'; 400_000]).expect("written");
    held.write("b", b"after").expect("written");
    let mut packer = held.live().pack(LIMITS).expect("begun");
    assert!(packer.measure().expect("measured"));
    let mut archive = packer.read().expect("read").expect("some").to_vec();
    fs::write(held.at("a"), "").expect("cut");
    while let Some(piece) = packer.read().expect("read") {
        archive.extend_from_slice(&piece);
    }
    let entries = read(&archive);
    assert_eq!((entries["a"].2.len(), entries["b"].2.as_slice()), (400_000, &b"after"[..]));
}

#[test]
fn what_an_archive_must_not_have_is_refused_and_nothing_outside_is_touched() {
    let held = held();
    symlink("../outside", held.at("out")).expect("linked");
    let cases = [
        (EntryType::Regular, "../outside/new", ""),
        (EntryType::Regular, "a/../../outside/new", ""),
        (EntryType::Regular, "/tmp/new", ""),
        (EntryType::Regular, "out/new", ""),
        (EntryType::Directory, "out/new", ""),
        (EntryType::Directory, "..", ""),
        (EntryType::Symlink, "link", "../outside"),
        (EntryType::Symlink, "link", "/etc"),
        (EntryType::Symlink, "link", "a/.."),
        (EntryType::Symlink, "link", ""),
        (EntryType::Symlink, "out/link", "x"),
        (EntryType::Link, "hard", "out/canary"),
        (EntryType::Fifo, "pipe", ""),
        (EntryType::Char, "device", ""),
        (EntryType::Block, "device", ""),
        (EntryType::GNUSparse, "sparse", ""),
        (EntryType::new(b'?'), "unknown", ""),
        (EntryType::Regular, "", ""),
        (EntryType::Regular, ".", ""),
    ];
    for (kind, name, target) in cases {
        let refused = held.unpack(&archive_of(kind, name, target, b""), 512);
        assert!(matches!(refused, Err(FileError::Invalid(_))), "{kind:?} {name} {target}: {refused:?}");
    }
    assert_eq!(held.names(""), ["out"]);
    held.canary_sings();
}

#[test]
fn an_archive_cannot_lead_its_own_files_out() {
    let held = held();
    let mut archive = archive_of(EntryType::Symlink, "dir", "sub", b"");
    archive.truncate(512);
    archive.extend(archive_of(EntryType::Regular, "dir/file", "", b"x"));
    // The link leads nowhere yet: nothing is made through it.
    assert!(held.unpack(&archive, 512).is_err());
    fs::create_dir(held.at("sub")).expect("made");
    held.unpack(&archive, 512).expect("unpacked");
    assert_eq!(held.names("sub"), ["file"]);
    // A link replaces a link and nothing else.
    held.unpack(&archive_of(EntryType::Symlink, "dir", "other", b""), 512).expect("unpacked");
    let refused = held.unpack(&archive_of(EntryType::Symlink, "sub", "other", b""), 512);
    assert!(matches!(refused, Err(FileError::Conflict(_))));
    held.canary_sings();
}

#[test]
fn damaged_and_cut_archives_are_refused() {
    let held = held();
    let good = archive_of(EntryType::Regular, "file", "", b"content");
    for cut in [0, 100, 512, 515, 1024] {
        assert!(matches!(held.unpack(&good[..cut], 512), Err(FileError::Invalid(_))), "{cut}");
    }
    // Cut in its content it has no name; whole, it has.
    assert_eq!(held.names(""), ["file"]);
    let mut damaged = good.clone();
    damaged[0] ^= 1;
    assert!(matches!(held.unpack(&damaged, 512), Err(FileError::Invalid(_))));
    assert!(matches!(held.unpack(b"\x1f\x8b this is no tar", 512), Err(FileError::Invalid(_))));
    let mut followed = good;
    followed.extend_from_slice(b"whatever comes after the end");
    held.unpack(&followed, 512).expect("the rest is passed over");
}

#[test]
fn what_an_archive_may_have_is_counted() {
    let held = held();
    let deep = format!("{}file", "d/".repeat(45));
    let mut unpacker = held.live().unpack(ArchiveLimits { bytes: 10_000, entries: 46 });
    unpacker.take(&archive_of(EntryType::Regular, &deep, "", b"")).expect("46 in all");
    let mut unpacker = held.live().unpack(ArchiveLimits { bytes: 10_000, entries: 46 });
    let other = deep.replace('d', "e");
    let longer = archive_of(EntryType::Regular, &format!("e/{other}"), "", b"");
    assert!(matches!(unpacker.take(&longer), Err(FileError::TooLarge(_))));

    let mut said = Header::new_gnu();
    said.set_path("huge").expect("short");
    said.set_size(u64::MAX >> 1);
    said.set_cksum();
    assert!(matches!(held.unpack(said.as_bytes(), 512), Err(FileError::TooLarge(_))));
    assert!(matches!(held.unpack(&vec![0; 2 * 1024 * 1024], 65_536), Err(FileError::TooLarge(_))));
}

#[test]
fn pax_archives_are_understood() {
    let held = held();
    let long = format!("{}/file", "p".repeat(150));
    let mut builder = Builder::new(Vec::new());
    builder.append_pax_extensions([("path", long.as_bytes()), ("mtime", b"1.5")]).expect("into memory");
    let mut header = Header::new_ustar();
    header.set_path("short").expect("short");
    header.set_size(1);
    header.set_cksum();
    builder.append(&header, &b"x"[..]).expect("into memory");
    held.unpack(&builder.into_inner().expect("into memory"), 700).expect("unpacked");
    assert_eq!(held.read(&long).expect("read"), b"x");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever comes, it is unpacked or refused; what was given in other pieces comes to the same.
    #[test]
    fn no_archive_brings_it_down(changes in prop::collection::vec((0_usize..4096, any::<u8>()), 0..6), sum in any::<bool>(), piece in 1_usize..2000) {
        let (one, other) = (held(), held());
        let mut archive = archive_of(EntryType::GNULongName, "././@LongLink", "", b"some/where/far");
        archive.truncate(1024);
        archive.extend(archive_of(EntryType::Regular, "x", "", &[7; 700]));
        archive.truncate(1024 + 512 + 1024);
        archive.extend(archive_of(EntryType::Symlink, "y", "x", b""));
        for (at, byte) in changes {
            let at = at % archive.len();
            archive[at] = byte;
            if sum {
                // A header that is wrong, and signed all the same.
                let begin = at / 512 * 512;
                let mut header = Header::from_byte_slice(&archive[begin..begin + 512]).clone();
                header.set_cksum();
                archive[begin..begin + 512].copy_from_slice(header.as_bytes());
            }
        }
        let whole = one.unpack(&archive, usize::MAX);
        let pieces = other.unpack(&archive, piece);
        prop_assert_eq!(whole.is_ok(), pieces.is_ok());
        one.canary_sings();
        other.canary_sings();
    }
}
