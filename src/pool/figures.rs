//! What a pool tells about itself: how opens came out, how long they waited, how long the stock lacked what was taken.
//!
//! Every open that is over is in exactly one of `hits` and the misses. Counts only grow, but for a hit that turns out to need a new agent session:
//! it becomes a miss.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Upper bounds of a histogram's buckets, in milliseconds; what is above goes into one more.
pub const BOUNDS_MS: [u64; 10] = [1, 5, 10, 50, 100, 500, 1_000, 5_000, 10_000, 30_000];

/// Sandboxes that were taken and whose replacement isn't ready yet; more are not followed.
const GAPS_MAX: usize = 1_024;

/// Durations, counted by size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Histogram([u64; BOUNDS_MS.len() + 1]);

impl Histogram {
    /// Counts one.
    pub fn add(&mut self, duration: Duration) {
        let place = BOUNDS_MS.iter().position(|bound| duration <= Duration::from_millis(*bound));
        self.0[place.unwrap_or(BOUNDS_MS.len())] += 1;
    }

    /// Each bucket's upper bound in milliseconds (none: everything above the others) and its own count.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        BOUNDS_MS.into_iter().map(Some).chain([None]).zip(self.0)
    }
}

/// Why an open didn't find what it wanted in stock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    /// There should have been one.
    Empty,
    /// The stock is being replaced because its template changed.
    TemplateChanged,
    /// This template keeps no stock at present.
    OverTarget,
}

/// Opens that weren't served from stock at once, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Misses {
    /// See [`Miss::Empty`].
    pub empty: u64,
    /// See [`Miss::TemplateChanged`].
    pub template_changed: u64,
    /// See [`Miss::OverTarget`].
    pub over_target: u64,
    /// Served from stock, but an existing workspace needed a new agent session.
    pub workspace: u64,
    /// Answered with an error.
    pub refused: u64,
    /// The caller hung up while waiting.
    pub given_up: u64,
}

/// A pool's counts since it exists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Opens that are over.
    pub opens: u64,
    /// Those served from stock at once.
    pub hits: u64,
    /// The others.
    pub misses: Misses,
    /// How long those waited that got a sandbox.
    pub wait: Histogram,
    /// From the taking of a sandbox until its replacement was ready.
    pub refill_lag: Histogram,
}

#[derive(Debug, Default)]
struct Inner {
    tally: Tally,
    gaps: VecDeque<Instant>,
}

/// Keeps a pool's [`Tally`].
#[derive(Debug, Default)]
pub struct Figures {
    /// A few lines at a time, never across an await.
    inner: Mutex<Inner>,
}

impl Figures {
    /// The counts of this moment.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.inner().tally
    }

    /// An open begins; it counts as given up unless its outcome is told.
    #[must_use]
    pub const fn open(&self) -> Open<'_> {
        Open { figures: self, outcome: Outcome::GivenUp }
    }

    /// A lease that was served from stock turned out to need a new agent session.
    pub fn needed_a_session(&self) {
        let tally = &mut self.inner().tally;
        tally.hits = tally.hits.saturating_sub(1);
        tally.misses.workspace += 1;
    }

    /// A sandbox was taken at this time: the stock lacks one.
    pub fn taken(&self, when: Instant) {
        let gaps = &mut self.inner().gaps;
        if gaps.len() < GAPS_MAX {
            gaps.push_back(when);
        }
    }

    /// A sandbox became ready; says how long the stock lacked it, if it did.
    pub fn replaced(&self, when: Instant) -> Option<Duration> {
        let mut inner = self.inner();
        let lag = when.saturating_duration_since(inner.gaps.pop_front()?);
        inner.tally.refill_lag.add(lag);
        Some(lag)
    }

    /// The stock is full, whatever was taken: some of it is no longer missed.
    pub fn full(&self) {
        self.inner().gaps.clear();
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Clone, Copy)]
enum Outcome {
    Served(Option<Miss>, Duration),
    Refused,
    GivenUp,
}

/// One open, until it is over.
#[derive(Debug)]
pub struct Open<'a> {
    figures: &'a Figures,
    outcome: Outcome,
}

impl Open<'_> {
    /// It got a sandbox: at once, or after a miss.
    pub fn served(mut self, miss: Option<Miss>, wait: Duration) {
        self.outcome = Outcome::Served(miss, wait);
    }

    /// It got an error.
    pub fn refused(mut self) {
        self.outcome = Outcome::Refused;
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let tally = &mut self.figures.inner().tally;
        tally.opens += 1;
        match self.outcome {
            Outcome::Served(miss, wait) => {
                tally.wait.add(wait);
                match miss {
                    None => tally.hits += 1,
                    Some(Miss::Empty) => tally.misses.empty += 1,
                    Some(Miss::TemplateChanged) => tally.misses.template_changed += 1,
                    Some(Miss::OverTarget) => tally.misses.over_target += 1,
                }
            }
            Outcome::Refused => tally.misses.refused += 1,
            Outcome::GivenUp => tally.misses.given_up += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_open_is_counted_once_whatever_becomes_of_it() {
        let figures = Figures::default();
        figures.open().served(None, Duration::from_micros(400));
        figures.open().served(None, Duration::from_micros(400));
        figures.needed_a_session();
        figures.open().served(Some(Miss::Empty), Duration::from_secs(2));
        figures.open().served(Some(Miss::OverTarget), Duration::from_secs(40));
        figures.open().refused();
        drop(figures.open());
        let Tally { opens, hits, misses, wait, .. } = figures.tally();
        let Misses { empty, template_changed, over_target, workspace, refused, given_up } = misses;
        assert_eq!((opens, hits), (6, 1));
        assert_eq!([empty, template_changed, over_target, workspace, refused, given_up], [1, 0, 1, 1, 1, 1]);
        let buckets: Vec<_> = wait.buckets().filter(|(_, count)| *count > 0).collect();
        assert_eq!(buckets, [(Some(1), 2), (Some(5_000), 1), (None, 1)]);
    }

    #[test]
    fn a_replacement_closes_the_oldest_gap() {
        let (figures, start) = (Figures::default(), Instant::now());
        figures.taken(start);
        figures.taken(start + Duration::from_secs(3));
        figures.replaced(start + Duration::from_secs(4));
        figures.full();
        figures.replaced(start + Duration::from_secs(90));
        let lags: Vec<_> = figures.tally().refill_lag.buckets().filter(|(_, count)| *count > 0).collect();
        assert_eq!(lags, [(Some(5_000), 1)]);
    }
}
