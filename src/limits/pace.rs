//! One pace for many users: governor's algorithm (GCRA) over a book of ours, which has a hard cap and can be looked at without counting.

use std::{
    collections::HashMap,
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

/// A pace every user has for themselves.
#[derive(Debug)]
pub(super) struct Pace<C: Clock = DefaultClock> {
    policy: &'static str,
    quota: Quota,
    book: Arc<Book>,
    limiter: RateLimiter<Ask, Store, C, StateInformationMiddleware>,
    clock: C,
}

/// What is asked of the book.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Ask {
    /// Count one.
    Take(UserId),
    /// Count none, just tell.
    Look(UserId),
}

/// When each user's bucket is full again.
#[derive(Debug)]
struct Book {
    capacity: usize,
    /// Locked for one look-up or one sweep, never across an await.
    users: Mutex<HashMap<UserId, Nanos>>,
}

/// The book, as governor wants it.
#[derive(Debug)]
struct Store(Arc<Book>);

impl Pace<DefaultClock> {
    pub(super) fn new(policy: &'static str, per_minute: NonZeroU32, burst: NonZeroU32, capacity: usize) -> Self {
        Self::with_clock(policy, per_minute, burst, capacity, DefaultClock::default())
    }
}

impl<C: Clock + Clone> Pace<C> {
    fn with_clock(policy: &'static str, per_minute: NonZeroU32, burst: NonZeroU32, capacity: usize, clock: C) -> Self {
        let quota = Quota::per_minute(per_minute).allow_burst(burst);
        let book = Arc::new(Book { capacity, users: Mutex::default() });
        let limiter = RateLimiter::new(quota, Store(Arc::clone(&book)), clock.clone());
        Self { policy, quota, book, limiter, clock }
    }

    /// Counts one, or says when the next is granted.
    pub(super) fn take(&self, user: &UserId) -> Result<RateState, RateState> {
        if !self.book.has_room_for(user) {
            return Err(self.state(0, SWEEP_PERIOD));
        }
        match self.limiter.check_key(&Ask::Take(user.clone())) {
            Ok(snapshot) => Ok(self.state(snapshot.remaining_burst_capacity(), self.quota.replenish_interval())),
            Err(not_until) => Err(self.state(0, not_until.wait_time_from(self.clock.now()))),
        }
    }

    /// Counts nothing.
    pub(super) fn look(&self, user: &UserId) -> RateState {
        match self.limiter.check_key(&Ask::Look(user.clone())) {
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
    fn lock(&self) -> MutexGuard<'_, HashMap<UserId, Nanos>> {
        // Nothing panics while it is held but governor's arithmetic, and every entry is whole at any time.
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_room_for(&self, user: &UserId) -> bool {
        let users = self.lock();
        users.len() < self.capacity || users.contains_key(user)
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
            Ask::Look(user) => measure(users.get(user).copied()).map(|(outcome, _)| outcome),
            Ask::Take(user) => {
                let (outcome, next) = measure(users.get(user).copied())?;
                // Two new users may race for the last place: the cap stands, and the second goes uncounted this once.
                if users.len() < self.0.capacity || users.contains_key(user) {
                    users.insert(user.clone(), next);
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
        (Pace::with_clock("open", per_minute, burst, capacity, clock.clone()), clock)
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
        assert_eq!(pace.book.lock().keys().map(UserId::as_str).collect::<Vec<_>>(), ["busy"]);
    }
}
