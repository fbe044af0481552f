//! The book of all users' purses, and what the settings say about them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use jiff::Timestamp;

use super::{
    Cost, DAY, HourSpent, Standing, hour_of,
    ledger::Limits,
    purse::{Account, Clock, Purse},
};
use crate::{
    config::Budget,
    ids::{SessionId, TierName, UserId},
};

/// Users whose purse is kept although nobody uses it; past it the spare ones go.
const PURSES: usize = 16 * 1024;

/// What the settings say: the usual budget, and each tier's.
pub(super) struct Table(RwLock<(Limits, BTreeMap<String, Limits>)>);

impl Table {
    fn new(usual: &Budget, tiers: &BTreeMap<String, Budget>) -> Self {
        Self(RwLock::new(read(usual, tiers)))
    }

    /// The budget of users of this tier; of a tier that isn't there: the usual one.
    pub fn of(&self, tier: Option<&TierName>) -> Limits {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        tier.and_then(|tier| table.1.get(tier.as_str())).copied().unwrap_or(table.0)
    }
}

fn read(usual: &Budget, tiers: &BTreeMap<String, Budget>) -> (Limits, BTreeMap<String, Limits>) {
    (usual.into(), tiers.iter().map(|(name, budget)| (name.clone(), budget.into())).collect())
}

/// All users' spending. Cheap to clone.
#[derive(Clone)]
pub struct Budgets {
    table: Arc<Table>,
    clock: Clock,
    /// A few lines at a time, never across an await.
    purses: Arc<Mutex<Purses>>,
}

#[derive(Default)]
struct Purses {
    by_user: HashMap<UserId, Arc<Purse>>,
    /// Counts the times any went: what was read from the store before may lack what was spent since.
    sweeps: u64,
    /// Don't look for spare ones before there are so many.
    sweep_at: usize,
}

impl std::fmt::Debug for Budgets {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Budgets").finish_non_exhaustive()
    }
}

impl Budgets {
    /// The usual budget, and each tier's.
    #[must_use]
    pub fn new(usual: &Budget, tiers: &BTreeMap<String, Budget>) -> Self {
        Self::with_clock(usual, tiers, Arc::new(Timestamp::now))
    }

    pub(super) fn with_clock(usual: &Budget, tiers: &BTreeMap<String, Budget>, clock: Clock) -> Self {
        let purses = Purses { sweep_at: PURSES, ..Purses::default() };
        Self { table: Arc::new(Table::new(usual, tiers)), clock, purses: Arc::new(Mutex::new(purses)) }
    }

    /// Other settings, for all sessions from their next call on. What is spent stays spent.
    pub fn replace(&self, usual: &Budget, tiers: &BTreeMap<String, Budget>) {
        *self.table.0.write().unwrap_or_else(PoisonError::into_inner) = read(usual, tiers);
    }

    /// A session's account; `spent` is what it has cost so far. `load` reads what the user has spent from an hour on: it is asked when nobody
    /// has used the user's purse for long.
    ///
    /// # Errors
    /// That of `load`.
    pub async fn account<E, F>(
        &self,
        user: &UserId,
        tier: Option<TierName>,
        session: &SessionId,
        spent: Cost,
        load: impl Fn(u64) -> F,
    ) -> Result<Account, E>
    where
        F: Future<Output = Result<Vec<HourSpent>, E>>,
    {
        let purse = loop {
            let sweeps = {
                let purses = self.purses();
                if let Some(purse) = purses.by_user.get(user) {
                    break Arc::clone(purse);
                }
                purses.sweeps
            };
            let loaded = load(self.day()).await?;
            let mut purses = self.purses();
            if let Some(purse) = purses.by_user.get(user) {
                break Arc::clone(purse);
            }
            if purses.sweeps == sweeps {
                purses.sweep();
                let purse = Purse::new(Arc::clone(&self.clock), &loaded);
                purses.by_user.insert(user.clone(), Arc::clone(&purse));
                break purse;
            }
        };
        Ok(Account::new(Arc::clone(&self.table), purse, tier, session.clone(), spent))
    }

    /// How it stands with a user's budgets of the clock.
    ///
    /// # Errors
    /// That of `load`.
    pub async fn standings<E, F>(
        &self,
        user: &UserId,
        tier: Option<&TierName>,
        load: impl Fn(u64) -> F,
    ) -> Result<Vec<Standing>, E>
    where
        F: Future<Output = Result<Vec<HourSpent>, E>>,
    {
        let known = self.purses().by_user.get(user).cloned();
        let purse = match known {
            Some(purse) => purse,
            None => Purse::new(Arc::clone(&self.clock), &load(self.day()).await?),
        };
        Ok(purse.standings(&self.table.of(tier)))
    }

    /// The first hour of today.
    fn day(&self) -> u64 {
        hour_of((self.clock)()) / DAY * DAY
    }

    fn purses(&self) -> MutexGuard<'_, Purses> {
        self.purses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.purses().by_user.len()
    }
}

impl Purses {
    /// Lets go of those that nobody holds and that the store knows as well. What can't go is held by sessions, which are bounded, or isn't
    /// written down, and goes with its day.
    fn sweep(&mut self) {
        if self.by_user.len() < self.sweep_at {
            return;
        }
        self.by_user.retain(|_, purse| Arc::strong_count(purse) > 1 || !purse.is_spare());
        self.sweeps += 1;
        // Each look costs as much as there are; this way there are few.
        self.sweep_at = PURSES.max(self.by_user.len() * 2);
    }
}
