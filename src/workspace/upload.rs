//! One file on its way in. It has no name until it is whole.
//!
//! The bytes go into a file without a name (`O_TMPFILE`), which the kernel forgets if anything goes wrong, even if the server is killed. At the end
//! it is given to the agent's user, gets a hidden name and is renamed to its own: whoever reads sees the old file or the new one. On a file
//! system that has no files without names, the hidden name is there from the beginning, and is removed if the rest doesn't come.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::Write as _,
    os::fd::AsRawFd as _,
};

use cap_std::fs::Dir;
use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, linkat, openat, renameat, unlinkat},
    io::Errno,
};

use super::{
    fault::FileError,
    folder::{LiveWorkspace, Owner, look},
    path::FilePath,
};
use crate::ids::{hex, random_bytes};

/// What the hidden name of a file that is being written begins with.
const HIDDEN: &str = ".greenroom-";
/// How often a name that the agent takes away is made again.
const TRIES: usize = 3;

/// Where a file is to go, looked up before any of it is there.
#[derive(Debug)]
pub(super) struct Place {
    folder: Dir,
    name: OsString,
}

/// A file that isn't whole yet. Dropping it leaves nothing.
#[derive(Debug)]
pub struct Upload {
    workspace: LiveWorkspace,
    place: Place,
    owner: Owner,
    file: File,
    hidden: Option<OsString>,
    executable: bool,
    size: u64,
    limit: u64,
}

/// Whether something was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Nothing was.
    New,
    /// A file was, and is gone.
    Replaced,
}

impl LiveWorkspace {
    /// Begins to write a file of at most `limit` bytes. Folders on the way are made.
    ///
    /// # Errors
    /// See [`FileError`]. A folder of that name is a conflict; a link or a special file of that name is refused.
    pub fn begin_file(&self, path: &FilePath, limit: u64) -> Result<Upload, FileError> {
        let folder = self.enter()?;
        let (parent, name) = path.split().ok_or(FileError::Conflict("the workspace itself is a folder"))?;
        let (parent, _made) = folder.make_folder(&parent)?;
        let former = look(&parent, name).map_err(|error| FileError::of("look at a file", error))?;
        let executable = match former.map(|stat| (FileType::from_raw_mode(stat.st_mode), stat.st_mode)) {
            None => false,
            // Who changes a script wants to run it afterwards.
            Some((FileType::RegularFile, mode)) => mode & 0o100 != 0,
            Some((FileType::Directory, _)) => return Err(FileError::Conflict("there is a folder of that name")),
            Some((FileType::Symlink, _)) => {
                return Err(FileError::invalid("path: there is a link of that name; remove it first"));
            }
            Some(_) => return Err(FileError::Special),
        };
        let place = Place { folder: parent, name: name.to_owned() };
        Upload::begin(self.clone(), place, folder.owner, executable, limit)
    }
}

impl Upload {
    pub(super) fn begin(
        workspace: LiveWorkspace,
        place: Place,
        owner: Owner,
        executable: bool,
        limit: u64,
    ) -> Result<Self, FileError> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let (file, hidden) = match openat(&place.folder, c".", flags | OFlags::TMPFILE, Mode::RUSR | Mode::WUSR) {
            Ok(file) => (file, None),
            Err(Errno::OPNOTSUPP | Errno::ISDIR) => {
                let name = hidden_name();
                let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                let file = openat(&place.folder, &name, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
                (file, Some(name))
            }
            Err(error) => return Err(failed(error)),
        };
        Ok(Self { workspace, place, owner, file: file.into(), hidden, executable, size: 0, limit })
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// They are too many, the session is over, or the file system says no.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        let _inside = self.workspace.gate.enter()?;
        self.write_inside(bytes)
    }

    /// The same, for one who is inside already.
    pub(super) fn write_inside(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.size += bytes.len() as u64;
        if self.size > self.limit {
            return Err(FileError::TooLarge(format!("a file may have {} bytes", self.limit)));
        }
        self.file.write_all(bytes).map_err(|error| FileError::of("write a file", error))
    }

    /// The file is whole: it gets its name.
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn finish(self) -> Result<Written, FileError> {
        let _inside = self.workspace.gate.enter()?;
        self.finish_inside()
    }

    /// The same, for one who is inside already.
    pub(super) fn finish_inside(mut self) -> Result<Written, FileError> {
        self.owner.give(&self.file, if self.executable { 0o755 } else { 0o644 }).map_err(failed)?;
        let former = look(&self.place.folder, &self.place.name).map_err(failed)?;
        for _ in 0..TRIES {
            let hidden = self.show_itself()?;
            match renameat(&self.place.folder, &hidden, &self.place.folder, &self.place.name) {
                Ok(()) => return Ok(if former.is_some() { Written::Replaced } else { Written::New }),
                // The agent took the hidden name away.
                Err(Errno::NOENT) => {}
                Err(error) => {
                    self.hidden = Some(hidden);
                    return Err(failed(error));
                }
            }
        }
        Err(FileError::Conflict("the agent is changing the folder at this moment"))
    }

    /// Gives the file its hidden name, if it has none.
    fn show_itself(&mut self) -> Result<OsString, FileError> {
        if let Some(name) = self.hidden.take() {
            return Ok(name);
        }
        let (name, itself) = (hidden_name(), format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        match linkat(CWD, itself, &self.place.folder, &name, AtFlags::SYMLINK_FOLLOW) {
            Ok(()) => Ok(name),
            Err(Errno::NOENT) => Err(FileError::Conflict("the folder is gone")),
            Err(error) => Err(failed(error)),
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(name) = &self.hidden {
            let _the_agent_may_have = unlinkat(&self.place.folder, name, AtFlags::empty());
        }
    }
}

impl Place {
    pub(super) fn new(folder: Dir, name: &OsStr) -> Self {
        Self { folder, name: name.to_owned() }
    }
}

fn hidden_name() -> OsString {
    format!("{HIDDEN}{}", hex(&random_bytes::<12>())).into()
}

fn failed(error: impl Into<std::io::Error>) -> FileError {
    FileError::of("write a file", error)
}
