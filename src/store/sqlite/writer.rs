//! The one thread that writes.
//!
//! ```text
//!            ┌── nothing waits ──┐
//!            ▼                   │ done, done, …
//!   wait ── group ── write ── durable ── a slice of what is to be removed ──▶ wait
//!                      │  ▲
//!            no room,  │  │ after a pause, 100 ms → 1 s
//!            no disk   ▼  │
//!                   make room
//! ```
//!
//! A change is written at once; what comes while a transaction runs makes up the next one. So company forms by itself when there is much to do,
//! and nobody waits for it when there is not.

mod relief;
mod trouble;

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use rusqlite::{Connection, wal::CheckpointMode};
use tokio::sync::watch::Sender;
use tracing::{debug, error, warn};

use self::trouble::Trouble;
use super::{
    ballast::Ballast,
    checkpoint::{Pressure, copy_log},
    claims::Claims,
    debts::{Debt, Debts},
    file::{LOCK_WAIT, StoreFile, sentence},
    ledger::{Ledger, Refusal},
    queue::{Batch, Next, Queue},
};
use crate::store::{Change, Health, sqlite::PAGE_BYTES};

/// How long to wait before removing is tried again.
const REST: Duration = Duration::from_secs(1);
/// How often answers and claims whose time is over are looked for.
const SWEEP: Duration = Duration::from_mins(10);
/// How long the writer waits for readers that keep the log from beginning anew.
const READERS_WAIT: Duration = Duration::from_millis(20);
/// How often it is tried to get the ballast back.
const HOLD: Duration = Duration::from_secs(10);

/// Writes groups until the queue ends.
pub(super) struct Writer {
    pub(super) db: Connection,
    pub(super) queue: Arc<Queue>,
    pub(super) claims: Arc<Claims>,
    pub(super) pressure: Arc<Pressure>,
    pub(super) health: Sender<Health>,
    pub(super) ballast: Ballast,
    pub(super) debts: Debts,
    pub(super) ledger: Ledger,
    /// Changes that only make room, taken ahead of those that need it.
    pub(super) relief: Vec<Change>,
    /// When removing may be tried again, after it failed.
    pub(super) rest: Option<Instant>,
    /// Last, so that it is held for longer than the connection.
    pub(super) _file: Arc<StoreFile>,
}

impl Writer {
    pub(super) fn run(mut self) {
        let mut swept = Instant::now();
        let mut held = Instant::now();
        let mut group = Vec::new();
        loop {
            match self.queue.next(&mut group, self.patience()) {
                Next::End => break,
                Next::Idle => {}
                Next::Write => {
                    if !self.settle(mem::take(&mut group)) {
                        break;
                    }
                }
            }
            if swept.elapsed() >= SWEEP {
                swept = Instant::now();
                self.claims.sweep();
                self.debts.extend([Debt::Expired]);
            }
            if !self.ballast.is_held() && held.elapsed() >= HOLD {
                held = Instant::now();
                self.ballast.hold();
            }
            self.remove();
            self.relieve_log();
        }
    }

    fn patience(&self) -> Duration {
        match self.rest {
            _ if self.debts.is_empty() => {
                if self.ballast.is_held() {
                    SWEEP
                } else {
                    HOLD
                }
            }
            Some(until) => until.saturating_duration_since(Instant::now()),
            None => Duration::ZERO,
        }
    }

    /// Writes a group and tells whoever waits for it. False: the store was closed before it could.
    fn settle(&mut self, group: Vec<Batch>) -> bool {
        let mut group = group;
        match self.insist(&mut group) {
            Outcome::Written => {
                for batch in group {
                    if catch_unwind(AssertUnwindSafe(batch.done)).is_err() {
                        error!("whoever was told that a change is durable panicked; the store goes on");
                    }
                }
                true
            }
            Outcome::GivenUp => false,
            Outcome::Refused(reason) if group.len() == 1 => {
                error!(reason, "a change can never be written and is left out; this is a fault in Greenroom");
                true
            }
            Outcome::Refused(_) => group.into_iter().all(|batch| self.settle(vec![batch])),
        }
    }

    /// Tries until it is written.
    fn insist(&mut self, group: &mut [Batch]) -> Outcome {
        let mut trouble = Trouble::default();
        loop {
            let written = if self.has_reserve() { self.ledger.write(&mut self.db, group) } else { Err(Refusal::Full) };
            let (reason, full) = match written {
                Ok(debts) => {
                    self.debts.extend(debts);
                    trouble.end(&self.health);
                    return Outcome::Written;
                }
                Err(Refusal::Never(reason)) => {
                    trouble.end(&self.health);
                    return Outcome::Refused(reason);
                }
                Err(Refusal::Full) => ("the disk is full".to_owned(), true),
                Err(Refusal::Now(fault)) => (sentence(&fault), false),
            };
            // Often there is room that only has to be made: then nobody has to know.
            if full && trouble.is_first() && self.make_ready(group) {
                continue;
            }
            trouble.tell(&self.health, reason);
            loop {
                if !self.queue.pause(trouble.pause()) {
                    return Outcome::GivenUp;
                }
                if !full || self.make_ready(group) {
                    break;
                }
            }
        }
    }

    /// Removes a slice of what is no longer kept.
    fn remove(&mut self) {
        let resting = self.rest.is_some_and(|until| Instant::now() < until);
        if self.debts.is_empty() || resting {
            return;
        }
        // As much as is written, at the least: or the file would grow for as long as there is no quiet moment.
        let budget = 2 * PAGE_BYTES.cast_signed() * i64::from(self.pressure.take_written());
        let paid = self.debts.pay(&mut self.db, budget);
        if let Err(fault) = &paid
            && self.rest.is_none()
        {
            warn!(reason = sentence(fault), "what is no longer kept can't be removed now; it is tried again");
        }
        self.rest = paid.is_err().then(|| Instant::now() + REST);
    }

    /// Copies the rest of a log that grew too long, while nobody adds to it, and waits a little for readers that are in it.
    fn relieve_log(&self) {
        if self.pressure.is_requested() {
            let begun = Instant::now();
            let copied = restart_log(&self.db);
            self.pressure.relieved(copied.is_ok());
            debug!(took_ms = begun.elapsed().as_millis() as u64, anew = copied.is_ok(), "the store's log was copied");
        }
    }
}

enum Outcome {
    Written,
    /// It was closed before it could be written.
    GivenUp,
    /// It never can be.
    Refused(String),
}

fn restart_log(db: &Connection) -> rusqlite::Result<()> {
    db.busy_timeout(READERS_WAIT)?;
    let copied = copy_log(db, CheckpointMode::RESTART);
    db.busy_timeout(LOCK_WAIT)?;
    copied
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.queue.is_open() {
            error!("the store's writer ended unasked; this is a fault in Greenroom");
            self.health.send_replace(Health::Failing("its writer ended".to_owned()));
        }
        self.queue.end();
    }
}
