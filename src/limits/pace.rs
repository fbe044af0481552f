//! One pace for many users: governor's algorithm (GCRA) over a book of ours, which has a hard cap and can be looked at without counting.
//!
//! A book is shared by the paces of all tiers. It has no names in it but 128 bits made of each with keys of its own, so that its size depends on nobody's
//! name; that two users get the same bits will not happen, and nobody can bring it about who doesn't know the keys.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::StateInformationMiddleware,
    nanos::Nanos,
    state::{StateStore, keyed::ShrinkableKeyedStateStore},
};

use super::{RateState, SWEEP_PERIOD};
use crate::ids::UserId;

/// A pace every user of a tier has for themselves.
#[derive(Debug)]
pub(super) struct Pace<C: Clock = DefaultClock> {
    policy: &'static str,
    quota: Quota,
    book: Arc<Book>,
    limiter: RateLimiter<Ask, Store, C, StateInformationMiddleware>,
    clock: C,
}

/// Stands for a user.
type Mark = [u64; 2];

/// What is asked of the book.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Ask {
    /// Count one.
    Take(Mark),
    /// Count none, just tell.
    Look(Mark),
}

/// When each user's bucket is full again, counted from when the limiters were made.
#[derive(Debug)]
pub(super) struct Book {
    capacity: usize,
    keys: [RandomState; 2],
    /// Locked for one look-up or one sweep, never across an await.
    users: Mutex<HashMap<Mark, Nanos>>,
}

/// The book, as governor wants it.
#[derive(Debug)]
struct Store(Arc<Book>);

impl Pace<DefaultClock> {
    pub(super) fn new(policy: &'static str, per_minute: NonZeroU32, burst: NonZeroU32, book: &Arc<Book>) -> Self {
        Self::with_clock(policy, per_minute, burst, book, DefaultClock::default())
    }
}

impl<C: Clock + Clone> Pace<C> {
    fn with_clock(policy: &'static str, per_minute: NonZeroU32, burst: NonZeroU32, book: &Arc<Book>, clock: C) -> Self {
        let quota = Quota::per_minute(per_minute).allow_burst(burst);
        let book = Arc::clone(book);
        let limiter = RateLimiter::new(quota, Store(Arc::clone(&book)), clock.clone());
        Self { policy, quota, book, limiter, clock }
    }

    /// Counts one, or says when the next is granted.
    pub(super) fn take(&self, user: &UserId) -> Result<RateState, RateState> {
        let mark = self.book.mark(user);
        if !self.book.has_room_for(&mark) {
            return Err(self.state(0, SWEEP_PERIOD));
        }
        match self.limiter.check_key(&Ask::Take(mark)) {
            Ok(snapshot) => Ok(self.state(snapshot.remaining_burst_capacity(), self.quota.replenish_interval())),
            Err(not_until) => Err(self.state(0, not_until.wait_time_from(self.clock.now()))),
        }
    }

    /// Counts nothing.
    pub(super) fn look(&self, user: &UserId) -> RateState {
        match self.limiter.check_key(&Ask::Look(self.book.mark(user))) {
            // The snapshot is what would be left after one more.
            Ok(snapshot) => self.state(snapshot.remaining_burst_capacity() + 1, self.quota.replenish_interval()),
            Err(not_until) => self.state(0, not_until.wait_time_from(self.clock.now())),
        }
    }

    /// Forgets users whose bucket is full: they are the same as users never seen.
    pub(super) fn sweep(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }

    fn state(&self, remaining: u32, reset: Duration) -> RateState {
        RateState {
            policy: self.policy,
            quota: self.quota.burst_size().get(),
            window: Some(self.quota.burst_size_replenished_in()),
            remaining,
            reset: Some(reset),
        }
    }
}

impl Book {
    /// A book for so many users.
    pub(super) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self { capacity, keys: [RandomState::new(), RandomState::new()], users: Mutex::default() })
    }

    fn mark(&self, user: &UserId) -> Mark {
        [self.keys[0].hash_one(user), self.keys[1].hash_one(user)]
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Mark, Nanos>> {
        // Nothing panics while it is held but governor's arithmetic, and every entry is whole at any time.
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_room_for(&self, mark: &Mark) -> bool {
        let users = self.lock();
        users.len() < self.capacity || users.contains_key(mark)
    }
}

impl StateStore for Store {
    type Key = Ask;

    fn measure_and_replace<T, F, E>(&self, key: &Ask, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut users = self.0.lock();
        match key {
            Ask::Look(mark) => measure(users.get(mark).copied()).map(|(outcome, _)| outcome),
            Ask::Take(mark) => {
                let (outcome, next) = measure(users.get(mark).copied())?;
                // Two new users may race for the last place: the cap stands, and the second goes uncounted this once.
                if users.len() < self.0.capacity || users.contains_key(mark) {
                    users.insert(*mark, next);
                }
                Ok(outcome)
            }
        }
    }
}

impl ShrinkableKeyedStateStore<Ask> for Store {
    fn retain_recent(&self, drop_below: Nanos) {
        self.0.lock().retain(|_, full_at| *full_at >= drop_below);
    }

    fn shrink_to_fit(&self) {
        let mut users = self.0.lock();
        // Only after a flood: growing again for every new user would cost more than it saves.
        if users.capacity() > 4 * users.len() + 1024 {
            users.shrink_to_fit();
        }
    }

    fn len(&self) -> usize {
        self.0.lock().len()
    }

    fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn pace(per_minute: u32, burst: u32, capacity: usize) -> (Pace<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let per_minute = NonZeroU32::new(per_minute).unwrap();
        let burst = NonZeroU32::new(burst).unwrap();
        (Pace::with_clock("open", per_minute, burst, &Book::new(capacity), clock.clone()), clock)
    }

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    #[test]
    fn a_burst_is_granted_and_then_the_pace() {
        let (pace, clock) = pace(60, 3, 10);
        let alice = user("alice");
        for left in [2, 1, 0] {
            assert_eq!(pace.take(&alice).unwrap().remaining, left);
        }
        let refused = pace.take(&alice).unwrap_err();
        assert_eq!((refused.remaining, refused.reset), (0, Some(Duration::from_secs(1))));
        clock.advance(Duration::from_secs(1));
        pace.take(&alice).unwrap();
        pace.take(&alice).unwrap_err();
    }

    #[test]
    fn looking_counts_nothing() {
        let (pace, _clock) = pace(60, 3, 10);
        let alice = user("alice");
        assert_eq!(pace.look(&alice).remaining, 3);
        pace.take(&alice).unwrap();
        for _ in 0..5 {
            assert_eq!(pace.look(&alice).remaining, 2);
        }
        pace.take(&alice).unwrap();
        pace.take(&alice).unwrap();
        assert_eq!(pace.look(&alice).remaining, 0);
        assert_eq!(pace.limiter.len(), 1);
    }

    #[test]
    fn at_the_cap_known_users_pass_and_new_ones_wait() {
        let (pace, clock) = pace(60, 2, 2);
        pace.take(&user("alice")).unwrap();
        pace.take(&user("bob")).unwrap();
        assert_eq!(pace.take(&user("carol")).unwrap_err().reset, Some(SWEEP_PERIOD));
        pace.take(&user("alice")).unwrap();
        clock.advance(Duration::from_secs(10));
        pace.sweep();
        pace.take(&user("carol")).unwrap();
    }

    #[test]
    fn a_user_whose_bucket_is_full_again_is_forgotten_and_no_other() {
        let (pace, clock) = pace(60, 30, 10);
        for _ in 0..30 {
            pace.take(&user("busy")).unwrap();
        }
        pace.take(&user("quiet")).unwrap();
        clock.advance(Duration::from_secs(5));
        pace.sweep();
        assert_eq!(pace.book.lock().keys().copied().collect::<Vec<_>>(), [pace.book.mark(&user("busy"))]);
    }

    #[test]
    fn two_paces_count_in_one_book() {
        let (slow, clock) = pace(60, 2, 10);
        let sixty = NonZeroU32::new(60).unwrap();
        let fast = Pace::with_clock("open", sixty, NonZeroU32::new(5).unwrap(), &slow.book, clock.clone());
        let alice = user("alice");
        for left in [4, 3, 2] {
            assert_eq!(fast.take(&alice).unwrap().remaining, left);
        }
        slow.take(&alice).unwrap_err();
        assert_eq!(fast.look(&alice).remaining, 2);
        clock.advance(Duration::from_secs(5));
        slow.sweep();
        assert!(slow.book.lock().is_empty(), "what one counted the other forgets");
    }

    #[test]
    fn users_without_end_take_no_more_than_the_book_has_room_for() {
        let (pace, _clock) = pace(60, 2, 1_000);
        let long = "x".repeat(100);
        for number in 0..50_000 {
            let granted = pace.take(&user(&format!("{long}{number}"))).is_ok();
            assert_eq!(granted, number < 1_000, "{number}");
        }
        assert!(pace.book.lock().capacity() < 2_000);
    }
}
