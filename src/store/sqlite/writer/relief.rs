//! A way out of a full disk.
//!
//! Whoever forgets or trims makes room, but stands in line behind those who need it. So on a full disk such changes are taken out of the line and made
//! first; their batches stay in it and are told in their turn. Should even that find no room, the ballast is given up for it.
//!
//! Nothing is added while there is no reserve: what is given up once has to be there for the next shortage.

use std::{
    mem,
    time::{Duration, Instant},
};

use rusqlite::wal::CheckpointMode;
use tracing::error;

use super::{
    super::{checkpoint::copy_log, ledger::Refusal, queue::Batch},
    Writer,
};

/// How long one try to make room may take.
const RELIEF: Duration = Duration::from_millis(500);

impl Writer {
    /// Whether there is room to get out of a shortage: outside, or as much in the file. Without it nothing is added.
    pub(super) fn has_reserve(&self) -> bool {
        self.ballast.is_held() || self.free_inside().is_ok_and(|bytes| bytes >= self.ballast.bytes())
    }

    /// Makes what room it can. True: there is a reserve, so that a next shortage can be dealt with too.
    pub(super) fn make_ready(&mut self, group: &mut [Batch]) -> bool {
        group.iter_mut().for_each(|batch| batch.give_relief(&mut self.relief));
        self.queue.take_relief(&mut self.relief);
        let deadline = Instant::now() + RELIEF;
        if self.make_room(deadline).is_err() {
            self.ballast.release();
            if let Err(Refusal::Never(reason)) = self.make_room(deadline) {
                error!(reason, "room can't be made; this is a fault in Greenroom");
                self.relief.clear();
            }
        }
        self.ballast.hold();
        // Who gave these is told when its batch is written: so they come first.
        self.relief.is_empty() && self.has_reserve()
    }

    fn make_room(&mut self, deadline: Instant) -> Result<(), Refusal> {
        copy_log(&self.db, CheckpointMode::PASSIVE)?;
        if !self.relief.is_empty() {
            let batch = Batch { changes: mem::take(&mut self.relief), done: Box::new(|| {}) };
            let group = [batch];
            let written = self.ledger.write(&mut self.db, &group);
            let [batch] = group;
            match written {
                Ok(debts) => self.debts.extend(debts),
                Err(refusal) => {
                    self.relief = batch.changes;
                    return Err(refusal);
                }
            }
        }
        while !self.debts.is_empty() && Instant::now() < deadline {
            self.debts.pay(&mut self.db, 0)?;
        }
        Ok(copy_log(&self.db, CheckpointMode::PASSIVE)?)
    }

    /// Room in the file that nothing uses, in bytes.
    fn free_inside(&self) -> rusqlite::Result<u64> {
        let number = |name| self.db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        Ok((number("freelist_count")? * number("page_size")?).cast_unsigned())
    }
}
