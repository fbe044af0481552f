use std::{os::unix::fs::PermissionsExt as _, thread};

use secrecy::ExposeSecret as _;

use super::*;

const MAX: u64 = 1024;

fn file() -> (tempfile::TempDir, PrivateFile) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = PrivateFile::new(folder.path().join("state").join("things.json"));
    (folder, file)
}

fn write(file: &PrivateFile, content: &[u8]) -> Result<(), PrivateFileError> {
    file.replace(&file.lock()?, content)
}

#[test]
fn what_was_written_is_read_and_is_private() {
    let (_folder, file) = file();
    assert!(file.read(MAX).expect("a look").is_none() && file.stamp().expect("a look").is_none());
    write(&file, b"one").expect("written");
    let first = file.stamp().expect("a look");
    write(&file, b"two").expect("written");
    assert_eq!(&**file.read(MAX).expect("read").expect("there"), b"two");
    assert_ne!(file.stamp().expect("a look"), first, "as long as before, and yet another");
    assert_eq!(fs::metadata(file.path()).expect("there").permissions().mode() & 0o777, 0o600);
    assert!(!file.path().with_extension("json.new").exists());
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let (_folder, file) = file();
    write(&file, &[b'x'; MAX as usize]).expect("written");
    assert!(file.read(MAX).is_ok());
    assert!(matches!(file.read(MAX - 1), Err(PrivateFileError::TooLarge { .. })));
}

#[test]
fn writers_at_the_same_time_wait_for_each_other() {
    let (_folder, file) = file();
    let add = || {
        let lock = file.lock().expect("a lock");
        let mut content = file.read(MAX).expect("read").map(|content| content.to_vec()).unwrap_or_default();
        content.push(b'x');
        file.replace(&lock, &content).expect("written");
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..5).for_each(|_| add()));
        }
    });
    assert_eq!(file.read(MAX).expect("read").expect("there").len(), 20);
}

#[test]
fn what_root_makes_belongs_to_the_owner_of_the_folder() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (_folder, file) = file();
    let folder = file.path().parent().expect("it is in a folder");
    fs::create_dir(folder).expect("made");
    unix_fs::chown(folder, Some(10_001), Some(10_002)).expect("root may");
    for _ in 0..2 {
        write(&file, b"one").expect("written");
        for made in [file.path(), &file.path().with_extension("lock")] {
            let data = fs::metadata(made).expect("there");
            assert_eq!((data.uid(), data.gid()), (10_001, 10_002), "{}", made.display());
        }
        // As one that was made by root before.
        unix_fs::chown(file.path().with_extension("lock"), Some(0), Some(0)).expect("root may");
    }
}

#[test]
fn a_lock_that_leads_elsewhere_is_not_followed() {
    let (folder, file) = file();
    let elsewhere = folder.path().join("elsewhere");
    fs::create_dir(file.path().parent().expect("it is in a folder")).expect("made");
    unix_fs::symlink(&elsewhere, file.path().with_extension("lock")).expect("made");
    assert!(matches!(write(&file, b"one"), Err(PrivateFileError::Io { action: "open", .. })));
    assert!(!elsewhere.exists());
}

#[test]
fn a_secret_that_others_can_read_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("secret");
    fs::write(&path, "  canary\n").expect("written");
    for (mode, good) in [(0o600, true), (0o400, true), (0o440, true), (0o644, false), (0o604, false), (0o660, false)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
        let read = read_secret(&path);
        assert_eq!(read.is_ok(), good, "{mode:o}");
        let told = read.map_or_else(|error| error.to_string(), |secret| secret.expose_secret().to_owned());
        assert!(told == "canary" || told.contains("chmod 600"), "{told}");
    }
}
