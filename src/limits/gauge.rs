//! Counts what a user holds at the same time. The limits own it; a permit gives its share back when it is dropped.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::RateState;
use crate::ids::UserId;

/// How many of one thing every user holds.
#[derive(Debug)]
pub(super) struct Gauge {
    policy: &'static str,
    /// Only users who hold something are in it. Locked for one look-up, never across an await.
    held: Mutex<HashMap<UserId, usize>>,
}

/// A share of a user's limit; dropping it gives the share back.
#[derive(Debug)]
#[must_use = "dropping the permit gives the share back"]
pub struct Permit {
    gauge: Arc<Gauge>,
    user: UserId,
}

impl Gauge {
    pub(super) fn new(policy: &'static str) -> Arc<Self> {
        Arc::new(Self { policy, held: Mutex::default() })
    }

    pub(super) fn held(&self, user: &UserId) -> usize {
        self.lock().get(user).copied().unwrap_or(0)
    }

    /// Holds one more, unless the user has as many as this.
    pub(super) fn hold(self: &Arc<Self>, user: &UserId, limit: usize) -> Result<Permit, RateState> {
        let mut held = self.lock();
        let present = held.get(user).copied().unwrap_or(0);
        if present >= limit {
            let quota = u32::try_from(limit).unwrap_or(u32::MAX);
            return Err(RateState { policy: self.policy, quota, window: None, remaining: 0, reset: None });
        }
        held.insert(user.clone(), present + 1);
        Ok(Permit { gauge: Arc::clone(self), user: user.clone() })
    }

    /// Holds one more, whatever the limit says.
    pub(super) fn keep(self: &Arc<Self>, user: &UserId) -> Permit {
        *self.lock().entry(user.clone()).or_default() += 1;
        Permit { gauge: Arc::clone(self), user: user.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UserId, usize>> {
        // Nothing panics while it is held; a poisoned count is still a right count.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut held = self.gauge.lock();
        if let Some(count) = held.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_who_holds_nothing_is_not_remembered() {
        let gauge = Gauge::new("streams");
        let user = UserId::parse("alice").unwrap();
        let first = gauge.hold(&user, 2).unwrap();
        let second = gauge.hold(&user, 2).unwrap();
        assert_eq!(gauge.hold(&user, 2).unwrap_err().quota, 2);
        drop(first);
        assert_eq!(gauge.held(&user), 1);
        drop(second);
        assert!(gauge.lock().is_empty());
    }

    #[test]
    fn a_limit_of_zero_grants_nothing() {
        let gauge = Gauge::new("streams");
        assert!(gauge.hold(&UserId::parse("alice").unwrap(), 0).is_err());
    }
}
