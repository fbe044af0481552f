//! One file on its way out, a piece at a time.

use std::{fs::File, io::Read as _};

use bytes::Bytes;
use rustix::fs::Stat;

use super::{fault::FileError, folder::LiveWorkspace};

/// Bytes of a file that are read at once.
pub(super) const PIECE: usize = 128 * 1024;

/// An open file. It is as long as it was when it was opened: what the agent adds meanwhile isn't read.
#[derive(Debug)]
pub struct FileReader {
    workspace: LiveWorkspace,
    file: File,
    size: u64,
    left: u64,
}

impl FileReader {
    pub(super) fn new(workspace: LiveWorkspace, file: File, stat: &Stat) -> Self {
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        Self { workspace, file, size, left: size }
    }

    /// Its length, in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The next piece; none: that was all.
    ///
    /// # Errors
    /// The file has become shorter, the session is over, or the file system says no.
    pub fn read(&mut self) -> Result<Option<Bytes>, FileError> {
        if self.left == 0 {
            return Ok(None);
        }
        let _inside = self.workspace.gate.enter()?;
        let mut piece = vec![0; usize::try_from(self.left).map_or(PIECE, |left| left.min(PIECE))];
        let length = self.file.read(&mut piece).map_err(|error| FileError::of("read a file", error))?;
        if length == 0 {
            return Err(FileError::Conflict("the file became shorter while it was read"));
        }
        piece.truncate(length);
        self.left -= length as u64;
        Ok(Some(piece.into()))
    }
}
