//! What was said and is not acknowledged yet, numbered from 1 in the order it was said.
//!
//! Both ends of a link keep one: the supervisor for the agent's output, the server for the agent's input. An entry stays until
//! the other end has acknowledged it, so a link that breaks loses nothing: after a reconnection [`Ring::rewind`] puts the sending
//! position back to the first entry the other end does not have. The ring is bounded by the sum of its entries' costs; whoever fills it asks
//! [`Ring::room`] first and stops reading its source when there is none. Pure data: no I/O, no clock.

use std::collections::VecDeque;

/// What an entry costs on top of its bytes: its place in the queue and its allocation. Keeps a flood of tiny entries bounded too.
pub const ENTRY_COST: usize = 64;

/// A numbered, bounded queue with a sending position.
#[derive(Debug)]
pub struct Ring<T> {
    entries: VecDeque<(usize, T)>,
    /// Number of the entry at the front, or of the next one when the ring is empty.
    oldest: u64,
    /// Entries at the front that were sent on the current link.
    sent: usize,
    cost: usize,
    sent_cost: usize,
    limit: usize,
}

impl<T> Ring<T> {
    /// An empty ring whose first entry will be number `first`, and whose entries may cost `limit` bytes together.
    #[must_use]
    pub const fn new(first: u64, limit: usize) -> Self {
        Self { entries: VecDeque::new(), oldest: first, sent: 0, cost: 0, sent_cost: 0, limit }
    }

    /// How many bytes one more entry may have; 0 when the ring is full.
    #[must_use]
    pub const fn room(&self) -> usize {
        self.limit.saturating_sub(self.cost).saturating_sub(ENTRY_COST)
    }

    /// Adds an entry of `bytes` bytes and returns its number. The caller has asked for [`room`](Self::room); an entry that is bigger is
    /// kept all the same, because dropping it would be worse than passing the limit once.
    pub fn push(&mut self, bytes: usize, entry: T) -> u64 {
        let cost = bytes.saturating_add(ENTRY_COST);
        self.entries.push_back((cost, entry));
        self.cost = self.cost.saturating_add(cost);
        self.newest()
    }

    /// Forgets everything up to and including `number`. A number that was never given is taken as the newest.
    pub fn acknowledge(&mut self, number: u64) {
        while self.oldest <= number {
            let Some((cost, _)) = self.entries.pop_front() else { break };
            self.cost -= cost;
            self.oldest += 1;
            if self.sent > 0 {
                self.sent -= 1;
                self.sent_cost -= cost;
            }
        }
    }

    /// Begins to send again after `last`, the newest entry the other end has. What is older stays until it is acknowledged.
    pub fn rewind(&mut self, last: u64) {
        let known = usize::try_from(last.saturating_add(1).saturating_sub(self.oldest)).unwrap_or(usize::MAX);
        self.sent = known.min(self.entries.len());
        self.sent_cost = self.entries.iter().take(self.sent).map(|(cost, _)| cost).sum();
    }

    /// The next entry to send, if what was sent and is not acknowledged costs less than `window`. Moves the sending position.
    pub fn next(&mut self, window: usize) -> Option<(u64, &T)> {
        if self.sent_cost >= window {
            return None;
        }
        let (cost, entry) = self.entries.get(self.sent)?;
        let number = self.oldest + self.sent as u64;
        self.sent += 1;
        self.sent_cost += cost;
        Some((number, entry))
    }

    /// Whether everything was acknowledged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether everything in the ring was sent on the current link.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        self.sent == self.entries.len()
    }

    /// The oldest number that is kept; the next number to be given when the ring is empty.
    #[must_use]
    pub const fn oldest(&self) -> u64 {
        self.oldest
    }

    /// The newest number given; one less than the first when there was none.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.oldest + self.entries.len() as u64 - 1
    }

    /// What the kept entries cost together, in bytes.
    #[must_use]
    pub const fn cost(&self) -> usize {
        self.cost
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW: usize = usize::MAX;

    #[test]
    fn numbers_begin_at_one_and_have_no_holes() {
        let mut ring = Ring::new(1, 1000);
        assert_eq!((ring.oldest(), ring.newest()), (1, 0));
        assert_eq!([ring.push(1, 'a'), ring.push(1, 'b'), ring.push(1, 'c')], [1, 2, 3]);
        assert_eq!(ring.next(WINDOW), Some((1, &'a')));
        ring.acknowledge(2);
        assert_eq!(ring.next(WINDOW), Some((3, &'c')));
        assert_eq!(ring.next(WINDOW), None);
    }

    #[test]
    fn a_full_ring_has_no_room_until_something_is_acknowledged() {
        let mut ring = Ring::new(1, 2 * ENTRY_COST + 10);
        ring.push(10, ());
        assert_eq!(ring.room(), 0);
        ring.acknowledge(1);
        assert_eq!(ring.room(), ENTRY_COST + 10);
    }

    #[test]
    fn the_window_holds_back_what_the_ring_still_keeps() {
        let mut ring = Ring::new(1, 100_000);
        for _ in 0..3 {
            ring.push(100 - ENTRY_COST, ());
        }
        assert!(ring.next(200).is_some() && ring.next(200).is_some() && ring.next(200).is_none());
        ring.acknowledge(1);
        assert_eq!(ring.next(200), Some((3, &())));
    }

    #[test]
    fn a_rewind_sends_again_only_what_the_other_end_lacks() {
        let mut ring = Ring::new(1, 100_000);
        for letter in "abcd".chars() {
            ring.push(1, letter);
        }
        while ring.next(WINDOW).is_some() {}
        ring.acknowledge(1);
        ring.rewind(3);
        assert_eq!(ring.next(WINDOW), Some((4, &'d')));
        ring.rewind(0);
        assert_eq!(ring.next(WINDOW), Some((2, &'b')));
        ring.rewind(u64::MAX - 1);
        assert!(ring.is_sent());
    }

    proptest! {
        /// A receiver that keeps only the number it expects next gets every entry exactly once, whatever breaks in between.
        #[test]
        fn nothing_is_lost_or_doubled(steps in prop::collection::vec(0_u8..6, 1..400)) {
            let mut ring = Ring::new(1, 4096);
            let (mut pushed, mut received) = (0_u64, Vec::new());
            for step in steps {
                match step {
                    0 | 1 => if ring.room() >= 8 { pushed += 1; ring.push(8, pushed); },
                    2 | 3 => if let Some((number, &entry)) = ring.next(512) {
                        prop_assert_eq!(number, entry);
                        prop_assert!(number <= received.len() as u64 + 1, "a hole before {}", number);
                        if number == received.len() as u64 + 1 { received.push(entry); }
                    },
                    4 => ring.acknowledge(received.len() as u64 / 2),
                    _ => ring.rewind(received.len() as u64),
                }
                prop_assert!(ring.cost() <= 4096);
            }
            ring.rewind(received.len() as u64);
            while !ring.is_sent() || !ring.is_empty() {
                while let Some((_, &entry)) = ring.next(512) { received.push(entry); }
                ring.acknowledge(received.len() as u64);
            }
            prop_assert_eq!(received, (1..=pushed).collect::<Vec<_>>());
        }
    }
}
