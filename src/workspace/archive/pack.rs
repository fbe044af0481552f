//! A workspace on its way out as an archive, a piece at a time.
//!
//! The agent may go on working meanwhile: each file is as it was when its turn came. One that becomes shorter while it is read is filled up with
//! zero bytes, since its length was told already; one that grows is cut off there.

use std::{fs::File, io::Read as _};

use bytes::Bytes;
use rustix::fs::Stat;
use tar::{EntryType, Header};

use super::{
    ArchiveLimits, BLOCK, padding,
    walk::{Kind, Met, Step, Walk},
};
use crate::workspace::{
    fault::FileError,
    folder::{Folder, LiveWorkspace},
    reader::PIECE,
};

/// Entries that are looked at in one go: others want their turn.
const ENTRIES_AT_ONCE: usize = 1024;
/// The longest name a header itself has room for.
const NAME_MAX: usize = 100;

/// A workspace as an archive.
#[derive(Debug)]
pub struct Packer {
    workspace: LiveWorkspace,
    limits: ArchiveLimits,
    walk: Walk,
    file: Option<Packing>,
    /// Bytes that were summed up, then those that were packed.
    bytes: u64,
    done: bool,
}

/// The file whose turn it is.
#[derive(Debug)]
struct Packing {
    file: File,
    left: u64,
    padding: usize,
    ended: bool,
}

impl LiveWorkspace {
    /// Begins an archive of all there is: first [`Packer::measure`] it.
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn pack(&self, limits: ArchiveLimits) -> Result<Packer, FileError> {
        let walk = Walk::new(&self.enter()?, limits)?;
        Ok(Packer { workspace: self.clone(), limits, walk, file: None, bytes: 2 * BLOCK as u64, done: false })
    }
}

impl Packer {
    /// Sums up a part of what there is, so that an archive that would be too large isn't begun. Says whether that was all, and it can be read.
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn measure(&mut self) -> Result<bool, FileError> {
        let folder = self.workspace.enter()?;
        for _ in 0..ENTRIES_AT_ONCE {
            match self.walk.next(&folder)? {
                Step::Past => {}
                Step::To(Met { kind, stat }) => {
                    let content = if matches!(kind, Kind::File) { size(&stat) } else { 0 };
                    self.bytes = self.bytes.saturating_add(BLOCK as u64).saturating_add(content);
                    self.limits.check_bytes(self.bytes)?;
                }
                Step::End => {
                    self.walk = Walk::new(&folder, self.limits)?;
                    self.bytes = 0;
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// The next piece, which may be empty; none: that was all.
    ///
    /// # Errors
    /// See [`FileError`]; it has become too large meanwhile.
    pub fn read(&mut self) -> Result<Option<Bytes>, FileError> {
        if self.done {
            return Ok(None);
        }
        let folder = self.workspace.enter()?;
        let mut piece = Vec::with_capacity(PIECE + 2 * BLOCK);
        for _ in 0..ENTRIES_AT_ONCE {
            if self.done || piece.len() >= PIECE {
                break;
            }
            match &mut self.file {
                Some(packing) => {
                    if packing.add_to(&mut piece)? {
                        self.file = None;
                    }
                }
                None => self.add_next(&folder, &mut piece)?,
            }
        }
        self.bytes += piece.len() as u64;
        self.limits.check_bytes(self.bytes)?;
        Ok(Some(piece.into()))
    }

    fn add_next(&mut self, folder: &Folder, piece: &mut Vec<u8>) -> Result<(), FileError> {
        let Met { kind, stat } = match self.walk.next(folder)? {
            Step::To(met) => met,
            Step::Past => return Ok(()),
            Step::End => {
                piece.extend_from_slice(&[0; 2 * BLOCK]);
                self.done = true;
                return Ok(());
            }
        };
        let name = self.walk.path().as_bytes();
        match kind {
            Kind::Folder => add_header(piece, EntryType::Directory, &[name, b"/"].concat(), b"", &stat, 0),
            Kind::Link(target) => add_header(piece, EntryType::Symlink, name, &target, &stat, 0),
            Kind::File => {
                if let Some((file, stat)) = self.walk.open(folder)? {
                    let left = size(&stat);
                    add_header(piece, EntryType::Regular, name, b"", &stat, left);
                    self.file = Some(Packing { file, left, padding: padding(left), ended: false });
                }
            }
        }
        Ok(())
    }
}

impl Packing {
    /// Adds what fits. Says whether the file is done.
    fn add_to(&mut self, piece: &mut Vec<u8>) -> Result<bool, FileError> {
        let room = PIECE.saturating_sub(piece.len()).max(BLOCK);
        let length = usize::try_from(self.left).map_or(room, |left| left.min(room));
        let begin = piece.len();
        piece.resize(begin + length, 0);
        if !self.ended && length > 0 {
            let read = self.file.read(&mut piece[begin..]).map_err(|error| FileError::of("read a file", error))?;
            self.ended = read == 0;
            if !self.ended {
                piece.truncate(begin + read);
            }
        }
        self.left -= (piece.len() - begin) as u64;
        if self.left == 0 {
            piece.resize(piece.len() + self.padding, 0);
        }
        Ok(self.left == 0)
    }
}

fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or_default()
}

/// Adds an entry's header; a name or a target that is too long for it goes before it, as GNU tar does it.
fn add_header(piece: &mut Vec<u8>, kind: EntryType, name: &[u8], target: &[u8], stat: &Stat, size: u64) {
    let mut header = Header::new_gnu();
    for (long, kind) in [(target, EntryType::GNULongLink), (name, EntryType::GNULongName)] {
        if long.len() > NAME_MAX {
            let length = long.len() as u64 + 1;
            let mut before = Header::new_gnu();
            put(&mut before.as_old_mut().name, b"././@LongLink");
            before.set_entry_type(kind);
            finish(&mut before, 0o644, 0, length);
            piece.extend_from_slice(before.as_bytes());
            piece.extend_from_slice(long);
            piece.resize(piece.len() + 1 + padding(length), 0);
        }
    }
    put(&mut header.as_old_mut().name, name);
    put(&mut header.as_old_mut().linkname, target);
    header.set_entry_type(kind);
    let mode = if kind == EntryType::Directory || stat.st_mode & 0o100 != 0 { 0o755 } else { 0o644 };
    finish(&mut header, mode, u64::try_from(stat.st_mtime).unwrap_or_default(), size);
    piece.extend_from_slice(header.as_bytes());
}

fn put(field: &mut [u8; NAME_MAX], text: &[u8]) {
    let length = text.len().min(NAME_MAX);
    field[..length].copy_from_slice(&text[..length]);
}

/// What an archive says of whom a file belongs to is nothing: it is meant for another machine.
fn finish(header: &mut Header, mode: u32, modified: u64, size: u64) {
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(modified);
    header.set_size(size);
    header.set_cksum();
}
