//! Keeps one issuer's keys fresh: one task that fetches them, and whoever needs a key that isn't there waits for it.
//!
//! ```text
//!            every refresh, or a token with an unknown key
//!   resting ──────────────────────────────────────────────▶ fetching ── got them ──▶ published, resting
//!      ▲                                                        │
//!      └──────────── the last keys stay, for `keep` ◀── failed ─┘
//! ```
//!
//! However many tokens come with keys that nobody knows, there is one fetch at a time and none within [`Pace::rest`] after one: whoever asks
//! in between isn't kept waiting, but is told at once that there is no such key.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout},
};

use super::{
    keyset::KeySet,
    source::{Source, SourceError},
};
use crate::{
    config,
    fetch::Fetcher,
    ids::{IssuerName, random_fraction},
};

/// Deadline of one fetch, discovery included.
const FETCH: Duration = Duration::from_secs(10);
/// How often a file is looked at.
const FILE_REFRESH: Duration = Duration::from_secs(5);

/// How fast one issuer is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// The time between two fetches, give or take a tenth.
    pub(super) refresh: Duration,
    /// How long the last keys stay in force when fetches fail.
    pub(super) keep: Duration,
    /// The least time after a fetch before a token can cause another.
    pub(super) rest: Duration,
    /// How long a caller waits for a fetch.
    pub(super) patience: Duration,
}

impl Pace {
    pub(super) fn of(settings: &config::Issuer) -> Self {
        let refresh = if settings.jwks_file.is_some() { FILE_REFRESH } else { settings.jwks_refresh };
        let (rest, patience) = (Duration::from_secs(5), Duration::from_secs(5));
        Self { refresh, keep: settings.jwks_keep, rest, patience }
    }
}

/// One issuer's keys, and the way to newer ones.
#[derive(Debug)]
pub(super) struct Keeper {
    name: IssuerName,
    source: Source,
    fetcher: Fetcher,
    pace: Pace,
    keys: watch::Sender<Arc<KeySet>>,
    rounds: watch::Sender<Round>,
    wanted: Notify,
}

/// How far the fetching is.
#[derive(Debug, Clone, Copy, Default)]
struct Round {
    /// Fetches that are over.
    number: u64,
    fetching: bool,
    ended_at: Option<Instant>,
}

impl Keeper {
    /// Holds these keys until there are newer ones. Asks nobody yet.
    pub(super) fn new(name: IssuerName, source: Source, fetcher: Fetcher, pace: Pace, keys: KeySet) -> Self {
        let (keys, rounds) = (watch::Sender::new(Arc::new(keys)), watch::Sender::new(Round::default()));
        Self { name, source, fetcher, pace, keys, rounds, wanted: Notify::new() }
    }

    /// The keys in force.
    pub(super) fn keys(&self) -> Arc<KeySet> {
        Arc::clone(&self.keys.borrow())
    }

    /// Sees the keys change.
    pub(super) fn watch(&self) -> watch::Receiver<Arc<KeySet>> {
        self.keys.subscribe()
    }

    /// Waits until the keys were fetched once more. Says whether they were: not while the issuer rests, and not if it takes too long.
    pub(super) async fn look_again(&self) -> bool {
        let mut rounds = self.rounds.subscribe();
        let before = *rounds.borrow_and_update();
        if !before.fetching && self.rests(before) {
            return false;
        }
        self.wanted.notify_one();
        let over = rounds.wait_for(|round| round.number > before.number);
        timeout(self.pace.patience, over).await.is_ok_and(|over| over.is_ok())
    }

    fn rests(&self, round: Round) -> bool {
        round.ended_at.is_some_and(|ended_at| ended_at.elapsed() < self.pace.rest)
    }

    /// Fetches again and again. Ends by being dropped.
    pub(super) async fn keep(&self) {
        let mut trouble = Trouble { since: Instant::now(), told: false };
        let mut next = Instant::now();
        loop {
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.wanted.notified() => {
                    let round = *self.rounds.borrow();
                    if self.rests(round) {
                        continue;
                    }
                }
            }
            self.rounds.send_modify(|round| round.fetching = true);
            let fetched = timeout(FETCH, self.source.fetch(&self.fetcher)).await;
            match fetched.map_err(|_elapsed| SourceError::Deadline).flatten() {
                Ok(keys) => self.publish(keys, &mut trouble),
                Err(error) => self.do_without(&error, &mut trouble),
            }
            self.rounds.send_modify(|round| {
                *round = Round { number: round.number + 1, fetching: false, ended_at: Some(Instant::now()) };
            });
            next = Instant::now() + self.pace.refresh.mul_f64(0.9 + 0.2 * random_fraction());
        }
    }

    fn publish(&self, keys: KeySet, trouble: &mut Trouble) {
        if trouble.told {
            tracing::info!(issuer = %self.name, "the issuer's keys can be fetched again");
        }
        *trouble = Trouble { since: Instant::now(), told: false };
        let count = keys.len();
        let changed = self.keys.send_if_modified(|present| {
            let changed = !present.same(&keys);
            if changed {
                *present = Arc::new(keys);
            }
            changed
        });
        if changed && count == 0 {
            tracing::error!(issuer = %self.name, "the issuer has no key that can be used: none of its tokens is good");
        } else if changed {
            tracing::info!(issuer = %self.name, keys = count, "the issuer's keys are new");
        }
    }

    /// The last keys stay in force, for a while.
    fn do_without(&self, error: &SourceError, trouble: &mut Trouble) {
        let known = self.keys.borrow().len();
        if !trouble.told {
            trouble.told = true;
            let error = error as &dyn std::error::Error;
            match error {
                _ if known > 0 => tracing::warn!(
                    issuer = %self.name, error, keep_s = self.pace.keep.as_secs(),
                    "the issuer's keys can't be fetched; those fetched last stay in force for a while"
                ),
                _ => tracing::error!(
                    issuer = %self.name, error,
                    "the issuer's keys can't be fetched: none of its tokens is good until they can"
                ),
            }
        }
        if known > 0 && trouble.since.elapsed() >= self.pace.keep {
            tracing::error!(issuer = %self.name, "the issuer was away for too long: none of its tokens is good any more");
            self.keys.send_replace(Arc::default());
        }
    }
}

/// How long fetches have been failing.
#[derive(Debug)]
struct Trouble {
    /// When the last one succeeded, or the first was to begin.
    since: Instant,
    told: bool,
}

#[cfg(test)]
mod tests;
