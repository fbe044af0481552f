//! Removes a folder and all that is in it, however an agent has nested it.
//!
//! An agent may leave a hundred thousand folders in one another, or a million side by side. Walking down would need a stack frame or an
//! open folder for each level. Instead every folder that isn't empty is moved up, next to the topmost ones, before its parent is removed: the
//! tree becomes flat, two folders are open at a time, and a removal that was broken off is simply begun again. Links are removed, never
//! followed. Names are only ever looked up in a folder that is open, so nothing outside can be reached however the tree changes.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, chmod, fchmod, openat, renameat, unlinkat},
    io::Errno,
    process::geteuid,
};

/// What the name of a folder that was moved up begins with.
const MOVED_UP: &str = ".removed-";

/// Removes what is at `path`; nothing there is fine. Looks at `go_on` before every entry, and stops when it says no.
///
/// # Errors
/// The file system says no, or [`io::ErrorKind::Interrupted`]: `go_on` did. What is left can be removed by another call.
pub fn remove_tree(path: &Path, go_on: &dyn Fn() -> bool) -> io::Result<()> {
    remove_in(CWD, path, go_on)
}

/// The same, of something in a folder that is open: `name` alone is not followed if it is a link.
///
/// # Errors
/// The same.
pub fn remove_in(
    parent: BorrowedFd<'_>,
    name: impl rustix::path::Arg + Copy,
    go_on: &dyn Fn() -> bool,
) -> io::Result<()> {
    let root = match open_folder(parent, name) {
        Ok(root) => root,
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => return Ok(unlinkat(parent, name, AtFlags::empty())?),
        Err(error) => return Err(error.into()),
    };
    let mut removal = Removal { root: root.as_fd(), moved: 0, go_on };
    loop {
        while removal.pass()? {}
        match unlinkat(parent, name, AtFlags::REMOVEDIR) {
            // Somebody still writes to it.
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(Errno::NOENT) | Ok(()) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

struct Removal<'a> {
    root: BorrowedFd<'a>,
    moved: u64,
    go_on: &'a dyn Fn() -> bool,
}

impl Removal<'_> {
    /// Goes once over the topmost entries. Says whether there were any.
    fn pass(&mut self) -> io::Result<bool> {
        let mut any = false;
        let mut entries = Dir::read_from(self.root)?;
        while let Some(entry) = entries.read() {
            let entry = entry?;
            if is_self_or_parent(entry.file_name()) {
                continue;
            }
            any = true;
            self.may_go_on()?;
            if !remove_one(self.root, entry.file_name(), entry.file_type())? {
                self.empty_out(entry.file_name())?;
            }
        }
        Ok(any)
    }

    /// Removes a topmost folder; folders in it that aren't empty become topmost ones themselves.
    fn empty_out(&mut self, name: &CStr) -> io::Result<()> {
        let folder = match open_folder(self.root, name) {
            // It isn't what it was a moment ago; the next pass sees to it.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            other => other?,
        };
        let mut entries = Dir::read_from(&folder)?;
        while let Some(entry) = entries.read() {
            let entry = entry?;
            if is_self_or_parent(entry.file_name()) {
                continue;
            }
            self.may_go_on()?;
            if !remove_one(folder.as_fd(), entry.file_name(), entry.file_type())? {
                self.move_up(folder.as_fd(), entry.file_name())?;
            }
        }
        remove_one(self.root, name, FileType::Directory).map(drop)
    }

    fn move_up(&mut self, folder: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
        let mut opened = false;
        loop {
            self.moved += 1;
            match renameat(folder, name, self.root, format!("{MOVED_UP}{}", self.moved)) {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                // The name is taken: by a removal that was broken off, or by the agent.
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
                // Moving a folder changes its `..`, for which one needs the right to write to it.
                Err(Errno::ACCESS) if !opened => {
                    open_up(folder, name)?;
                    opened = true;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn may_go_on(&self) -> io::Result<()> {
        if (self.go_on)() { Ok(()) } else { Err(io::ErrorKind::Interrupted.into()) }
    }
}

/// Removes anything but a folder that isn't empty. Says whether it is gone.
fn remove_one(folder: BorrowedFd<'_>, name: &CStr, kind: FileType) -> io::Result<bool> {
    if kind != FileType::Directory {
        match unlinkat(folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(true),
            // It is a folder: not every file system says so when it lists.
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    match unlinkat(folder, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        // It became something else, or is a file that can't be removed.
        Err(Errno::NOTDIR) => match unlinkat(folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(error) => Err(error.into()),
        },
        Err(error) => Err(error.into()),
    }
}

/// Opens a folder for reading and removing. Without root the agent had our uid, and may have closed it to us.
fn open_folder(parent: BorrowedFd<'_>, name: impl rustix::path::Arg + Copy) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = match openat(parent, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            open_up(parent, name)?;
            openat(parent, name, flags, Mode::empty())?
        }
        other => other?,
    };
    if !geteuid().is_root() {
        fchmod(&folder, Mode::RWXU)?;
    }
    Ok(folder)
}

/// Gives us every right on a folder that can't be opened. A link is not followed.
fn open_up(parent: BorrowedFd<'_>, name: impl rustix::path::Arg) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = openat(parent, name, flags, Mode::empty())?;
    // A descriptor that is only a place can't be changed; by way of its name in /proc it can.
    chmod(format!("/proc/self/fd/{}", folder.as_raw_fd()), Mode::RWXU)
}

fn is_self_or_parent(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, fs, os::unix::fs::PermissionsExt as _};

    use rustix::fs::mkdirat;

    use super::*;

    /// Folders in one another, with a file in the innermost.
    fn nest(top: &Path, depth: usize) {
        fs::create_dir(top).expect("made");
        let mut folder = open_folder(CWD, top).expect("opened");
        for _ in 0..depth {
            mkdirat(&folder, c"deeper", Mode::RWXU).expect("made");
            folder = open_folder(folder.as_fd(), c"deeper").expect("opened");
        }
        let flags = OFlags::CREATE | OFlags::WRONLY;
        openat(&folder, c"file", flags, Mode::RUSR).expect("made");
    }

    #[test]
    fn fifty_thousand_folders_in_one_another_are_removed_on_a_small_stack() {
        // In memory, if that can be had: a disk takes its time for so many folders, and it's not the disk that is tried.
        let parent = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a temporary folder");
        let top = parent.path().join("top");
        nest(&top, 50_000);
        let removed = top.clone();
        let small = std::thread::Builder::new().stack_size(128 * 1024);
        let thread = small.spawn(move || remove_tree(&removed, &|| true)).expect("started");
        thread.join().expect("no overflow").expect("removed");
        assert!(!top.exists());
    }

    #[test]
    fn a_removal_that_was_broken_off_is_begun_again() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let top = parent.path().join("top");
        nest(&top, 100);
        for _ in 0..20 {
            let left = Cell::new(7);
            let stopped = remove_tree(&top, &|| left.replace(left.get() - 1) > 1);
            assert_eq!(stopped.expect_err("broken off").kind(), io::ErrorKind::Interrupted);
        }
        remove_tree(&top, &|| true).expect("removed");
        assert!(!top.exists());
        remove_tree(&top, &|| true).expect("removing what isn't there is fine");
    }

    #[test]
    fn links_are_removed_and_not_followed_and_closed_folders_are_opened() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let (top, outside) = (parent.path().join("top"), parent.path().join("outside"));
        fs::create_dir_all(top.join("a/b/c")).expect("made");
        fs::create_dir(&outside).expect("made");
        fs::write(outside.join("canary"), "x").expect("written");
        fs::write(top.join("a/b/c/file"), "x").expect("written");
        for link in ["link", "a/link", "a/b/c/link"] {
            std::os::unix::fs::symlink(&outside, top.join(link)).expect("linked");
        }
        for closed in ["a/b/c", "a/b", "a"] {
            fs::set_permissions(top.join(closed), fs::Permissions::from_mode(0o000)).expect("closed");
        }
        remove_tree(&top, &|| true).expect("removed");
        assert!(!top.exists() && outside.join("canary").exists());

        std::os::unix::fs::symlink(&outside, &top).expect("linked");
        remove_tree(&top, &|| true).expect("removed");
        assert!(fs::symlink_metadata(&top).is_err() && outside.join("canary").exists());
    }
}
