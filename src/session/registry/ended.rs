//! Sessions that are over and can still be read: which of them must go. The registry owns it and does what it says.
//!
//! They take room on the disk that no limit on open sessions counts, so they are bounded by time, and by number and bytes, per user and in all.
//! Past a user's bounds the user's oldest goes, past those of all the oldest of whoever holds the most: nobody who ends many or
//! large sessions takes away what others may read.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::ids::{SessionId, UserId};

/// How much of what is over is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// For how long.
    pub(super) time: Duration,
    /// Of one user. Their newest is always within it.
    pub(super) user: Load,
    /// Of all together.
    pub(super) all: Load,
}

/// A number of sessions and the bytes of their logs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) sessions: usize,
    pub(super) bytes: usize,
}

impl Load {
    fn add(&mut self, bytes: usize) {
        self.sessions += 1;
        self.bytes += bytes;
    }

    fn remove(&mut self, bytes: usize) {
        self.sessions -= 1;
        self.bytes -= bytes;
    }

    const fn exceeds(self, bound: Self) -> bool {
        self.sessions > bound.sessions || self.bytes > bound.bytes
    }
}

/// One session that is over.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) when: Instant,
    pub(super) user: UserId,
    pub(super) id: SessionId,
    /// Of its log, which no longer grows.
    pub(super) bytes: usize,
}

/// All of them, oldest first.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    ended: Vec<Ended>,
    users: HashMap<UserId, Load>,
    all: Load,
    /// Something was put since the bounds were looked at.
    grown: bool,
}

impl Shelf {
    pub(super) fn put(&mut self, ended: Ended) {
        self.users.entry(ended.user.clone()).or_default().add(ended.bytes);
        self.all.add(ended.bytes);
        // What a former server left comes in any order.
        let place = self.ended.partition_point(|other| other.when <= ended.when);
        self.ended.insert(place, ended);
        self.grown = true;
    }

    /// Takes out what must go.
    pub(super) fn clear_out(&mut self, bounds: &Bounds, now: Instant) -> Vec<Ended> {
        let old = |ended: &Ended| now.saturating_duration_since(ended.when) >= bounds.time;
        let old = self.ended.iter().take_while(|ended| old(ended)).count();
        let mut gone: Vec<_> = self.ended.drain(..old).collect();
        gone.iter().for_each(|ended| self.forget(ended));
        while self.grown {
            match self.surplus(bounds) {
                Some(place) => {
                    let ended = self.ended.remove(place);
                    self.forget(&ended);
                    gone.push(ended);
                }
                None => self.grown = false,
            }
        }
        gone
    }

    fn forget(&mut self, ended: &Ended) {
        self.all.remove(ended.bytes);
        if let Some(load) = self.users.get_mut(&ended.user) {
            load.remove(ended.bytes);
            if load.sessions == 0 {
                self.users.remove(&ended.user);
            }
        }
    }

    /// Where the next one is that goes, if any must.
    fn surplus(&self, bounds: &Bounds) -> Option<usize> {
        let over = |load: &Load| load.sessions > 1 && load.exceeds(bounds.user);
        let too_much = self.users.iter().find(|(_, load)| over(load));
        let holder = too_much.or_else(|| {
            let most = |(_, load): &(&UserId, &Load)| match self.all.bytes > bounds.all.bytes {
                true => (load.bytes, load.sessions),
                false => (load.sessions, load.bytes),
            };
            self.all.exceeds(bounds.all).then(|| self.users.iter().max_by_key(most)).flatten()
        });
        let (holder, _) = holder?;
        self.ended.iter().position(|ended| ended.user == *holder)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds = Bounds {
        time: Duration::from_secs(600),
        user: Load { sessions: 4, bytes: 100 },
        all: Load { sessions: 8, bytes: 300 },
    };

    /// Puts sessions on a shelf, `user, bytes` each, named by their place.
    fn shelf(sessions: &[(&str, usize)], when: Instant) -> Shelf {
        let session = |(place, (user, bytes)): (usize, &(&str, usize))| Ended {
            when,
            user: UserId::parse(user).expect("a good name"),
            id: SessionId::from_client(&place.to_string()),
            bytes: *bytes,
        };
        let mut shelf = Shelf::default();
        sessions.iter().enumerate().map(session).for_each(|ended| shelf.put(ended));
        shelf
    }

    /// The places of those that go.
    fn gone(sessions: &[(&str, usize)]) -> Vec<usize> {
        let now = Instant::now();
        let gone = shelf(sessions, now).clear_out(&BOUNDS, now);
        gone.iter().map(|ended| ended.id.as_str().parse().expect("a place")).collect()
    }

    #[test]
    fn what_is_within_bounds_stays_until_its_time_is_over() {
        let now = Instant::now();
        let mut shelf = shelf(&[("ada", 50), ("ada", 50), ("bob", 100)], now);
        assert_eq!(shelf.clear_out(&BOUNDS, now).len(), 0);
        assert_eq!(shelf.clear_out(&BOUNDS, now + BOUNDS.time).len(), 3);
    }

    #[test]
    fn a_user_with_too_many_or_too_much_loses_their_own_oldest() {
        assert_eq!(gone(&[("bob", 1), ("ada", 1), ("ada", 1), ("ada", 1), ("ada", 1), ("ada", 1)]), [1]);
        assert_eq!(gone(&[("bob", 1), ("ada", 60), ("bob", 1), ("ada", 60)]), [1]);
    }

    #[test]
    fn the_newest_of_a_user_stays_however_large() {
        assert_eq!(gone(&[("ada", 1), ("ada", 250)]), [0]);
    }

    #[test]
    fn past_the_bounds_of_all_the_largest_holder_loses_first() {
        assert_eq!(gone(&[("bob", 80), ("cyd", 20), ("ada", 50), ("eve", 70), ("ada", 50)]), [0; 0]);
        assert_eq!(gone(&[("bob", 80), ("cyd", 20), ("ada", 50), ("eve", 70), ("ada", 50), ("dan", 80)]), [2]);
        let many = ["bob", "ada", "ada", "ada", "cyd", "cyd", "eve", "eve", "eve"].map(|user| (user, 0));
        assert!([vec![1], vec![6]].contains(&gone(&many)));
    }

    proptest! {
        #[test]
        fn no_bound_is_ever_exceeded(sessions in proptest::collection::vec((0_usize..5, 0_usize..200), 0..40)) {
            let names = ["ada", "bob", "cyd", "dan", "eve"];
            let now = Instant::now();
            let mut shelf = shelf(&sessions.iter().map(|(user, bytes)| (names[*user], *bytes)).collect::<Vec<_>>(), now);
            shelf.clear_out(&BOUNDS, now);
            prop_assert!(shelf.ended.len() <= BOUNDS.all.sessions);
            prop_assert!(shelf.ended.iter().map(|ended| ended.bytes).sum::<usize>() <= BOUNDS.all.bytes);
            for name in names {
                let own: Vec<_> = shelf.ended.iter().filter(|ended| ended.user.as_str() == name).collect();
                let bytes = own.iter().map(|ended| ended.bytes).sum::<usize>();
                prop_assert!(own.len() <= 1 || own.len() <= BOUNDS.user.sessions && bytes <= BOUNDS.user.bytes);
            }
        }
    }
}
