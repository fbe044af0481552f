//! Files of a workspace that a session holds.

use std::{
    io::Write as _,
    os::unix::fs::{MetadataExt as _, symlink},
};

use rustix::fs::{CWD, Mode, mkfifoat};

use super::*;

/// A workspace in its slot, and a canary beside it that nothing may touch.
pub(super) struct Held {
    pub house: House,
    pub slot: Slot,
    pub hold: WorkspaceHold,
}

pub(super) fn held() -> Held {
    let house = house();
    let slot = house.slot();
    let hold = house.hold("alice", "notes").expect("free");
    hold.move_in(&slot).expect("claimed");
    fs::create_dir(slot.box_dir().join("outside")).expect("made");
    fs::write(slot.box_dir().join("outside/canary"), "sings").expect("written");
    Held { house, slot, hold }
}

impl Held {
    pub fn live(&self) -> LiveWorkspace {
        let (user, name) = (whose("alice"), WorkspaceName::parse("notes").expect("a name"));
        self.house.workspaces.live(&user, &name).expect("it is in its slot")
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.slot.workspace().join(path)
    }

    pub fn canary_sings(&self) {
        let outside = self.slot.box_dir().join("outside");
        assert_eq!(fs::read_to_string(outside.join("canary")).expect("there"), "sings");
        assert_eq!(fs::read_dir(&outside).expect("there").count(), 1, "something was put outside");
    }

    pub fn write(&self, path: &str, content: &[u8]) -> Result<Written, FileError> {
        let mut upload = self.live().begin_file(&self::path(path), 1024)?;
        upload.write(content)?;
        upload.finish()
    }

    pub fn read(&self, path: &str) -> Result<Vec<u8>, FileError> {
        let Found::File(mut file) = self.live().find(&self::path(path))? else { panic!("{path} is a folder") };
        let mut content = Vec::new();
        while let Some(piece) = file.read()? {
            content.extend_from_slice(&piece);
        }
        Ok(content)
    }

    pub fn names(&self, path: &str) -> Vec<String> {
        let listing = self.live().list(&self::path(path), None, 100).expect("listed");
        listing.entries.into_iter().map(|entry| entry.name).collect()
    }
}

pub(super) fn path(path: &str) -> FilePath {
    FilePath::parse(path.as_bytes()).expect("a good path")
}

#[test]
fn a_file_is_written_replaced_read_and_removed() {
    let held = held();
    assert_eq!(held.write("a/b/file", b"one").expect("written"), Written::New);
    assert_eq!(held.write("a/b/file", b"two").expect("written"), Written::Replaced);
    assert_eq!(held.read("a/b/file").expect("read"), b"two");
    assert_eq!(held.names("a/b"), ["file"]);
    if rustix::process::geteuid().is_root() {
        for (name, mode) in [("a", 0o755), ("a/b", 0o755), ("a/b/file", 0o644)] {
            let entry = fs::metadata(held.at(name)).expect("there");
            assert_eq!((entry.uid(), entry.gid(), entry.mode() & 0o7777), (AGENT.uid, AGENT.gid, mode), "{name}");
        }
    }
    held.live().delete(&path("a/b/file"), false).expect("removed");
    assert!(matches!(held.read("a/b/file"), Err(FileError::NotFound)));
    assert!(matches!(held.live().delete(&path("a/b/file"), true), Err(FileError::NotFound)));
    held.live().delete(&path("a/b"), false).expect("an empty folder goes");
    assert!(matches!(held.live().delete(&path(""), true), Err(FileError::Invalid(_))));
}

#[test]
fn a_script_that_is_replaced_can_still_be_run() {
    let held = held();
    held.write("script", b"one").expect("written");
    fs::set_permissions(held.at("script"), fs::Permissions::from_mode(0o4711)).expect("changed");
    held.write("script", b"two").expect("written");
    assert_eq!(fs::metadata(held.at("script")).expect("there").mode() & 0o7777, 0o755);
}

#[test]
fn a_file_that_does_not_come_to_its_end_leaves_nothing() {
    let held = held();
    held.write("file", b"old").expect("written");
    let mut upload = held.live().begin_file(&path("file"), 1024).expect("begun");
    upload.write(b"half").expect("written");
    drop(upload);
    let mut upload = held.live().begin_file(&path("file"), 5).expect("begun");
    upload.write(b"12345").expect("that much may be");
    assert!(matches!(upload.write(b"6"), Err(FileError::TooLarge(_))));
    drop(upload);
    assert_eq!((held.names(""), held.read("file").expect("read")), (vec!["file".to_owned()], b"old".to_vec()));
}

#[test]
fn links_are_followed_inside_and_never_out() {
    let held = held();
    held.write("dir/file", b"x").expect("written");
    symlink("dir", held.at("inside")).expect("linked");
    symlink("../outside", held.at("out")).expect("linked");
    symlink(held.slot.box_dir().join("outside"), held.at("absolute")).expect("linked");
    symlink("../outside/canary", held.at("file-out")).expect("linked");
    symlink("circle", held.at("circle")).expect("linked");

    assert_eq!(held.read("inside/file").expect("read"), b"x");
    held.write("inside/other", b"y").expect("written");
    assert_eq!(held.names("dir"), ["file", "other"]);
    for out in ["out/canary", "absolute/canary", "file-out"] {
        assert!(matches!(held.read(out), Err(FileError::Outside)), "{out}");
    }
    for out in ["out/new", "absolute/new", "out/canary"] {
        assert!(matches!(held.write(out, b"x"), Err(FileError::Outside)), "{out}");
        assert!(held.live().delete(&path(out), true).is_err(), "{out}");
    }
    assert!(matches!(held.live().list(&path("out"), None, 10), Err(FileError::Outside)));
    assert!(matches!(held.read("circle"), Err(FileError::Invalid(_))));
    // In the last place a link is never written through, and removed itself.
    for link in ["file-out", "inside"] {
        assert!(matches!(held.write(link, b"x"), Err(FileError::Invalid(_))), "{link}");
        held.live().delete(&path(link), true).expect("removed");
    }
    assert_eq!(held.names("dir"), ["file", "other"]);
    held.canary_sings();
}

#[test]
fn pipes_and_sockets_are_refused_and_not_waited_for() {
    let held = held();
    mkfifoat(CWD, held.at("pipe"), Mode::RWXU).expect("made");
    let _socket = std::os::unix::net::UnixListener::bind(held.at("socket")).expect("bound");
    for special in ["pipe", "socket"] {
        assert!(matches!(held.live().find(&path(special)), Err(FileError::Special)), "{special}");
        assert!(matches!(held.write(special, b"x"), Err(FileError::Special)), "{special}");
        held.live().delete(&path(special), false).expect("removed");
    }
    assert!(held.names("").is_empty());
}

#[test]
fn what_is_of_another_kind_stands_in_the_way() {
    let held = held();
    held.write("file", b"x").expect("written");
    held.write("dir/file", b"x").expect("written");
    assert!(matches!(held.write("dir", b"x"), Err(FileError::Conflict(_))));
    assert!(matches!(held.write("file/below", b"x"), Err(FileError::Conflict(_))));
    assert!(matches!(held.write("", b"x"), Err(FileError::Conflict(_))));
    assert!(matches!(held.read("file/below"), Err(FileError::NotFound)));
    assert!(matches!(held.live().list(&path("file/below"), None, 10), Err(FileError::NotFound)));
    assert!(matches!(held.live().delete(&path("file/below"), false), Err(FileError::NotFound)));
    assert!(matches!(held.live().delete(&path("dir"), false), Err(FileError::Conflict(_))));
    let long = "x".repeat(256);
    assert!(matches!(held.write(&long, b"x"), Err(FileError::Invalid(_))));
    assert!(matches!(held.read(&long), Err(FileError::Invalid(_))));
}

#[test]
fn a_folder_is_listed_in_pages_whatever_its_names_are() {
    use std::os::unix::ffi::OsStrExt as _;
    let held = held();
    for name in [&b"b"[..], b"a", b"\xff\xfe", "é".as_bytes(), b".hidden"] {
        fs::write(held.slot.workspace().join(std::ffi::OsStr::from_bytes(name)), name).expect("written");
    }
    fs::create_dir(held.at("folder")).expect("made");
    symlink("nowhere", held.at("link")).expect("linked");
    let (mut after, mut read) = (None, Vec::new());
    loop {
        let listing = held.live().list(&path(""), after, 3).expect("listed");
        read.extend(listing.entries.into_iter().map(|entry| (entry.name, entry.kind, entry.size)));
        after = listing.next;
        if after.is_none() {
            break;
        }
    }
    let expected = [
        (".hidden", EntryKind::File, 7),
        ("a", EntryKind::File, 1),
        ("b", EntryKind::File, 1),
        ("folder", EntryKind::Folder, 0),
        ("link", EntryKind::Link, 0),
        ("é", EntryKind::File, 2),
        ("\u{FFFD}\u{FFFD}", EntryKind::File, 2),
    ];
    assert_eq!(read, expected.map(|(name, kind, size)| (name.to_owned(), kind, size)));
}

#[test]
fn a_file_that_changes_while_it_is_read_is_never_longer_than_was_said() {
    let held = held();
    held.write("file", b"12345").expect("written");
    let Found::File(mut grows) = held.live().find(&path("file")).expect("found") else { panic!("a file") };
    let mut file = fs::OpenOptions::new().append(true).open(held.at("file")).expect("opened");
    file.write_all(b"6789").expect("written");
    assert_eq!((grows.size(), grows.read().expect("read").expect("some")), (5, "12345".into()));
    assert!(grows.read().expect("read").is_none());

    let Found::File(mut shrinks) = held.live().find(&path("file")).expect("found") else { panic!("a file") };
    file.set_len(0).expect("cut");
    assert!(matches!(shrinks.read(), Err(FileError::Conflict(_))));
}

#[test]
fn nothing_is_read_or_written_once_the_workspace_goes_home() {
    let held = held();
    held.write("file", b"old").expect("written");
    let live = held.live();
    let Found::File(mut reader) = live.find(&path("file")).expect("found") else { panic!("a file") };
    let mut upload = live.begin_file(&path("file"), 100).expect("begun");
    upload.write(b"new").expect("written");
    let mut packer = live.pack(ArchiveLimits { bytes: 100_000, entries: 10 }).expect("begun");
    held.hold.move_back(&held.slot).expect("moved back");
    assert!(matches!(reader.read(), Err(FileError::Ended)));
    assert!(matches!(upload.finish(), Err(FileError::Ended)));
    assert!(matches!(packer.read(), Err(FileError::Ended)));
    assert!(matches!(live.find(&path("file")), Err(FileError::Ended)));
    let home: Vec<_> =
        fs::read_dir(&held.hold.home).expect("home").map(|entry| entry.expect("read").file_name()).collect();
    assert_eq!(home, ["file"]);
    assert_eq!(fs::read(held.hold.home.join("file")).expect("read"), b"old");
}

#[tokio::test]
async fn a_folder_is_gone_at_once_and_from_the_disk_soon() {
    let held = held();
    held.write("dir/deep/er/file", b"x").expect("written");
    let trash = held.live().delete(&path("dir"), true).expect("removed").expect("it wasn't empty");
    assert!(held.names("").is_empty());
    held.house.workspaces.clear_soon(trash.clone());
    let token = tokio_util::sync::CancellationToken::new();
    let keeping = tokio::spawn(Arc::clone(&held.house.workspaces).keep_house(token.clone()));
    while fs::read_dir(&trash).expect("there").count() > 0 {
        tokio::task::yield_now().await;
    }
    token.cancel();
    keeping.await.expect("it ends with its token");
    held.canary_sings();
}
