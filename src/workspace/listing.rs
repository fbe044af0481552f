//! What is in a folder of a workspace, by name, a page at a time.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

use jiff::Timestamp;
use rustix::fs::{FileType, Stat};

use super::{
    fault::FileError,
    folder::{LiveWorkspace, look},
    path::FilePath,
    smallest::Smallest,
};

/// After so many entries somebody may want us out.
const CHECK_EVERY: usize = 1024;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link; where it leads isn't looked at.
    Link,
    /// A socket, a pipe, a device.
    Other,
}

/// One entry of a folder.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name. What isn't UTF-8 in it is shown as U+FFFD; such a name can't be asked for.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes of a file; 0 for anything else.
    pub size: u64,
    /// When its content was changed.
    pub modified_at: Timestamp,
}

/// A page of entries.
#[derive(Debug)]
pub struct Listing {
    /// By name.
    pub entries: Vec<Entry>,
    /// The name the next page begins after, as it is on disk; none: this was the last.
    pub next: Option<Vec<u8>>,
}

impl LiveWorkspace {
    /// Lists a folder from after a name on. However many entries it has, only a page is kept.
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn list(&self, path: &FilePath, after: Option<Vec<u8>>, limit: usize) -> Result<Listing, FileError> {
        let failed = |error: std::io::Error| FileError::of_reading("list a folder", error);
        let inside = self.enter()?;
        let folder = inside.open_folder(path).map_err(FileError::reading)?;
        let mut names = Smallest::new(after, limit);
        for (count, entry) in folder.entries().map_err(failed)?.enumerate() {
            if count % CHECK_EVERY == 0 {
                inside.pass.check()?;
            }
            names.offer(entry.map_err(failed)?.file_name().as_bytes().to_vec());
        }
        let (names, more) = names.page();
        let next = names.last().filter(|_| more).cloned();
        let mut entries = Vec::with_capacity(names.len());
        for name in names {
            // What is gone by now was never there.
            if let Some(stat) = look(&folder, OsStr::from_bytes(&name)).map_err(failed)? {
                entries.push(entry(&name, &stat));
            }
        }
        Ok(Listing { entries, next })
    }
}

fn entry(name: &[u8], stat: &Stat) -> Entry {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Folder,
        FileType::Symlink => EntryKind::Link,
        _ => EntryKind::Other,
    };
    let size = if kind == EntryKind::File { u64::try_from(stat.st_size).unwrap_or_default() } else { 0 };
    Entry { name: String::from_utf8_lossy(name).into_owned(), kind, size, modified_at: modified_at(stat) }
}

/// An agent may set any time, also one that can't be written down.
pub(super) fn modified_at(stat: &Stat) -> Timestamp {
    let nanoseconds = i32::try_from(stat.st_mtime_nsec).unwrap_or_default();
    let end = if stat.st_mtime < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::new(stat.st_mtime, nanoseconds).unwrap_or(end)
}
