//! An archive on its way into a workspace, a piece at a time, over what is there.
//!
//! ```text
//!            header                 all of it
//!   header ─────────► file ──────────────────────┐
//!     │ ▲   ────────► long name, extensions ─────┤
//!     │ └────────────────── padding ◄────────────┘
//!     └── a block of zeros ──► end: the rest is passed over
//! ```
//!
//! Each file is whole before it has its name; what was unpacked before something went wrong stays. All limits are counted here, and all that an
//! archive says about owners, permissions (but whether a file can be run) and times is passed over.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

use rustix::{
    fs::{AtFlags, FileType, Gid, Uid, chownat, symlinkat, unlinkat},
    io::Errno,
};
use tar::{EntryType, Header, PaxExtensions};

use super::{ArchiveLimits, BLOCK, padding, stays_inside};
use crate::workspace::{
    fault::FileError,
    folder::{Folder, LiveWorkspace, look},
    path::{FilePath, PATH_MAX},
    upload::{Place, Upload},
};

/// The longest extension header, in bytes: room for two of the longest paths, and what programs put beside them.
const EXTENSION_MAX: u64 = 64 * 1024;

/// An archive that is being unpacked.
#[derive(Debug)]
pub struct Unpacker {
    workspace: LiveWorkspace,
    limits: ArchiveLimits,
    bytes: u64,
    entries: usize,
    state: State,
    next: Extended,
}

#[derive(Debug)]
enum State {
    /// Gathers a header.
    Header(Vec<u8>),
    /// Fills a file.
    File { upload: Box<Upload>, left: u64, padding: usize },
    /// Gathers what belongs to the next entry.
    Extension { kind: EntryType, left: u64, padding: usize, text: Vec<u8> },
    /// Passes over the rest of a block.
    Padding(usize),
    /// The archive is over.
    End,
}

/// What was said of the next entry before its own header.
#[derive(Debug, Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl LiveWorkspace {
    /// Begins to unpack an archive over the workspace.
    #[must_use]
    pub fn unpack(&self, limits: ArchiveLimits) -> Unpacker {
        let (state, next) = (State::Header(Vec::new()), Extended::default());
        Unpacker { workspace: self.clone(), limits, bytes: 0, entries: 0, state, next }
    }
}

impl Unpacker {
    /// Takes the next piece.
    ///
    /// # Errors
    /// See [`FileError`]. Nothing more should be given to it then.
    pub fn take(&mut self, mut piece: &[u8]) -> Result<(), FileError> {
        let folder = self.workspace.enter()?;
        self.bytes += piece.len() as u64;
        self.limits.check_bytes(self.bytes)?;
        while !piece.is_empty() {
            folder.pass.check()?;
            let state = std::mem::replace(&mut self.state, State::End);
            self.state = self.step(&folder, state, &mut piece)?;
        }
        Ok(())
    }

    /// That was all.
    ///
    /// # Errors
    /// The archive has no end.
    pub fn finish(self) -> Result<(), FileError> {
        match self.state {
            State::End => Ok(()),
            _ => Err(FileError::invalid("archive: it breaks off before its end")),
        }
    }

    fn step(&mut self, folder: &Folder, state: State, piece: &mut &[u8]) -> Result<State, FileError> {
        Ok(match state {
            State::Header(mut block) => {
                block.extend_from_slice(split(piece, BLOCK - block.len()));
                match block.first_chunk() {
                    None => State::Header(block),
                    Some(block) => self.begin(folder, block)?,
                }
            }
            State::File { mut upload, left, padding } => {
                let bytes = split(piece, usize::try_from(left).unwrap_or(usize::MAX));
                upload.write_inside(bytes)?;
                match left - bytes.len() as u64 {
                    0 => {
                        upload.finish_inside()?;
                        after(padding)
                    }
                    left => State::File { upload, left, padding },
                }
            }
            State::Extension { kind, left, padding, mut text } => {
                let bytes = split(piece, usize::try_from(left).unwrap_or(usize::MAX));
                text.extend_from_slice(bytes);
                match left - bytes.len() as u64 {
                    0 => {
                        self.extend(kind, text)?;
                        after(padding)
                    }
                    left => State::Extension { kind, left, padding, text },
                }
            }
            State::Padding(left) => after(left - split(piece, left).len()),
            State::End => {
                *piece = &[];
                State::End
            }
        })
    }

    /// Reads a header and does what it says.
    fn begin(&mut self, folder: &Folder, block: &[u8; BLOCK]) -> Result<State, FileError> {
        if block.iter().all(|byte| *byte == 0) {
            return Ok(State::End);
        }
        let unreadable = |_| FileError::invalid("archive: it isn't a tar archive, or it is damaged");
        let header = Header::from_byte_slice(block);
        // The sum is over the block with blanks where the sum itself stands.
        let sum: u32 = block
            .iter()
            .enumerate()
            .map(|(at, byte)| u32::from(if (148..156).contains(&at) { b' ' } else { *byte }))
            .sum();
        if header.cksum().map_err(unreadable)? != sum {
            return Err(FileError::invalid("archive: it isn't a tar archive, or it is damaged"));
        }
        let kind = header.entry_type();
        let said = header.entry_size().map_err(unreadable)?;
        if matches!(
            kind,
            EntryType::XHeader | EntryType::GNULongName | EntryType::GNULongLink | EntryType::XGlobalHeader
        ) {
            if said > EXTENSION_MAX {
                return Err(FileError::invalid("archive: an extension header is too long"));
            }
            self.count(1)?;
            if said == 0 {
                return Ok(State::Header(Vec::new()));
            }
            return Ok(State::Extension { kind, left: said, padding: padding(said), text: Vec::new() });
        }
        let next = std::mem::take(&mut self.next);
        let size = next.size.unwrap_or(said);
        let name = next.path.unwrap_or_else(|| header.path_bytes().into_owned());
        self.count(1)?;
        let path = member(&name)?;
        match kind {
            EntryType::Directory => self.make(folder, &path)?,
            // As archives were made once: a folder is a file whose name ends so.
            EntryType::Regular if name.ends_with(b"/") => self.make(folder, &path)?,
            EntryType::Regular | EntryType::Continuous => {
                let executable = header.mode().is_ok_and(|mode| mode & 0o100 != 0);
                return self.begin_file(folder, &path, executable, size);
            }
            EntryType::Symlink => {
                let target = next.link.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
                self.link(folder, &path, &target.unwrap_or_default())?;
            }
            _ => return Err(refuse(&path, "is neither a file, a folder nor a symbolic link")),
        }
        if size > 0 {
            return Err(refuse(&path, "has a content, and is no file"));
        }
        Ok(State::Header(Vec::new()))
    }

    /// Notes what an extension says of the next entry.
    fn extend(&mut self, kind: EntryType, mut text: Vec<u8>) -> Result<(), FileError> {
        match kind {
            EntryType::GNULongName | EntryType::GNULongLink => {
                text.truncate(text.iter().position(|byte| *byte == 0).unwrap_or(text.len()));
                let place = if kind == EntryType::GNULongName { &mut self.next.path } else { &mut self.next.link };
                *place = Some(text);
            }
            EntryType::XHeader => {
                let damaged = || FileError::invalid("archive: an extension header is damaged");
                for extension in PaxExtensions::new(&text) {
                    let extension = extension.map_err(|_| damaged())?;
                    let value = extension.value_bytes();
                    match extension.key_bytes() {
                        b"path" => self.next.path = Some(value.to_vec()),
                        b"linkpath" => self.next.link = Some(value.to_vec()),
                        b"size" => {
                            let size = std::str::from_utf8(value).ok().and_then(|size| size.parse().ok());
                            self.next.size = Some(size.ok_or_else(damaged)?);
                        }
                        key if key.starts_with(b"GNU.sparse.") => {
                            return Err(FileError::invalid(
                                "archive: files with holes aren't taken; make it without `--sparse`",
                            ));
                        }
                        _ => {}
                    }
                }
            }
            // What is said of all entries is said of owners and times.
            _ => {}
        }
        Ok(())
    }

    fn begin_file(
        &mut self,
        folder: &Folder,
        path: &FilePath,
        executable: bool,
        size: u64,
    ) -> Result<State, FileError> {
        // Told by its header: not a byte of it is written.
        self.limits.check_bytes(size)?;
        let place = self.place(folder, path)?;
        let upload = Upload::begin(self.workspace.clone(), place, folder.owner, executable, size)?;
        if size == 0 {
            upload.finish_inside()?;
            return Ok(State::Header(Vec::new()));
        }
        Ok(State::File { upload: Box::new(upload), left: size, padding: padding(size) })
    }

    fn make(&mut self, folder: &Folder, path: &FilePath) -> Result<(), FileError> {
        let (_folder, made) = folder.make_folder(path).map_err(|error| told(error, path))?;
        self.count(made)
    }

    /// A link replaces a link, and nothing else.
    fn link(&mut self, folder: &Folder, path: &FilePath, target: &[u8]) -> Result<(), FileError> {
        if !stays_inside(target, path.depth().saturating_sub(1)) || target.len() >= PATH_MAX {
            return Err(refuse(path, "is a link that leads out, or could: `..` may only stand at its beginning"));
        }
        let (parent, name) = path.split().ok_or_else(|| refuse(path, "is the workspace itself, and no folder"))?;
        let (parent, made) = folder.make_folder(&parent).map_err(|error| told(error, path))?;
        self.count(made)?;
        let failed = |error: Errno| told(FileError::of("make a link", error), path);
        if let Some(former) = look(&parent, name).map_err(|error| FileError::of("look at a file", error))?
            && FileType::from_raw_mode(former.st_mode) == FileType::Symlink
        {
            match unlinkat(&parent, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        symlinkat(OsStr::from_bytes(target), &parent, name).map_err(failed)?;
        folder.owner.give_link(&parent, name).map_err(failed)
    }

    fn place(&mut self, folder: &Folder, path: &FilePath) -> Result<Place, FileError> {
        let (parent, name) = path.split().ok_or_else(|| refuse(path, "is the workspace itself, and no folder"))?;
        let (parent, made) = folder.make_folder(&parent).map_err(|error| told(error, path))?;
        self.count(made)?;
        Ok(Place::new(parent, name))
    }

    fn count(&mut self, entries: usize) -> Result<(), FileError> {
        self.entries += entries;
        self.limits.check_entries(self.entries)
    }
}

fn after(padding: usize) -> State {
    if padding == 0 { State::Header(Vec::new()) } else { State::Padding(padding) }
}

/// Takes up to so many bytes from the beginning.
fn split<'p>(piece: &mut &'p [u8], most: usize) -> &'p [u8] {
    let (first, rest) = piece.split_at(piece.len().min(most));
    *piece = rest;
    first
}

/// An entry's path: archives of folders begin with `./`, and names of folders end with a slash.
fn member(name: &[u8]) -> Result<FilePath, FileError> {
    let mut rest = name;
    while let Some(stripped) = rest.strip_prefix(b"./") {
        rest = stripped;
    }
    while let Some(stripped) = rest.strip_suffix(b"/").filter(|stripped| !stripped.is_empty()) {
        rest = stripped;
    }
    let path = if matches!(rest, b"" | b".") { Ok(FilePath::root()) } else { FilePath::parse(rest) };
    path.map_err(|error| match error {
        FileError::Invalid(rule) => FileError::invalid(format!("archive: {}: {rule}", shown(name))),
        other => other,
    })
}

fn refuse(path: &FilePath, why: &str) -> FileError {
    FileError::invalid(format!("archive: {} {why}", shown(path.as_bytes())))
}

/// Which entry it was, where that helps.
fn told(error: FileError, path: &FilePath) -> FileError {
    match error {
        FileError::Outside | FileError::NotFound | FileError::Special => refuse(
            path,
            "can't be put there: the workspace has a link that leads out, or something that is no folder, on the way",
        ),
        other => other,
    }
}

/// A name for people, not at any length.
fn shown(name: &[u8]) -> String {
    let shown: String = String::from_utf8_lossy(name).chars().filter(|letter| !letter.is_control()).take(100).collect();
    if shown.is_empty() { ".".to_owned() } else { shown }
}

impl crate::workspace::folder::Owner {
    /// Gives a link that was just made away. What it leads to is not touched.
    fn give_link(self, folder: &cap_std::fs::Dir, name: &OsStr) -> Result<(), Errno> {
        let Some((uid, gid)): Option<(Uid, Gid)> = self.to_whom() else { return Ok(()) };
        match chownat(folder, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW) {
            // The agent took it away already.
            Err(Errno::NOENT) => Ok(()),
            other => other,
        }
    }
}
