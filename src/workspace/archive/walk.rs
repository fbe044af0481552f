//! Walks over a workspace that changes under one's feet. Keeps the names of one folder for each level, and no folder open.
//!
//! Every entry is looked up anew from the workspace's root, so that nothing outside is ever met. What has gone or turned into something else since
//! its folder was listed is left out.

use std::{
    ffi::OsString,
    fs::File,
    os::{fd::AsFd as _, unix::ffi::OsStrExt as _},
    vec,
};

use rustix::fs::{FileType, OFlags, Stat, fstat, readlinkat};

use super::{ArchiveLimits, stays_inside};
use crate::workspace::{
    fault::FileError,
    folder::Folder,
    path::{FilePath, PATH_MAX},
};

/// One step of the walk.
#[derive(Debug)]
pub(super) enum Step {
    /// To something that goes into an archive.
    To(Met),
    /// Past something that doesn't.
    Past,
    /// That was all.
    End,
}

/// What was met.
#[derive(Debug)]
pub(super) struct Met {
    pub(super) kind: Kind,
    pub(super) stat: Stat,
}

#[derive(Debug)]
pub(super) enum Kind {
    File,
    Folder,
    Link(Vec<u8>),
}

#[derive(Debug)]
pub(super) struct Walk {
    limits: ArchiveLimits,
    /// Entries of all folders that were listed.
    listed: usize,
    levels: Vec<vec::IntoIter<OsString>>,
    /// What was met last; the folder that is listed.
    path: FilePath,
    /// Whether the last name of the path is that of something that isn't a level of its own.
    on_leaf: bool,
}

impl Walk {
    /// At the root of the workspace.
    pub(super) fn new(folder: &Folder, limits: ArchiveLimits) -> Result<Self, FileError> {
        let mut walk = Self { limits, listed: 0, levels: Vec::new(), path: FilePath::root(), on_leaf: false };
        walk.enter(folder)?;
        Ok(walk)
    }

    /// Where it is.
    pub(super) const fn path(&self) -> &FilePath {
        &self.path
    }

    /// Goes on to the next entry.
    pub(super) fn next(&mut self, folder: &Folder) -> Result<Step, FileError> {
        match self.go_on(folder) {
            Err(error) if has_changed(&error) => Ok(Step::Past),
            other => other,
        }
    }

    fn go_on(&mut self, folder: &Folder) -> Result<Step, FileError> {
        folder.pass.check()?;
        if std::mem::take(&mut self.on_leaf) {
            self.path.pop();
        }
        let Some(names) = self.levels.last_mut() else { return Ok(Step::End) };
        let Some(name) = names.next() else {
            self.levels.pop();
            self.path.pop();
            return Ok(Step::Past);
        };
        if self.path.as_bytes().len() + 1 + name.len() > PATH_MAX {
            return Err(FileError::TooLarge(format!("a path in an archive may have {PATH_MAX} bytes")));
        }
        self.path.push(&name);
        self.on_leaf = true;
        let Some(met) = self.look(folder)? else { return Ok(Step::Past) };
        if matches!(met.kind, Kind::Folder) {
            self.enter(folder)?;
            self.on_leaf = false;
        }
        Ok(Step::To(met))
    }

    /// What the path leads to, without opening it.
    fn look(&self, folder: &Folder) -> Result<Option<Met>, FileError> {
        let failed = |error| FileError::of("look at a file", error);
        let place = folder.open_with(&self.path, OFlags::PATH | OFlags::NOFOLLOW)?;
        let stat = fstat(&place).map_err(failed)?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Folder,
            FileType::Symlink => {
                let target = readlinkat(place.as_fd(), c"", Vec::new()).map_err(failed)?.into_bytes();
                if !stays_inside(&target, self.path.depth() - 1) {
                    return Ok(None);
                }
                Kind::Link(target)
            }
            _ => return Ok(None),
        };
        Ok(Some(Met { kind, stat }))
    }

    /// Lists the folder it stands on.
    fn enter(&mut self, folder: &Folder) -> Result<(), FileError> {
        let failed = |error| FileError::of("list a folder", error);
        let opened = folder.open_with(&self.path, OFlags::DIRECTORY | OFlags::NOFOLLOW)?;
        let mut entries = rustix::fs::Dir::new(opened).map_err(failed)?;
        let mut names = Vec::new();
        while let Some(entry) = entries.read() {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            self.listed += 1;
            self.limits.check_entries(self.listed)?;
            names.push(std::ffi::OsStr::from_bytes(name).to_owned());
        }
        names.sort_unstable();
        self.levels.push(names.into_iter());
        Ok(())
    }

    /// Opens the file it stands on; none: it isn't one any more.
    pub(super) fn open(&self, folder: &Folder) -> Result<Option<(File, Stat)>, FileError> {
        let file = match folder.open_itself(&self.path) {
            Err(error) if has_changed(&error) => return Ok(None),
            other => other?,
        };
        let stat = fstat(&file).map_err(|error| FileError::of("look at a file", error))?;
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        Ok(regular.then_some((file, stat)))
    }
}

/// The agent took it away or made something else of it between two looks.
const fn has_changed(error: &FileError) -> bool {
    matches!(error, FileError::NotFound | FileError::Invalid(_) | FileError::Outside | FileError::Special)
}
