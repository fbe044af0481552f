//! What is read. Each read sees one moment of the store, whatever is written meanwhile.

use std::collections::BTreeMap;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};

use super::ledger::whole;
use crate::{
    ids::{SessionId, UserId},
    store::{EventRows, SessionRow, SpentRow, StoredSession},
};

/// Up to `limit` events after `after`. See [`Store::events`](crate::store::Store::events).
pub(super) fn events(
    db: &mut Connection,
    session: &SessionId,
    after: u64,
    limit: usize,
    max_bytes: usize,
) -> rusqlite::Result<EventRows> {
    const PLACE: &str = "SELECT id, coalesce((SELECT earliest FROM trims WHERE session = id), 1) \
                         FROM sessions WHERE name = ?1 AND NOT forgotten";
    // From the row that has the next event in it, if there is one.
    const ROWS: &str = "SELECT first, lines FROM events WHERE session = ?1 AND last >= ?2 AND first >= coalesce(\
                            (SELECT first FROM events WHERE session = ?1 AND first <= ?2 ORDER BY first DESC LIMIT 1), 0) \
                        ORDER BY first";
    let moment = Transaction::new(db, TransactionBehavior::Deferred)?;
    let place = moment.prepare_cached(PLACE)?.query_row([session.as_str()], |row| Ok((row.get(0)?, number(row, 1)?)));
    let Some((row, earliest)): Option<(i64, u64)> = place.optional()? else { return Ok(EventRows::Rows(Vec::new())) };
    let next = after.saturating_add(1);
    if next < earliest {
        return Ok(EventRows::Expired { earliest });
    }
    let mut slice = Slice { next, room: limit, bytes: max_bytes, events: Vec::new() };
    let mut find = moment.prepare_cached(ROWS)?;
    let mut rows = find.query(params![row, whole(next)])?;
    while let Some(row) = rows.next()? {
        let first = number(row, 0)?;
        if !slice.take(first, row.get_ref(1)?.as_bytes()?) {
            break;
        }
    }
    Ok(EventRows::Rows(slice.events))
}

/// Events being cut out of rows.
struct Slice {
    /// The number of the event that is looked for.
    next: u64,
    /// Events that may still be taken.
    room: usize,
    /// Text that may still be taken, in bytes.
    bytes: usize,
    events: Vec<(u64, Bytes)>,
}

impl Slice {
    /// Takes what is wanted of a row; false when nothing further is wanted.
    fn take(&mut self, first: u64, lines: &[u8]) -> bool {
        let skip = usize::try_from(self.next.saturating_sub(first)).unwrap_or(usize::MAX);
        let begin = lines.split_inclusive(|byte| *byte == b'\n').take(skip).map(<[u8]>::len).sum();
        let mut ends = Vec::new();
        let mut end = begin;
        let mut full = false;
        for line in lines[begin..].split_inclusive(|byte| *byte == b'\n') {
            let text = line.len() - 1;
            let fits = text <= self.bytes || (self.events.is_empty() && ends.is_empty());
            full = self.room == 0 || !fits;
            if full {
                break;
            }
            self.room -= 1;
            self.bytes = self.bytes.saturating_sub(text);
            end += line.len();
            ends.push(end);
        }
        // One copy of what is wanted: the rest of a large row isn't kept alive by it.
        let taken = Bytes::copy_from_slice(&lines[begin..end]);
        let mut from = 0;
        for end in ends {
            self.events.push((self.next, taken.slice(from..end - begin - 1)));
            self.next += 1;
            from = end - begin;
        }
        !full
    }
}

/// Every session with what belongs to it, oldest first.
pub(super) fn sessions(db: &mut Connection) -> rusqlite::Result<Vec<StoredSession>> {
    const SESSIONS: &str = "SELECT id, name, user, ended_at, document, \
                                coalesce((SELECT earliest FROM trims WHERE session = id), 1), \
                                (SELECT document FROM marks WHERE session = id), \
                                (SELECT last FROM events WHERE session = id ORDER BY first DESC LIMIT 1), \
                                (SELECT coalesce(sum(bytes), 0) FROM events WHERE session = id) \
                            FROM sessions WHERE NOT forgotten ORDER BY id";
    let moment = Transaction::new(db, TransactionBehavior::Deferred)?;
    let mut found: BTreeMap<i64, StoredSession> =
        moment.prepare(SESSIONS)?.query_map([], |row| Ok((row.get(0)?, stored(row)?)))?.collect::<Result<_, _>>()?;
    let mut parts = |query, put: fn(&mut StoredSession, String)| -> rusqlite::Result<()> {
        let mut find = moment.prepare(query)?;
        let mut rows = find.query([])?;
        while let Some(row) = rows.next()? {
            if let Some(session) = found.get_mut(&row.get(0)?) {
                put(session, row.get(1)?);
            }
        }
        Ok(())
    };
    parts("SELECT session, document FROM turns ORDER BY session, number", |session, turn| session.turns.push(turn))?;
    parts("SELECT session, document FROM permissions ORDER BY session, number", |session, permission| {
        session.permissions.push(permission);
    })?;
    Ok(found.into_values().collect())
}

fn stored(row: &Row<'_>) -> rusqlite::Result<StoredSession> {
    let text = |at| row.get::<_, String>(at);
    let strange = |at, text: &str| {
        let error = format!("{text:?} is not what was written there");
        rusqlite::Error::FromSqlConversionFailure(at, rusqlite::types::Type::Text, error.into())
    };
    let (user, ended_at) = (text(2)?, row.get::<_, Option<String>>(3)?);
    let ended_at = ended_at.map(|at| at.parse().map_err(|_| strange(3, &at))).transpose()?;
    let earliest_seq = number(row, 5)?;
    Ok(StoredSession {
        row: SessionRow {
            session: SessionId::from_client(&text(1)?),
            user: UserId::parse(&user).map_err(|_| strange(2, &user))?,
            ended_at,
            document: row.get(4)?,
        },
        turns: Vec::new(),
        permissions: Vec::new(),
        mark: row.get(6)?,
        earliest_seq,
        last_seq: row.get::<_, Option<i64>>(7)?.map_or(earliest_seq - 1, i64::cast_unsigned),
        bytes: number(row, 8)?,
    })
}

/// All tokens the user ever spent.
pub(super) fn spent(db: &Connection, user: &UserId) -> rusqlite::Result<(u64, u64)> {
    let mut query = db.prepare_cached("SELECT input, output FROM spent WHERE user = ?1")?;
    let sums = query.query_row([user.as_str()], |row| Ok((number(row, 0)?, number(row, 1)?)));
    Ok(sums.optional()?.unwrap_or_default())
}

/// What the user spent in this hour and later ones.
pub(super) fn spent_since(db: &Connection, user: &UserId, hour: u64) -> rusqlite::Result<Vec<SpentRow>> {
    const FIND: &str = "SELECT hour, input, output FROM spent_hours WHERE user = ?1 AND hour >= ?2 ORDER BY hour";
    let mut query = db.prepare_cached(FIND)?;
    let rows = query.query_map(params![user.as_str(), whole(hour)], |row| {
        Ok(SpentRow { hour: number(row, 0)?, input: number(row, 1)?, output: number(row, 2)? })
    })?;
    rows.collect()
}

/// A number of ours; none is below zero.
fn number(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(at).map(i64::cast_unsigned)
}
