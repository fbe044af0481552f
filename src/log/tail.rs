//! The newest events of a log, in memory: what readers near the end are served from. Pure.
//!
//! Those that aren't durable stay in any case, for nobody could read them from the store.

use std::{collections::VecDeque, sync::Arc};

use crate::session::event::Event;

/// Text that is kept for readers, in bytes.
const TAIL_BYTES: usize = 256 * 1024;

#[derive(Debug, Default)]
pub(super) struct Tail {
    /// Consecutive.
    events: VecDeque<Arc<Event>>,
    bytes: usize,
}

impl Tail {
    /// Adds events right behind those that are there; `durable` is the newest the store has.
    pub(super) fn push(&mut self, events: Vec<Arc<Event>>, durable: u64) {
        self.bytes += events.iter().map(|event| event.json.len()).sum::<usize>();
        self.events.extend(events);
        self.fit(durable);
    }

    /// Lets go of the oldest that are durable until the rest fits.
    pub(super) fn fit(&mut self, durable: u64) {
        self.shrink(durable, TAIL_BYTES);
    }

    /// Lets go of all that are durable.
    pub(super) fn clear(&mut self, durable: u64) {
        self.shrink(durable, 0);
        self.events.shrink_to_fit();
    }

    fn shrink(&mut self, durable: u64, max: usize) {
        while self.bytes > max
            && let Some(oldest) = self.events.pop_front_if(|oldest| oldest.seq <= durable)
        {
            self.bytes -= oldest.json.len();
        }
    }

    /// Events after `after` up to `durable`, within the bounds; none if they don't begin here.
    pub(super) fn read(&self, after: u64, durable: u64, limit: usize, max_bytes: usize) -> Option<Vec<Arc<Event>>> {
        let first = self.events.front()?.seq;
        let skip = usize::try_from((after + 1).checked_sub(first)?).ok()?;
        if skip >= self.events.len() {
            return None;
        }
        let mut bytes = 0;
        let fits = |event: &&Arc<Event>| {
            let is_first = bytes == 0;
            bytes += event.json.len();
            event.seq <= durable && (is_first || bytes <= max_bytes)
        };
        Some(self.events.range(skip..).take(limit).take_while(fits).cloned().collect())
    }
}
