//! One session's place in the store, and what a group gathers for it.

use bytes::Bytes;
use rusqlite::{Connection, params};

use super::{Refusal, whole};
use crate::ids::SessionId;

/// Text after which a row of events ends, in bytes: a reader in the middle of it reads all of it, and it is trimmed as a whole.
const ROW_BYTES: usize = 128 * 1024;

/// Where a session's log is, and what is to be written to it.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) row: i64,
    /// Its newest event, gathered ones included.
    pub(super) last: u64,
    /// Forgotten: takes nothing.
    pub(super) gone: bool,
    /// The number of the first gathered event.
    pub(super) first: u64,
    lines: Vec<u8>,
    pub(super) mark: Option<String>,
    /// Whether something is gathered.
    pub(super) touched: bool,
}

impl Place {
    pub(super) fn new(row: i64, last: u64, gone: bool) -> Self {
        Self { row, last, gone, first: last + 1, lines: Vec::new(), mark: None, touched: false }
    }

    /// Takes nothing any more, and drops what was gathered.
    pub(super) fn forget(&mut self) {
        *self = Self { touched: self.touched, ..Self::new(self.row, 0, true) };
    }

    /// Adds the next event to what is to be written.
    pub(super) fn gather(&mut self, db: &Connection, session: &SessionId, event: &Bytes) -> Result<(), Refusal> {
        if event.contains(&b'\n') {
            return Err(Refusal::Never(format!("event {} of {session} has a line break", self.last + 1)));
        }
        if self.lines.len() + event.len() >= ROW_BYTES && !self.lines.is_empty() {
            self.write_row(db)?;
        }
        self.lines.extend_from_slice(event);
        self.lines.push(b'\n');
        self.last += 1;
        Ok(())
    }

    /// Writes what was gathered.
    pub(super) fn write_down(&mut self, db: &Connection) -> Result<(), Refusal> {
        const MARK: &str = "INSERT OR REPLACE INTO marks (session, document) VALUES (?1, ?2)";
        self.touched = false;
        if !self.lines.is_empty() {
            self.write_row(db)?;
            // Sessions come and go: what each of them needed once is not kept.
            self.lines = Vec::new();
        }
        if let Some(mark) = self.mark.take() {
            db.prepare_cached(MARK)?.execute(params![self.row, mark])?;
        }
        Ok(())
    }

    fn write_row(&mut self, db: &Connection) -> Result<(), Refusal> {
        const PUT: &str = "INSERT INTO events (session, first, last, bytes, lines) VALUES (?1, ?2, ?3, ?4, ?5)";
        let count = self.last + 1 - self.first;
        let text = self.lines.len() as u64 - count;
        let row = params![self.row, whole(self.first), whole(self.last), whole(text), self.lines];
        db.prepare_cached(PUT)?.execute(row)?;
        self.first = self.last + 1;
        self.lines.clear();
        Ok(())
    }
}
