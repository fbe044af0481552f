//! Output that has arrived and is not delivered yet. Pure.
//!
//! Puts the numbers in order: what was there before is dropped, a hole is an error. Bounded by the window the supervisor keeps to.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::{
    sandbox::pipes::{FromAgent, Stream},
    supervisor::{
        frames::{CHUNK_MAX, OUTPUT_WINDOW},
        ring::ENTRY_COST,
    },
};

/// Most that may wait here: the window, passed by at most one chunk.
const COST_MAX: usize = OUTPUT_WINDOW + CHUNK_MAX + ENTRY_COST;

/// The supervisor broke the numbering or the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InboxError {
    /// Chunks are missing.
    #[error("output chunk {found} came where {expected} was expected")]
    Hole {
        /// The number that should have come.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// More than the window is on its way.
    #[error("output chunk {0} is outside the window")]
    Window(u64),
}

/// The queue between socket and reader.
#[derive(Debug)]
pub struct Inbox {
    waiting: VecDeque<(u64, Stream, Bytes)>,
    cost: usize,
    received: u64,
}

impl Inbox {
    /// Expects the chunk after `received` next.
    pub const fn new(received: u64) -> Self {
        Self { waiting: VecDeque::new(), cost: 0, received }
    }

    /// Newest chunk that has arrived.
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// Takes a chunk in, or drops it when it was here before.
    pub fn push(&mut self, number: u64, stream: Stream, bytes: Bytes) -> Result<(), InboxError> {
        if number <= self.received {
            return Ok(());
        }
        let expected = self.received + 1;
        if number != expected {
            return Err(InboxError::Hole { expected, found: number });
        }
        let cost = bytes.len() + ENTRY_COST;
        if self.cost + cost > COST_MAX {
            return Err(InboxError::Window(number));
        }
        self.received = number;
        self.cost += cost;
        self.waiting.push_back((number, stream, bytes));
        Ok(())
    }

    /// Takes out the next chunk for the reader.
    pub fn pop(&mut self) -> Option<FromAgent> {
        let (seq, stream, bytes) = self.waiting.pop_front()?;
        self.cost -= bytes.len() + ENTRY_COST;
        Some(FromAgent::Chunk { seq, stream, bytes })
    }

    /// Whether everything was delivered.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Drops what waits: there is no reader.
    pub fn discard(&mut self) {
        self.waiting.clear();
        self.cost = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(inbox: &mut Inbox, number: u64, size: usize) -> Result<(), InboxError> {
        inbox.push(number, Stream::Stdout, Bytes::from(vec![0; size]))
    }

    #[test]
    fn what_comes_twice_is_delivered_once_and_a_hole_is_told() {
        let mut inbox = Inbox::new(4);
        for number in [5, 6, 5, 6, 4, 7] {
            push(&mut inbox, number, 1).expect("known or next");
        }
        assert_eq!(push(&mut inbox, 9, 1), Err(InboxError::Hole { expected: 8, found: 9 }));
        let delivered: Vec<_> = std::iter::from_fn(|| inbox.pop())
            .map(|chunk| if let FromAgent::Chunk { seq, .. } = chunk { seq } else { 0 })
            .collect();
        assert_eq!(delivered, [5, 6, 7]);
    }

    #[test]
    fn a_supervisor_that_ignores_the_window_is_refused() {
        let mut inbox = Inbox::new(0);
        let accepted = (1..=100).take_while(|number| push(&mut inbox, *number, CHUNK_MAX).is_ok()).count();
        assert_eq!(accepted, COST_MAX / (CHUNK_MAX + ENTRY_COST));
        inbox.discard();
        push(&mut inbox, accepted as u64 + 1, CHUNK_MAX).expect("room again");
    }
}
