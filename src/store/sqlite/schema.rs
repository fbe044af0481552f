//! The tables, and how a file of an older version becomes one of today's.
//!
//! A version is a number in the file's header and a script that makes it out of the one before. Scripts that were released are never
//! changed. Documents are JSON text that this room doesn't look into, so most changes of the program need no new version.

use rusqlite::{Connection, Transaction, TransactionBehavior};

/// Marks a file as ours: "Grnr" in the header's place for that.
pub(super) const APPLICATION: i32 = 0x4772_6e72;

/// Version 1: sessions and what belongs to them.
///
/// `events` is written at its end, wherever the session is in the log, so that few pages are touched; the index finds a session's rows in order
/// and has their sizes, so that a start needs to read no text.
const SESSIONS: &str = "
    CREATE TABLE sessions (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        user TEXT NOT NULL,
        ended_at TEXT,
        forgotten INTEGER NOT NULL DEFAULT 0,
        document TEXT NOT NULL
    ) STRICT;
    CREATE TABLE turns (
        session INTEGER NOT NULL,
        number INTEGER NOT NULL,
        document TEXT NOT NULL,
        PRIMARY KEY (session, number)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE permissions (
        session INTEGER NOT NULL,
        number INTEGER NOT NULL,
        document TEXT NOT NULL,
        PRIMARY KEY (session, number)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE events (
        session INTEGER NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        lines BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX events_in_order ON events (session, first, last, bytes);
    CREATE TABLE marks (
        session INTEGER PRIMARY KEY,
        document TEXT NOT NULL
    ) STRICT;
    CREATE TABLE trims (
        session INTEGER PRIMARY KEY,
        earliest INTEGER NOT NULL,
        up_to INTEGER NOT NULL
    ) STRICT;
";

/// Version 2: what users spent, and answers to requests that may be repeated.
const USERS: &str = "
    CREATE TABLE spent (
        user TEXT PRIMARY KEY,
        input INTEGER NOT NULL,
        output INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE answers (
        user TEXT NOT NULL,
        route TEXT NOT NULL,
        key TEXT NOT NULL,
        body BLOB NOT NULL,
        expires_at INTEGER NOT NULL,
        document TEXT NOT NULL,
        PRIMARY KEY (user, route, key)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX answers_by_age ON answers (expires_at);
";

/// Version 3: what users spent, by the hour (hours since 1970). The index finds what is old.
const HOURS: &str = "
    CREATE TABLE spent_hours (
        user TEXT NOT NULL,
        hour INTEGER NOT NULL,
        input INTEGER NOT NULL,
        output INTEGER NOT NULL,
        PRIMARY KEY (user, hour)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX spent_hours_by_age ON spent_hours (hour);
";

/// The script of each version, beginning with 1.
const SCRIPTS: [&str; 3] = [SESSIONS, USERS, HOURS];

/// The version this program writes.
pub(super) const VERSION: u32 = SCRIPTS.len() as u32;

/// What a file says about itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing: it is new.
    Empty,
    /// A store of this version.
    Version(u32),
    /// A database of another program.
    Foreign,
}

/// Looks at the header.
pub(super) fn find(db: &Connection) -> rusqlite::Result<Found> {
    let number = |name| db.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let version = number("user_version")?;
    Ok(match number("application_id")? {
        APPLICATION => u32::try_from(version).map_or(Found::Foreign, Found::Version),
        0 if tables == 0 && version == 0 => Found::Empty,
        _ => Found::Foreign,
    })
}

/// Makes today's tables out of those of `version`; 0 is a file without any. Each step is made whole or not at all.
pub(super) fn migrate(db: &mut Connection, version: u32) -> rusqlite::Result<()> {
    for (step, script) in (1..).zip(SCRIPTS).skip(version as usize) {
        let work = Transaction::new(db, TransactionBehavior::Immediate)?;
        work.execute_batch(script)?;
        work.pragma_update(None, "application_id", APPLICATION)?;
        work.pragma_update(None, "user_version", step)?;
        work.commit()?;
    }
    Ok(())
}
