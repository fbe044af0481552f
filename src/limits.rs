//! How fast and how much, per user. The service asks here before it does anything that costs.
//!
//! Two kinds of limit: a pace (opens, prompts and all other calls per minute, with a burst) and a count of what is held at the same time (sessions,
//! streams, opens that wait). What the limits are is a matter of the user's tier ([`Allowance`]); what was counted is written in one book for each kind,
//! whatever the tier, so a user who changes it takes their count along. A pace's book has room for a fixed number of users, a count's holds only
//! those who hold something: both are bounded. Users are counted after authentication only: nobody fills these books with made-up names.

mod allowance;
mod gauge;
mod pace;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    ids::{TierName, UserId},
};
use gauge::Gauge;
use pace::Book;

pub use crate::problem::RateState;
pub use allowance::{Allowance, FileLimits};
pub use gauge::Permit;

/// Users one pace remembers; at the cap new ones get 429 until others were forgotten.
const KEYS_MAX: usize = 100_000;
/// How often users whose pace is back to fresh are forgotten.
const SWEEP_PERIOD: Duration = Duration::from_secs(10);
/// Tiers the log is told of that aren't in the settings. Their names come from tokens.
const UNKNOWN_TIERS_MAX: usize = 32;

/// A limit that can't be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting} must be at least 1")]
pub struct ZeroLimit {
    /// The setting.
    pub setting: String,
}

/// Every user's limits.
#[derive(Debug)]
pub struct Limits {
    usual: Allowance,
    tiers: HashMap<TierName, Allowance>,
    books: Books,
    /// Locked for a look-up, never across an await.
    unknown: Mutex<BTreeSet<TierName>>,
}

/// What was counted, for all tiers.
#[derive(Debug)]
struct Books {
    opens: Arc<Book>,
    prompts: Arc<Book>,
    reads: Arc<Book>,
    sessions: Arc<Gauge>,
    streams: Arc<Gauge>,
    waiting: Arc<Gauge>,
}

impl Limits {
    /// Limits with nobody in them yet.
    ///
    /// # Errors
    /// A pace is zero.
    pub fn new(settings: &Config) -> Result<Self, ZeroLimit> {
        let books = Books {
            opens: Book::new(KEYS_MAX),
            prompts: Book::new(KEYS_MAX),
            reads: Book::new(KEYS_MAX),
            sessions: Gauge::new("sessions"),
            streams: Gauge::new("streams"),
            waiting: Gauge::new("waiting"),
        };
        let usual = Allowance::new("limits", &settings.limits, &books)?;
        let mut tiers = HashMap::new();
        for (name, tier) in &settings.tiers {
            // A tier whose name no token could have is nobody's.
            let Ok(known) = TierName::parse(name) else { continue };
            tiers.insert(known, Allowance::new(&format!("tiers.{name}.limits"), &tier.limits, &books)?);
        }
        Ok(Self { usual, tiers, books, unknown: Mutex::default() })
    }

    /// What users of this tier may; without one, or of one that isn't there: the usual.
    #[must_use]
    pub fn of(&self, tier: Option<&TierName>) -> &Allowance {
        let Some(name) = tier else { return &self.usual };
        self.tiers.get(name).unwrap_or_else(|| {
            self.tell_unknown(name);
            &self.usual
        })
    }

    /// Holds one of the user's sessions that was granted before, whatever the limit says now.
    pub fn keep_session(&self, user: &UserId) -> Permit {
        self.books.sessions.keep(user)
    }

    /// Forgets users whose pace is back to fresh, every ten seconds, until the token is cancelled.
    pub async fn keep_house(self: Arc<Self>, token: CancellationToken) {
        let mut ticks = tokio::time::interval(SWEEP_PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while token.run_until_cancelled(ticks.tick()).await.is_some() {
            self.usual.sweep();
        }
    }

    /// Once for each name, and not for every name that somebody thinks of.
    fn tell_unknown(&self, tier: &TierName) {
        let mut told = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < UNKNOWN_TIERS_MAX && told.insert(tier.clone()) {
            tracing::warn!(%tier, "a token names a tier that isn't in the settings: the usual limits hold for it");
        }
    }
}

#[cfg(test)]
mod tests;
