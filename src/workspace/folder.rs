//! A workspace in its slot, while a session holds it: the only way to its files.
//!
//! The agent has the same folder at the same time and may be anybody's: between any two of our system calls it can swap a folder for a link, or
//! a file for a pipe. So paths with more than one name are looked up by cap-std alone, which lets the kernel itself (`openat2`,
//! `RESOLVE_BENEATH`) refuse to leave the workspace. What comes of that is an open folder, and from there on only single names are used, without
//! following links. Nothing here follows a path of text twice.

use std::{ffi::OsStr, fs::File, io, os::fd::AsFd as _, path::PathBuf, sync::Arc};

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};
use rustix::{
    fs::{
        AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Uid, fchmod, fchown, fstat, mkdirat, openat, statat, unlinkat,
    },
    io::Errno,
    process::geteuid,
};

use super::{
    fault::FileError,
    gate::{Gate, Pass},
    path::FilePath,
    reader::FileReader,
    scale::Scale,
};

/// Where a session's workspace is. Cheap to clone; keeps nothing open.
#[derive(Debug, Clone)]
pub struct LiveWorkspace {
    pub(super) dir: PathBuf,
    pub(super) gate: Arc<Gate>,
    pub(super) scale: Arc<Scale>,
}

/// What a path leads to.
#[derive(Debug)]
pub enum Found {
    /// A file, open.
    File(FileReader),
    /// A folder.
    Folder,
}

/// The workspace, open for one piece of work.
#[derive(Debug)]
pub(super) struct Folder {
    root: Dir,
    pub(super) owner: Owner,
    pub(super) pass: Pass,
}

/// To whom new files are given: whoever the workspace belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner(Option<(Uid, Gid)>);

impl LiveWorkspace {
    pub(super) fn enter(&self) -> Result<Folder, FileError> {
        let pass = self.gate.enter()?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root =
            openat(CWD, &self.dir, flags, Mode::empty()).map_err(|error| FileError::of("open the workspace", error))?;
        let stat = fstat(&root).map_err(|error| FileError::of("look at the workspace", error))?;
        // Whoever isn't root has the agent's uid already.
        let owner = geteuid().is_root().then(|| (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid)));
        Ok(Folder { root: Dir::from_std_file(File::from(root)), owner: Owner(owner), pass })
    }

    /// Looks up what a path leads to, and opens it if it is a file. Links that stay inside are followed.
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn find(&self, path: &FilePath) -> Result<Found, FileError> {
        let file = self.enter()?.open(path)?;
        let stat = fstat(&file).map_err(|error| FileError::of("look at a file", error))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(Found::File(FileReader::new(self.clone(), file, &stat))),
            FileType::Directory => Ok(Found::Folder),
            _ => Err(FileError::Special),
        }
    }

    /// Removes a file, a link or an empty folder; with `recursive` any folder. That one is gone at once; what was in it is moved out of the
    /// workspace, to be removed by whoever gets its place.
    ///
    /// # Errors
    /// See [`FileError`]; a folder that isn't empty is a conflict.
    pub fn delete(&self, path: &FilePath, recursive: bool) -> Result<Option<PathBuf>, FileError> {
        let folder = self.enter()?;
        let Some((parent, name)) = path.split() else {
            return Err(FileError::invalid("path: the workspace itself can't be removed this way"));
        };
        let parent = folder.open_folder(&parent).map_err(FileError::reading)?;
        let removed = match unlinkat(&parent, name, AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) => unlinkat(&parent, name, AtFlags::REMOVEDIR),
            other => other,
        };
        match removed {
            Ok(()) => Ok(None),
            Err(Errno::NOTEMPTY | Errno::EXIST) if recursive => {
                super::trash::throw_out(&parent, name, &self.dir).map(Some)
            }
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                Err(FileError::Conflict("the folder isn't empty; `recursive=true` removes it with all that is in it"))
            }
            Err(error) => Err(FileError::of_reading("remove a file", error)),
        }
    }
}

impl Folder {
    /// Opens a file or folder for reading. A pipe without a writer doesn't make it wait.
    pub(super) fn open(&self, path: &FilePath) -> Result<File, FileError> {
        self.open_with(path, OFlags::NONBLOCK | OFlags::NOCTTY)
    }

    /// The same; a link in the last place is refused instead of followed.
    pub(super) fn open_itself(&self, path: &FilePath) -> Result<File, FileError> {
        self.open_with(path, OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW)
    }

    pub(super) fn open_with(&self, path: &FilePath, flags: OFlags) -> Result<File, FileError> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(flags.bits().cast_signed());
        let opened = self.root.open_with(path.as_path(), &options);
        opened.map(cap_std::fs::File::into_std).map_err(|error| FileError::of_reading("open a file", error))
    }

    /// Opens a folder that is there. Links that stay inside are followed.
    pub(super) fn open_folder(&self, path: &FilePath) -> Result<Dir, FileError> {
        self.root.open_dir(path.as_path()).map_err(|error| FileError::of("open a folder", error))
    }

    /// Opens a folder, and makes those on the way that are missing. Says how many it made.
    pub(super) fn make_folder(&self, path: &FilePath) -> Result<(Dir, usize), FileError> {
        let mut there = path.clone();
        let mut folder = loop {
            match self.open_folder(&there) {
                Err(FileError::NotFound) if !there.is_root() => there.pop(),
                other => break other?,
            }
        };
        let missing = path.names().split_off(there.depth());
        for name in &missing {
            folder = self.make_one(&folder, name)?;
        }
        Ok((folder, missing.len()))
    }

    fn make_one(&self, parent: &Dir, name: &OsStr) -> Result<Dir, FileError> {
        let failed = |error: Errno| FileError::of("make a folder", error);
        match mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
            // The agent was faster: the folder is its own.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(error)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(parent, name, flags, Mode::empty()).map_err(|error| match error {
            Errno::LOOP | Errno::NOENT => FileError::Conflict("the agent is changing it at this moment"),
            error => failed(error),
        })?;
        // Whatever it is by now, it is a folder in the workspace, where everything is the agent's.
        self.owner.give(&made, 0o755).map_err(failed)?;
        Ok(Dir::from_std_file(File::from(made)))
    }
}

impl Owner {
    /// To whom; none: it is theirs already.
    pub(super) const fn to_whom(self) -> Option<(Uid, Gid)> {
        self.0
    }

    /// Gives a file that was just made away, with these permissions.
    pub(super) fn give(self, file: impl std::os::fd::AsFd, mode: u32) -> Result<(), Errno> {
        if let Self(Some((uid, gid))) = self {
            fchown(&file, Some(uid), Some(gid))?;
        }
        fchmod(&file, Mode::from_raw_mode(mode))
    }
}

/// What has this name in a folder, if anything has. A link is not followed.
pub(super) fn look(folder: &Dir, name: &OsStr) -> io::Result<Option<Stat>> {
    match statat(folder.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
