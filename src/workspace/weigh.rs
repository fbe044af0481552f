//! Weighs a workspace: what its files take on the disk, looked at a piece at a time, beside an agent that may do its worst meanwhile.
//!
//! Folders are opened one below the other, never by a path and never through a link, so nothing outside is met. Holes in files take nothing; a file with
//! several names counts for its share at each of them. There are bounds: a workspace with more entries than [`ENTRIES_MAX`] or folders
//! deeper than [`DEPTH_MAX`] isn't counted to its end, and counts as too heavy, or an agent could hide there what it likes. What can't be looked at, because
//! it went or the agent closed it to a server that isn't root, counts for nothing.

use std::{fs::File, os::fd::OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat};

use super::{fault::FileError, folder::LiveWorkspace, path::FilePath, scale::Weight};

/// Entries of one piece: tens of milliseconds.
const PIECE: usize = if cfg!(test) { 100 } else { 10_000 };
/// Entries that are counted.
const ENTRIES_MAX: u64 = 2_000_000;
/// Folders in one another that are counted. Each is open while those in it are looked at.
const DEPTH_MAX: usize = 128;
/// `st_blocks` counts in these, whatever the file system.
const BLOCK: u64 = 512;

/// A weighing under way. Dropped before its end, it came to nothing.
#[derive(Debug)]
pub struct Weigher {
    workspace: LiveWorkspace,
    begun: bool,
    levels: Vec<Dir>,
    entries: u64,
    weight: Weight,
}

impl LiveWorkspace {
    /// Begins to weigh it; none: somebody is at it already.
    #[must_use]
    pub fn weigh(&self) -> Option<Weigher> {
        let free = self.scale.begin();
        free.then(|| Weigher {
            workspace: self.clone(),
            begun: false,
            levels: Vec::new(),
            entries: 0,
            weight: Weight::default(),
        })
    }
}

impl Weigher {
    /// Weighs a piece. Says whether that was all: then the workspace knows its weight.
    ///
    /// # Errors
    /// The session is over, or the file system says no.
    pub fn step(&mut self) -> Result<bool, FileError> {
        let folder = self.workspace.enter()?;
        if !self.begun {
            let root = folder.open_with(&FilePath::root(), OFlags::DIRECTORY | OFlags::NOFOLLOW)?;
            self.levels.push(listed(root.into())?);
            self.begun = true;
        }
        for _ in 0..PIECE {
            if self.next() {
                self.workspace.scale.end(Some(self.weight));
                return Ok(true);
            }
            folder.pass.check()?;
        }
        Ok(false)
    }

    /// Goes on by one entry. Says whether that was the last.
    fn next(&mut self) -> bool {
        let depth = self.levels.len();
        let Some(level) = self.levels.last_mut() else { return true };
        let Some(Ok(entry)) = level.read() else {
            self.levels.pop();
            return false;
        };
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            return false;
        }
        self.entries += 1;
        if self.entries > ENTRIES_MAX {
            self.weight.countless = true;
            return true;
        }
        let Ok(parent) = level.fd() else { return false };
        let Ok(stat) = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) else { return false };
        let taken = u64::try_from(stat.st_blocks).unwrap_or(0) * BLOCK;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            // As wide as the processor has it.
            let share = u128::from(taken) / u128::from(stat.st_nlink.max(1));
            self.weight.bytes += u64::try_from(share).unwrap_or(taken);
            return false;
        }
        self.weight.bytes += taken;
        if depth >= DEPTH_MAX {
            self.weight.countless = true;
            return true;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if let Ok(below) = openat(parent, name, flags, Mode::empty())
            && let Ok(below) = listed(below)
        {
            self.levels.push(below);
        }
        false
    }
}

impl Drop for Weigher {
    fn drop(&mut self) {
        // Nothing, when it was weighed to its end.
        self.workspace.scale.end(None);
    }
}

fn listed(folder: OwnedFd) -> Result<Dir, FileError> {
    Dir::new(File::from(folder)).map_err(|error| FileError::of("list a folder", error))
}
