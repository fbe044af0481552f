//! One session's event log: append, read, follow.
//!
//! Events are numbered from 1 without holes and are in the log before any reader sees them. The log is bounded by the size of its
//! text: past that the oldest events go, and a reader whose place is gone is told so with the earliest number that is kept, never
//! given a silent gap. Readers only follow: none of them can slow the writer, and what one read gives is bounded in number and bytes.
//! For now the log is in memory and ends with the server.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;
use tokio::sync::watch;

use crate::{
    ids::{SessionId, TurnId},
    session::event::{Event, EventType},
};

/// Most events one read gives.
pub const READ_MAX: usize = 256;
/// Bytes of event text after which one read gives no further event; one event is always given, however large.
pub const READ_BYTES: usize = 1024 * 1024;

/// The reader's place is no longer kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("events up to {} are no longer kept", earliest - 1)]
pub struct CursorExpired {
    /// The earliest number that is kept.
    pub earliest: u64,
}

#[derive(Debug)]
struct Kept {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    max_bytes: usize,
}

impl Kept {
    /// Lets go of the oldest until the rest fits; the newest stays.
    fn fit(&mut self) {
        while self.bytes > self.max_bytes && self.events.len() > 1 {
            if let Some(oldest) = self.events.pop_front() {
                self.bytes -= oldest.json.len();
            }
        }
    }
}

/// What every reader is woken by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tip {
    last_seq: u64,
    closed: bool,
}

/// The events of one session.
#[derive(Debug)]
pub struct EventLog {
    session: SessionId,
    /// Held for one append or one read, never across an await.
    kept: Mutex<Kept>,
    tip: watch::Sender<Tip>,
}

impl EventLog {
    /// An empty log that keeps at most `max_bytes` of event text (and always the newest event).
    #[must_use]
    pub fn new(session: SessionId, max_bytes: usize) -> Arc<Self> {
        let kept = Mutex::new(Kept { events: VecDeque::new(), bytes: 0, max_bytes });
        Arc::new(Self { session, kept, tip: watch::Sender::new(Tip { last_seq: 0, closed: false }) })
    }

    /// Appends an event; returns its number. [`EventType::SessionEnded`] closes the log: nothing is taken after it.
    pub fn append(&self, kind: EventType, turn: Option<&TurnId>, content: &Value) -> u64 {
        let mut kept = self.kept();
        let tip = *self.tip.borrow();
        if tip.closed {
            return tip.last_seq;
        }
        let seq = tip.last_seq + 1;
        let event = Arc::new(Event::new(seq, kind, &self.session, turn.cloned(), content));
        kept.bytes += event.json.len();
        kept.events.push_back(event);
        kept.fit();
        self.tip.send_replace(Tip { last_seq: seq, closed: kind == EventType::SessionEnded });
        seq
    }

    /// The number of the newest event; 0 when there is none.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.tip.borrow().last_seq
    }

    /// The event text that is kept, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.kept().bytes
    }

    /// Keeps at most `max_bytes` from now on. Readers that were at the newest events lose nothing; those further behind are told.
    pub fn shrink(&self, max_bytes: usize) {
        let mut kept = self.kept();
        kept.max_bytes = kept.max_bytes.min(max_bytes);
        kept.fit();
        kept.events.shrink_to_fit();
    }

    /// Up to `limit` (at most [`READ_MAX`]) events after `after`, fewer when their text comes to [`READ_BYTES`]. Empty: there is
    /// nothing newer yet.
    ///
    /// # Errors
    /// [`CursorExpired`].
    pub fn read(&self, after: u64, limit: usize) -> Result<Vec<Arc<Event>>, CursorExpired> {
        let kept = self.kept();
        let Some(earliest) = kept.events.front().map(|event| event.seq) else { return Ok(Vec::new()) };
        if after + 1 < earliest {
            return Err(CursorExpired { earliest });
        }
        let skip = usize::try_from(after + 1 - earliest).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let fits = |event: &&Arc<Event>| {
            let first = bytes == 0;
            bytes += event.json.len();
            first || bytes <= READ_BYTES
        };
        Ok(kept.events.iter().skip(skip).take(limit.min(READ_MAX)).take_while(fits).cloned().collect())
    }

    /// A reader that begins after `after`.
    #[must_use]
    pub fn follow(self: &Arc<Self>, after: u64) -> LogReader {
        LogReader { log: Arc::clone(self), tip: self.tip.subscribe(), after, read: VecDeque::new() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One reader's place in a log.
#[derive(Debug)]
pub struct LogReader {
    log: Arc<EventLog>,
    tip: watch::Receiver<Tip>,
    after: u64,
    read: VecDeque<Arc<Event>>,
}

impl LogReader {
    /// The next event, waiting for it if need be; none when the session is over and all was read. Safe to drop while it waits:
    /// the place is kept.
    ///
    /// # Errors
    /// [`CursorExpired`] when the reader fell behind what is kept.
    pub async fn next(&mut self) -> Result<Option<Arc<Event>>, CursorExpired> {
        loop {
            if let Some(event) = self.read.pop_front() {
                self.after = event.seq;
                return Ok(Some(event));
            }
            let tip = *self.tip.borrow_and_update();
            if tip.last_seq > self.after {
                self.read.extend(self.log.read(self.after, READ_MAX)?);
            } else if tip.closed || self.tip.changed().await.is_err() {
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn log(max_bytes: usize) -> Arc<EventLog> {
        EventLog::new(SessionId::from_client("ses_test"), max_bytes)
    }

    #[tokio::test]
    async fn a_reader_replays_and_follows_without_hole_or_repetition() {
        let log = log(usize::MAX);
        for number in 0..300 {
            log.append(EventType::MessageDelta, None, &json!({"text": number}));
        }
        let writer = Arc::clone(&log);
        let mut reader = log.follow(0);
        let writing = tokio::spawn(async move {
            for number in 300..1000 {
                writer.append(EventType::MessageDelta, None, &json!({"text": number}));
                tokio::task::yield_now().await;
            }
            writer.append(EventType::SessionEnded, None, &json!({}));
        });
        let mut seen = Vec::new();
        while let Some(event) = reader.next().await.expect("nothing expires") {
            seen.push(event.seq);
        }
        writing.await.expect("the writer ends");
        assert_eq!(seen, (1..=1001).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_place_that_is_gone_is_told_with_the_earliest_number() {
        let log = log(1000);
        for _ in 0..100 {
            log.append(EventType::MessageDelta, None, &json!({"text": "0123456789"}));
        }
        let CursorExpired { earliest } = log.read(0, 10).expect_err("the first are gone");
        assert!(earliest > 90);
        assert_eq!(log.read(earliest - 1, 10).expect("kept")[0].seq, earliest);
        assert_eq!(log.follow(3).next().await.expect_err("its place is gone"), CursorExpired { earliest });
    }

    #[tokio::test]
    async fn one_read_is_bounded_in_bytes_and_the_next_goes_on_where_it_ended() {
        let log = log(usize::MAX);
        for size in [READ_BYTES * 2, READ_BYTES / 3, READ_BYTES / 3, READ_BYTES / 3, READ_BYTES * 2] {
            log.append(EventType::MessageDelta, None, &json!({"text": "x".repeat(size)}));
        }
        log.append(EventType::SessionEnded, None, &json!({}));
        let (mut after, mut pages) = (0, Vec::new());
        while after < log.last_seq() {
            let page = log.read(after, READ_MAX).expect("kept");
            after = page.last().expect("one is always given").seq;
            pages.push(page.len());
        }
        assert_eq!(pages, [1, 2, 1, 1, 1]);
        let mut reader = log.follow(0);
        let mut seen = 0;
        while let Some(event) = reader.next().await.expect("nothing expires") {
            seen += 1;
            assert_eq!(event.seq, seen);
        }
        assert_eq!(seen, 6);
    }

    #[tokio::test]
    async fn a_log_that_shrinks_keeps_the_newest_and_tells_who_was_behind() {
        let log = log(usize::MAX);
        for _ in 0..100 {
            log.append(EventType::MessageDelta, None, &json!({"text": "x".repeat(1000)}));
        }
        let (mut behind, mut near) = (log.follow(0), log.follow(99));
        log.append(EventType::SessionEnded, None, &json!({}));
        log.shrink(3000);
        assert!((1..=3000).contains(&log.bytes()));
        assert_eq!(near.next().await.expect("kept").expect("an event").seq, 100);
        assert_eq!(near.next().await.expect("kept").expect("an event").kind, EventType::SessionEnded);
        assert_eq!(near.next().await.expect("kept").map(|event| event.seq), None);
        behind.next().await.expect_err("its place is gone");
    }

    #[test]
    fn nothing_comes_after_the_end() {
        let log = log(usize::MAX);
        assert_eq!(log.append(EventType::SessionEnded, None, &json!({})), 1);
        assert_eq!(log.append(EventType::MessageDelta, None, &json!({})), 1);
        assert_eq!(log.read(0, 10).expect("kept").len(), 1);
    }

    proptest! {
        #[test]
        fn every_read_is_a_run_without_holes(count in 0_u64..200, after in 0_u64..250, limit in 0_usize..300, size in 100_usize..20_000) {
            let log = log(size);
            for _ in 0..count {
                log.append(EventType::MessageDelta, None, &json!({"text": "x"}));
            }
            match log.read(after, limit) {
                Ok(events) => {
                    for (offset, event) in (1..).zip(&events) {
                        prop_assert_eq!(event.seq, after + offset);
                    }
                }
                Err(CursorExpired { earliest }) => prop_assert!(after + 1 < earliest && earliest <= count),
            }
        }
    }
}
