//! One reader's place in a log.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::watch;

use super::{CursorExpired, EventLog, LogError, READ_MAX, Tip};
use crate::session::event::Event;

/// Replays, then follows. Holds one read at most.
#[derive(Debug)]
pub struct LogReader {
    log: Arc<EventLog>,
    tip: watch::Receiver<Tip>,
    after: u64,
    read: VecDeque<Arc<Event>>,
}

impl LogReader {
    pub(super) fn new(log: Arc<EventLog>, tip: watch::Receiver<Tip>, after: u64) -> Self {
        Self { log, tip, after, read: VecDeque::new() }
    }

    /// The next event, waiting for it if need be; none when the session is over and all was read. Safe to drop while it waits:
    /// the place is kept.
    ///
    /// # Errors
    /// [`LogError`]: the reader fell behind what is kept, or the store doesn't work.
    pub async fn next(&mut self) -> Result<Option<Arc<Event>>, LogError> {
        loop {
            if let Some(event) = self.read.pop_front() {
                self.after = event.seq;
                return Ok(Some(event));
            }
            let tip = *self.tip.borrow_and_update();
            if tip.last_seq > self.after {
                self.read.extend(self.log.read(self.after, READ_MAX).await?);
                if self.read.is_empty() {
                    // The session was forgotten meanwhile.
                    return Err(CursorExpired { earliest: tip.last_seq + 1 }.into());
                }
            } else if tip.closed || self.tip.changed().await.is_err() {
                return Ok(None);
            }
        }
    }
}
