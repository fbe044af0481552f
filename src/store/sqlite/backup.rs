//! A copy of a store while a server works with it.
//!
//! The copy is one moment of the store, made compact. It is written under another name and gets its own only when it is whole and was checked. A server
//! that writes meanwhile isn't stopped; its log of changes can only begin anew after the copy was made.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{
    file::sentence,
    schema::{self, Found},
};
use crate::ids::{hex, random_bytes};

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is no store, or it is none.
    #[error("{} can't be copied: {reason}", path.display())]
    Source {
        /// The store's file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// There is something of that name.
    #[error("{} exists; it is not overwritten", .0.display())]
    Exists(PathBuf),
    /// The copy can't be written.
    #[error("{} can't be written: {reason}", path.display())]
    Target {
        /// The copy.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The copy was written and is not what it should be.
    #[error("the copy is damaged: {0}; the store may be too")]
    Damaged(String),
}

/// A copy that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// Its size, in bytes.
    pub bytes: u64,
    /// How long it took, checking included.
    pub took: Duration,
}

/// Copies the store in this file to another, readable for nobody else. Blocks for as long as that takes.
///
/// # Errors
/// [`BackupError`]. Then nothing is left behind under either name.
pub fn backup(store: &Path, to: &Path) -> Result<Copied, BackupError> {
    let begun = Instant::now();
    if to.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(to.to_owned()));
    }
    let source = open(store).map_err(|reason| BackupError::Source { path: store.to_owned(), reason })?;
    let draft = Draft::make(to).map_err(|fault| BackupError::target(to, &fault))?;
    let copied = source.execute("VACUUM INTO ?1", [draft.text()]);
    copied.map_err(|fault| BackupError::target(to, &sentence(&fault)))?;
    check(&draft.0)?;
    let bytes = draft.publish(to)?;
    Ok(Copied { bytes, took: begun.elapsed() })
}

impl BackupError {
    fn target(path: &Path, reason: &dyn ToString) -> Self {
        Self::Target { path: path.to_owned(), reason: reason.to_string() }
    }
}

fn open(store: &Path) -> Result<Connection, String> {
    if !store.is_file() {
        return Err("there is no such file; has a server run with this state folder?".to_owned());
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let db = Connection::open_with_flags(store, flags)?;
        db.busy_timeout(Duration::from_secs(5))?;
        let found = schema::find(&db)?;
        Ok((db, found))
    };
    match open().map_err(|fault: rusqlite::Error| sentence(&fault))? {
        (db, Found::Version(_)) => Ok(db),
        (_, Found::Empty | Found::Foreign) => Err("it is not a store of Greenroom's".to_owned()),
    }
}

fn check(copy: &Path) -> Result<(), BackupError> {
    let damaged = |reason: &dyn ToString| BackupError::Damaged(reason.to_string());
    let db = Connection::open_with_flags(copy, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|fault| damaged(&fault))?;
    let found = schema::find(&db).map_err(|fault| damaged(&fault))?;
    let said: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(|fault| damaged(&fault))?;
    match (found, said.as_str()) {
        (Found::Version(_), "ok") => Ok(()),
        _ => Err(damaged(&said)),
    }
}

/// The copy under a name of its own; removed unless it is published.
struct Draft(PathBuf);

impl Draft {
    fn make(to: &Path) -> io::Result<Self> {
        let mut name = to.file_name().ok_or_else(|| io::Error::other("it is no name of a file"))?.to_owned();
        name.push(format!(".{}.part", hex(&random_bytes::<4>())));
        let path = to.with_file_name(name);
        if path.to_str().is_none() {
            return Err(io::Error::other("its name must be UTF-8"));
        }
        OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path)?;
        Ok(Self(path))
    }

    fn text(&self) -> &str {
        self.0.to_str().expect("`make` looked")
    }

    /// Gives it its name, when it is on the disk. Nothing is overwritten, however late it came.
    fn publish(self, to: &Path) -> Result<u64, BackupError> {
        let target = |fault: io::Error| BackupError::target(to, &fault);
        let file = File::open(&self.0).map_err(target)?;
        file.sync_all().map_err(target)?;
        match renameat_with(CWD, &self.0, CWD, to, RenameFlags::NOREPLACE) {
            Err(rustix::io::Errno::EXIST) => return Err(BackupError::Exists(to.to_owned())),
            // A file system without this kind of rename: it was looked a moment ago.
            Err(rustix::io::Errno::INVAL) => fs::rename(&self.0, to).map_err(target)?,
            renamed => renamed.map_err(|fault| target(fault.into()))?,
        }
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(target)?;
        Ok(file.metadata().map_err(target)?.len())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _published = fs::remove_file(&self.0);
    }
}
