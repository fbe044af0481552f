//! Removes what is no longer kept, a slice at a time, so that nobody waits long for it.

use std::collections::{HashSet, VecDeque};

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::claims;

/// Event text one slice removes, in bytes, and as many events rows as that makes at most.
const SLICE_BYTES: i64 = 256 * 1024;
const SLICE_ROWS: usize = 256;

/// Something to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Debt {
    /// A session's oldest events.
    Trim {
        /// The session's row.
        row: i64,
    },
    /// A session and all that belongs to it.
    Forget {
        /// The session's row.
        row: i64,
    },
    /// Answers whose time is over.
    Expired,
}

/// What is to be removed, each in turn.
#[derive(Debug, Default)]
pub(super) struct Debts {
    line: VecDeque<Debt>,
    known: HashSet<Debt>,
}

impl Debts {
    /// What an earlier run left behind.
    pub(super) fn left_behind(db: &Connection) -> rusqlite::Result<Self> {
        let mut debts = Self::default();
        let rows =
            |query| -> rusqlite::Result<Vec<i64>> { db.prepare(query)?.query_map([], |row| row.get(0))?.collect() };
        debts.extend(rows("SELECT id FROM sessions WHERE forgotten")?.into_iter().map(|row| Debt::Forget { row }));
        debts.extend(
            rows("SELECT session FROM trims WHERE up_to >= earliest")?.into_iter().map(|row| Debt::Trim { row }),
        );
        debts.extend([Debt::Expired]);
        Ok(debts)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// Removes up to `budget` bytes of what is first in line, or a slice if that is more; its turn comes again after all others.
    pub(super) fn pay(&mut self, db: &mut Connection, budget: i64) -> rusqlite::Result<()> {
        let Some(debt) = self.line.front().copied() else { return Ok(()) };
        let work = Transaction::new(db, TransactionBehavior::Immediate)?;
        let paid = match debt {
            Debt::Trim { row } => trim(&work, row, budget.max(SLICE_BYTES))?,
            Debt::Forget { row } => forget(&work, row, budget.max(SLICE_BYTES))?,
            Debt::Expired => expire(&work)?,
        };
        work.commit()?;
        self.line.pop_front();
        if paid {
            self.known.remove(&debt);
        } else {
            self.line.push_back(debt);
        }
        Ok(())
    }
}

impl Extend<Debt> for Debts {
    fn extend<T: IntoIterator<Item = Debt>>(&mut self, debts: T) {
        self.line.extend(debts.into_iter().filter(|debt| self.known.insert(*debt)));
    }
}

/// One slice of a session's oldest events; true when all are gone that may go.
fn trim(db: &Connection, row: i64, budget: i64) -> rusqlite::Result<bool> {
    let mut find = db.prepare_cached("SELECT up_to FROM trims WHERE session = ?1")?;
    let Some(up_to) = find.query_row([row], |row| row.get(0)).optional()? else { return Ok(true) };
    let slice = remove_events(db, row, up_to, budget)?;
    if let Some(last) = slice.last {
        db.prepare_cached("UPDATE trims SET earliest = ?2 + 1 WHERE session = ?1")?.execute([row, last])?;
    }
    Ok(slice.all)
}

/// One slice of a forgotten session; true when nothing of it is left.
fn forget(db: &Connection, row: i64, budget: i64) -> rusqlite::Result<bool> {
    if !remove_events(db, row, i64::MAX, budget)?.all {
        return Ok(false);
    }
    for (find, remove) in [
        (
            "SELECT number FROM turns WHERE session = ?1 ORDER BY number LIMIT 1 OFFSET ?2",
            "DELETE FROM turns WHERE session = ?1 AND number < ?2",
        ),
        (
            "SELECT number FROM permissions WHERE session = ?1 ORDER BY number LIMIT 1 OFFSET ?2",
            "DELETE FROM permissions WHERE session = ?1 AND number < ?2",
        ),
    ] {
        let beyond: Option<i64> =
            db.prepare_cached(find)?.query_row(params![row, SLICE_ROWS as i64], |row| row.get(0)).optional()?;
        db.prepare_cached(remove)?.execute([row, beyond.unwrap_or(i64::MAX)])?;
        if beyond.is_some() {
            return Ok(false);
        }
    }
    for remove in [
        "DELETE FROM marks WHERE session = ?1",
        "DELETE FROM trims WHERE session = ?1",
        "DELETE FROM sessions WHERE id = ?1",
    ] {
        db.prepare_cached(remove)?.execute([row])?;
    }
    Ok(true)
}

/// What a slice removed.
struct Slice {
    /// The last event that went.
    last: Option<i64>,
    /// Whether no other row may go.
    all: bool,
}

/// Removes rows of events, oldest first, whose events may all go.
fn remove_events(db: &Connection, row: i64, up_to: i64, budget: i64) -> rusqlite::Result<Slice> {
    let mut find = db.prepare_cached("SELECT last, bytes FROM events WHERE session = ?1 ORDER BY first")?;
    let mut rows = find.query([row])?;
    let (mut slice, mut bytes, mut count) = (Slice { last: None, all: true }, 0, 0);
    while let Some(found) = rows.next()? {
        let (last, size): (i64, i64) = (found.get(0)?, found.get(1)?);
        if last > up_to {
            break;
        }
        if bytes > budget || count == SLICE_ROWS {
            slice.all = false;
            break;
        }
        slice.last = Some(last);
        bytes += size;
        count += 1;
    }
    drop(rows);
    if let Some(last) = slice.last {
        db.prepare_cached("DELETE FROM events WHERE session = ?1 AND first <= ?2")?.execute([row, last])?;
    }
    Ok(slice)
}

fn expire(db: &Connection) -> rusqlite::Result<bool> {
    const REMOVE: &str = "DELETE FROM answers WHERE (user, route, key) IN \
                          (SELECT user, route, key FROM answers WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)";
    let removed = db.prepare_cached(REMOVE)?.execute([claims::now(), SLICE_ROWS as i64])?;
    Ok(removed < SLICE_ROWS)
}
