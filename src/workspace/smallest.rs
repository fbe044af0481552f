//! One page of a sorted list that may be far too long to be kept, let alone sorted.

use std::collections::BinaryHeap;

/// The smallest of many keys, from after a cursor on. Keeps one more than a page has: so it knows whether there is a next page.
#[derive(Debug)]
pub(super) struct Smallest<K> {
    after: Option<K>,
    limit: usize,
    kept: BinaryHeap<K>,
}

impl<K: Ord> Smallest<K> {
    pub(super) fn new(after: Option<K>, limit: usize) -> Self {
        Self { after, limit, kept: BinaryHeap::new() }
    }

    /// Offers a key; a key may come several times.
    pub(super) fn offer(&mut self, key: K) {
        if self.after.as_ref().is_some_and(|after| key <= *after) {
            return;
        }
        self.kept.push(key);
        if self.kept.len() > self.limit + 1 {
            self.kept.pop();
        }
    }

    /// The page, sorted, and whether there is more.
    pub(super) fn page(self) -> (Vec<K>, bool) {
        let mut page = self.kept.into_sorted_vec();
        let more = page.len() > self.limit;
        page.truncate(self.limit);
        page.dedup();
        (page, more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_without_a_gap_or_a_repetition() {
        let (mut after, mut read) = (None, Vec::new());
        loop {
            let mut smallest = Smallest::new(after, 7);
            (0..100).rev().for_each(|key| smallest.offer(key * 3 % 100));
            let (page, more) = smallest.page();
            after = page.last().copied();
            read.extend(page);
            if !more {
                break;
            }
        }
        assert_eq!(read, (0..100).collect::<Vec<_>>());
    }
}
