//! Makes changes: one group of batches, one transaction.
//!
//! What a group says about one session's events and mark is gathered first and written once: a row for all its events, and only the last mark.
//! The places of sessions are remembered between groups. They are forgotten when a transaction fails, so they never run ahead of the file.

mod place;

use std::{collections::HashMap, mem, sync::Arc};

use bytes::Bytes;
use rusqlite::{
    CachedStatement, Connection, ErrorCode, OptionalExtension as _, Transaction, TransactionBehavior, params,
};

use self::place::Place;
use super::{claims::Claims, debts::Debt, queue::Batch};
use crate::{
    ids::{SessionId, UserId},
    store::{Change, IdempotencyKey, SessionRow},
};

/// Sessions whose place is remembered.
const PLACES_MAX: usize = 16 * 1024;

/// Hours of spending that are kept: today and yesterday, wherever a day begins.
const HOURS_KEPT: u64 = 48;

/// Why a group was not written.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Something in it can never be written: a fault of the program.
    Never(String),
    /// There is no room.
    Full,
    /// The store doesn't work at this moment.
    Now(rusqlite::Error),
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        use ErrorCode::{ConstraintViolation, DiskFull, ParameterOutOfRange, TooBig, TypeMismatch};
        match error.sqlite_error_code() {
            Some(DiskFull) => Self::Full,
            Some(ConstraintViolation | TooBig | TypeMismatch | ParameterOutOfRange) | None => {
                Self::Never(error.to_string())
            }
            Some(_) => Self::Now(error),
        }
    }
}

/// Writes groups.
#[derive(Debug)]
pub(super) struct Ledger {
    claims: Arc<Claims>,
    places: Vec<Place>,
    by_session: HashMap<SessionId, usize>,
    touched: Vec<usize>,
    debts: Vec<Debt>,
    settled: Vec<IdempotencyKey>,
    /// The latest hour anybody spent in, since the start.
    latest_hour: u64,
}

impl Ledger {
    pub(super) fn new(claims: Arc<Claims>) -> Self {
        Self {
            claims,
            places: Vec::new(),
            by_session: HashMap::new(),
            touched: Vec::new(),
            debts: Vec::new(),
            settled: Vec::new(),
            latest_hour: 0,
        }
    }

    /// Makes all changes or none. Gives what is left to be removed.
    pub(super) fn write(&mut self, db: &mut Connection, batches: &[Batch]) -> Result<Vec<Debt>, Refusal> {
        if batches.iter().all(|batch| batch.changes.is_empty()) {
            return Ok(Vec::new());
        }
        if self.places.len() > PLACES_MAX {
            self.clear();
        }
        let written = self.try_to_write(db, batches);
        if written.is_err() {
            self.clear();
            self.debts.clear();
            self.settled.clear();
        }
        written?;
        self.settled.drain(..).for_each(|key| self.claims.release(&key));
        Ok(mem::take(&mut self.debts))
    }

    fn try_to_write(&mut self, db: &mut Connection, batches: &[Batch]) -> Result<(), Refusal> {
        let work = Transaction::new(db, TransactionBehavior::Immediate)?;
        batches.iter().flat_map(|batch| &batch.changes).try_for_each(|change| self.make(&work, change))?;
        for at in mem::take(&mut self.touched) {
            self.places[at].write_down(&work)?;
        }
        Ok(work.commit()?)
    }

    fn clear(&mut self) {
        self.places.clear();
        self.by_session.clear();
        self.touched.clear();
    }

    fn make(&mut self, db: &Connection, change: &Change) -> Result<(), Refusal> {
        match change {
            Change::Session(row) => self.put(db, row),
            Change::Turn { session, number, document } => {
                const PUT: &str = "INSERT OR REPLACE INTO turns (session, number, document) VALUES (?1, ?2, ?3)";
                self.put_part(db, PUT, session, *number, document)
            }
            Change::Permission { session, number, document } => {
                const PUT: &str = "INSERT OR REPLACE INTO permissions (session, number, document) VALUES (?1, ?2, ?3)";
                self.put_part(db, PUT, session, *number, document)
            }
            Change::Events { session, first, events } => self.gather(db, session, *first, events),
            Change::Mark { session, document } => {
                if let Some(place) = self.touch(db, session)? {
                    place.mark = Some(document.clone());
                }
                Ok(())
            }
            Change::Trim { session, up_to } => self.trim(db, session, *up_to),
            Change::Forget { session } => self.forget(db, session),
            Change::Spent { user, hour, input, output } => self.spend(db, user, *hour, *input, *output),
            Change::Answered { key, document } => self.answer(db, key, document),
            Change::Released { key } => {
                const REMOVE: &str = "DELETE FROM answers WHERE user = ?1 AND route = ?2 AND key = ?3";
                db.prepare_cached(REMOVE)?.execute(params![key.whose.user().as_str(), key.route, key.key])?;
                self.settled.push(key.clone());
                Ok(())
            }
        }
    }

    /// Adds to both sums. The first of an hour forgets the hours that are too old.
    fn spend(&mut self, db: &Connection, user: &UserId, hour: u64, input: u64, output: u64) -> Result<(), Refusal> {
        const ADD: &str = "INSERT INTO spent (user, input, output) VALUES (?1, ?2, ?3) \
                           ON CONFLICT (user) DO UPDATE SET input = input + ?2, output = output + ?3";
        const ADD_TO_HOUR: &str = "INSERT INTO spent_hours (user, hour, input, output) VALUES (?1, ?4, ?2, ?3) \
                                   ON CONFLICT (user, hour) DO UPDATE SET input = input + ?2, output = output + ?3";
        const FORGET: &str = "DELETE FROM spent_hours WHERE hour < ?1";
        let (user, input, output) = (user.as_str(), whole(input), whole(output));
        db.prepare_cached(ADD)?.execute(params![user, input, output])?;
        db.prepare_cached(ADD_TO_HOUR)?.execute(params![user, input, output, whole(hour)])?;
        if hour > self.latest_hour {
            db.prepare_cached(FORGET)?.execute([whole(hour.saturating_sub(HOURS_KEPT))])?;
            self.latest_hour = hour;
        }
        Ok(())
    }

    fn put(&mut self, db: &Connection, row: &SessionRow) -> Result<(), Refusal> {
        const UPDATE: &str = "UPDATE sessions SET user = ?2, ended_at = ?3, document = ?4 WHERE id = ?1";
        const INSERT: &str = "INSERT INTO sessions (name, user, ended_at, document) VALUES (?1, ?2, ?3, ?4)";
        let ended_at = row.ended_at.map(|at| at.to_string());
        match self.find(db, &row.session)? {
            Some(at) if self.places[at].gone => {}
            Some(at) => {
                let id = self.places[at].row;
                db.prepare_cached(UPDATE)?.execute(params![id, row.user.as_str(), ended_at, row.document])?;
            }
            None => {
                let name = row.session.as_str();
                let id = db.prepare_cached(INSERT)?.insert(params![name, row.user.as_str(), ended_at, row.document])?;
                self.remember(&row.session, Place::new(id, 0, false));
            }
        }
        Ok(())
    }

    fn put_part(
        &mut self,
        db: &Connection,
        put: &str,
        session: &SessionId,
        number: u64,
        document: &str,
    ) -> Result<(), Refusal> {
        if let Some(at) = self.find(db, session)?.filter(|at| !self.places[*at].gone) {
            db.prepare_cached(put)?.execute(params![self.places[at].row, whole(number), document])?;
        }
        Ok(())
    }

    fn gather(&mut self, db: &Connection, session: &SessionId, first: u64, events: &[Bytes]) -> Result<(), Refusal> {
        let Some(place) = self.touch(db, session)? else { return Ok(()) };
        if first != place.last + 1 {
            return Err(Refusal::Never(format!("event {first} of {session} can't follow event {}", place.last)));
        }
        events.iter().try_for_each(|event| place.gather(db, session, event))
    }

    fn trim(&mut self, db: &Connection, session: &SessionId, up_to: u64) -> Result<(), Refusal> {
        const NOTE: &str = "INSERT INTO trims (session, earliest, up_to) VALUES (?1, 1, ?2) \
                            ON CONFLICT (session) DO UPDATE SET up_to = max(up_to, ?2)";
        if let Some(at) = self.find(db, session)?.filter(|at| !self.places[*at].gone) {
            let row = self.places[at].row;
            db.prepare_cached(NOTE)?.execute(params![row, whole(up_to)])?;
            self.debts.push(Debt::Trim { row });
        }
        Ok(())
    }

    fn forget(&mut self, db: &Connection, session: &SessionId) -> Result<(), Refusal> {
        const NOTE: &str = "UPDATE sessions SET forgotten = 1 WHERE id = ?1";
        if let Some(at) = self.find(db, session)?.filter(|at| !self.places[*at].gone) {
            let row = self.places[at].row;
            db.prepare_cached(NOTE)?.execute([row])?;
            self.places[at].forget();
            self.debts.push(Debt::Forget { row });
        }
        Ok(())
    }

    fn answer(&mut self, db: &Connection, key: &IdempotencyKey, document: &str) -> Result<(), Refusal> {
        const PUT: &str = "INSERT OR REPLACE INTO answers (user, route, key, body, expires_at, document) \
                           VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        const AGAIN: &str = "UPDATE answers SET document = ?4 WHERE user = ?1 AND route = ?2 AND key = ?3";
        let (user, route, key_text) = (key.whose.user().as_str(), &key.route, &key.key);
        match self.claims.find(key) {
            Some(claim) => {
                let row = params![user, route, key_text, claim.body, claim.expires_at, document];
                db.prepare_cached(PUT)?.execute(row)?;
                self.settled.push(key.clone());
            }
            // Answered before: a later word about the same request.
            None => {
                db.prepare_cached(AGAIN)?.execute(params![user, route, key_text, document])?;
            }
        }
        Ok(())
    }

    /// The session's place, noted as one that has something to write; none when nothing may be written to it.
    fn touch(&mut self, db: &Connection, session: &SessionId) -> Result<Option<&mut Place>, Refusal> {
        let Some(at) = self.find(db, session)? else { return Ok(None) };
        let place = &mut self.places[at];
        if place.gone {
            return Ok(None);
        }
        if !place.touched {
            place.touched = true;
            place.first = place.last + 1;
            self.touched.push(at);
        }
        Ok(Some(place))
    }

    fn find(&mut self, db: &Connection, session: &SessionId) -> Result<Option<usize>, Refusal> {
        const FIND: &str = "SELECT id, forgotten, coalesce(\
                                (SELECT last FROM events WHERE session = id ORDER BY first DESC LIMIT 1), \
                                (SELECT earliest - 1 FROM trims WHERE session = id), 0) \
                            FROM sessions WHERE name = ?1";
        if let Some(at) = self.by_session.get(session) {
            return Ok(Some(*at));
        }
        let mut find: CachedStatement<'_> = db.prepare_cached(FIND)?;
        let found = find.query_row([session.as_str()], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?)));
        let Some((row, gone, last)) = found.optional()? else { return Ok(None) };
        Ok(Some(self.remember(session, Place::new(row, last.cast_unsigned(), gone))))
    }

    fn remember(&mut self, session: &SessionId, place: Place) -> usize {
        self.places.push(place);
        self.by_session.insert(session.clone(), self.places.len() - 1);
        self.places.len() - 1
    }
}

/// A number as SQLite has it. None of ours comes near the end.
pub(super) fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
