//! The file and the connections to it.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::fs::OFlags;

use super::schema::{self, Found, VERSION};
use crate::{config::Durability, store::StoreError};

/// How long a connection waits for a lock of another. In regular work there is nothing to wait for: one thread writes, and readers wait for nobody.
pub(super) const LOCK_WAIT: Duration = Duration::from_secs(2);
/// Pages kept in memory by the writer, in KiB.
const WRITER_CACHE_KIB: i64 = 16 * 1024;
/// Pages kept in memory by each reader, in KiB.
const READER_CACHE_KIB: i64 = 4 * 1024;
/// Statements a connection keeps ready; it has fewer.
const STATEMENTS: usize = 48;

/// The store's file.
///
/// Whoever has a connection holds this for longer than the connection: when a process closes *any* handle of a file, the kernel drops all locks the
/// process has on that file (POSIX), those of SQLite's own handles too. Another program would then believe that nobody uses the store.
#[derive(Debug)]
pub(super) struct StoreFile {
    path: PathBuf,
    handle: File,
}

impl StoreFile {
    /// Opens the file, or makes it, readable for nobody else. SQLite gives the files beside it the same mode.
    pub(super) fn open(path: &Path) -> Result<Arc<Self>, StoreError> {
        let open = || {
            let no_follow = OFlags::NOFOLLOW.bits().cast_signed();
            let mut options = fs::OpenOptions::new();
            let options = options.create(true).truncate(false).write(true).mode(0o600).custom_flags(no_follow);
            let handle = options.open(path)?;
            if handle.metadata()?.permissions().mode() & 0o077 != 0 {
                handle.set_permissions(fs::Permissions::from_mode(0o600))?;
            }
            Ok(Arc::new(Self { path: path.to_owned(), handle }))
        };
        open().map_err(|fault: io::Error| cannot(path, &format!("{fault}; it must be a file of the server's own")))
    }

    /// A connection that writes, after the file was migrated where needed. Its log of changes is cut to `log_bytes` when it begins anew.
    pub(super) fn writer(&self, durability: Durability, log_bytes: u64) -> Result<Connection, StoreError> {
        let mut db = self.write(durability, log_bytes).map_err(|fault| self.cannot(&sentence(&fault)))?;
        let found = schema::find(&db).map_err(|fault| self.cannot(&sentence(&fault)))?;
        let version = match found {
            Found::Empty => 0,
            Found::Version(theirs) if theirs > VERSION => {
                return Err(StoreError::TooNew { path: self.path.display().to_string(), theirs, ours: VERSION });
            }
            Found::Version(version) => version,
            Found::Foreign => return Err(self.cannot("it is another program's database; move it away")),
        };
        let ready = schema::migrate(&mut db, version).and_then(|()| journal(&db));
        ready.map_err(|fault| self.cannot(&sentence(&fault)))?;
        Ok(db)
    }

    fn write(&self, durability: Durability, log_bytes: u64) -> rusqlite::Result<Connection> {
        let db = self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE, WRITER_CACHE_KIB)?;
        let synchronous = match durability {
            Durability::Process => "NORMAL",
            Durability::Power => "FULL",
        };
        db.pragma_update(None, "synchronous", synchronous)?;
        // Nobody who commits should copy the log into the file on the way: a thread of its own does.
        db.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))?;
        db.pragma_update_and_check(None, "journal_size_limit", log_bytes.cast_signed(), |_| Ok(()))?;
        Ok(db)
    }

    /// A connection that reads.
    pub(super) fn reader(&self) -> rusqlite::Result<Connection> {
        self.connect(OpenFlags::SQLITE_OPEN_READ_ONLY, READER_CACHE_KIB)
    }

    /// A connection that only copies the log into the file.
    pub(super) fn checkpointer(&self) -> rusqlite::Result<Connection> {
        let db = self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE, READER_CACHE_KIB)?;
        db.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))?;
        Ok(db)
    }

    fn connect(&self, access: OpenFlags, cache_kib: i64) -> rusqlite::Result<Connection> {
        let db = Connection::open_with_flags(&self.path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        db.busy_timeout(LOCK_WAIT)?;
        db.set_prepared_statement_cache_capacity(STATEMENTS);
        db.pragma_update(None, "cache_size", -cache_kib)?;
        Ok(db)
    }

    /// Waits until what was copied into the file is on the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.handle.sync_data()
    }

    pub(super) fn cannot(&self, reason: &str) -> StoreError {
        cannot(&self.path, reason)
    }
}

fn cannot(path: &Path, reason: &str) -> StoreError {
    StoreError::Open { path: path.display().to_string(), reason: reason.to_owned() }
}

/// Changes go to a log beside the file, so that readers and the writer don't wait for each other.
fn journal(db: &Connection) -> rusqlite::Result<()> {
    db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))
}

/// The file beside `path` whose name has this in addition.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// What went wrong, with a remedy where only a person can help.
pub(super) fn sentence(fault: &rusqlite::Error) -> String {
    match fault.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => "it is not a database; move it away or put a backup in its place".to_owned(),
        Some(ErrorCode::DatabaseCorrupt) => {
            format!("it is damaged ({fault}); stop the server and put a backup in its place, or move it away")
        }
        Some(ErrorCode::DiskFull) => "the disk is full".to_owned(),
        Some(ErrorCode::ReadOnly) => format!("it can't be written ({fault})"),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => format!("another program holds it ({fault})"),
        _ => fault.to_string(),
    }
}
