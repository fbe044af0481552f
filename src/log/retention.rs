//! How much of a log is kept: which events must go when it grows. Pure.
//!
//! Sizes are remembered in steps, not for every event: the log keeps its bound to about one step.

use std::collections::VecDeque;

/// Steps into which the bound is parted.
const STEPS: usize = 64;

#[derive(Debug)]
pub(super) struct Retention {
    max_bytes: usize,
    bytes: usize,
    /// The last event of each step, and the bytes of the step; oldest first.
    steps: VecDeque<(u64, usize)>,
}

impl Retention {
    pub(super) const fn new(max_bytes: usize) -> Self {
        Self { max_bytes, bytes: 0, steps: VecDeque::new() }
    }

    /// Of a log that is there already. Nobody remembers its steps: its events are taken to be of one size.
    pub(super) fn restored(max_bytes: usize, earliest_seq: u64, last_seq: u64, bytes: usize) -> Self {
        let count = (last_seq + 1).saturating_sub(earliest_seq);
        let parts = count.min(STEPS as u64);
        let part = |number: u64| {
            let end = |number: u64| usize::try_from(bytes as u64 * number / parts).unwrap_or(usize::MAX);
            (earliest_seq - 1 + count * number / parts, end(number) - end(number - 1))
        };
        Self { max_bytes, bytes, steps: (1..=parts).map(part).collect() }
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// So many bytes were added, up to this event. The event up to which the log must go now, if it must.
    pub(super) fn add(&mut self, last_seq: u64, bytes: usize) -> Option<u64> {
        self.bytes += bytes;
        match self.steps.back_mut() {
            Some((last, size)) if *size < self.max_bytes / STEPS => {
                *last = last_seq;
                *size += bytes;
            }
            _ => self.steps.push_back((last_seq, bytes)),
        }
        let mut up_to = None;
        while self.bytes > self.max_bytes
            && self.steps.len() > 1
            && let Some((last, size)) = self.steps.pop_front()
        {
            self.bytes -= size;
            up_to = Some(last);
        }
        up_to
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_log_that_was_there_goes_step_by_step_too() {
        let mut retention = Retention::restored(64_000, 101, 1100, 64_000);
        assert_eq!(retention.bytes(), 64_000);
        let up_to = retention.add(1101, 10).expect("one step goes");
        assert!((101..130).contains(&up_to), "{up_to}");
        assert_eq!(Retention::restored(64_000, 1, 0, 0).add(1, 10), None);
    }

    proptest! {
        #[test]
        fn the_bound_holds_to_one_step_and_the_newest_stay(sizes in prop::collection::vec(1_usize..5000, 1..400)) {
            let mut retention = Retention::new(64_000);
            let (mut gone, mut kept) = (0, Vec::new());
            for (seq, size) in (1_u64..).zip(sizes) {
                kept.push((seq, size));
                if let Some(up_to) = retention.add(seq, size) {
                    prop_assert!(up_to > gone && up_to < seq);
                    gone = up_to;
                    kept.retain(|(seq, _)| *seq > up_to);
                }
                let bytes: usize = kept.iter().map(|(_, size)| size).sum();
                prop_assert_eq!(retention.bytes(), bytes);
                prop_assert!(bytes <= 64_000);
            }
        }
    }
}
