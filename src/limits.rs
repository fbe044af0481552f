//! How fast and how much, per user. The service asks here before it does anything that costs.
//!
//! Two kinds of limit: a pace (opens and prompts per minute, with a burst) and a count of what is held at the same time (sessions,
//! streams, opens that wait). A pace remembers a bounded number of users; a count remembers only those who hold something, so both are bounded.
//! Users are counted after authentication only: nobody fills these books with made-up names.

mod gauge;
mod pace;

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::{
    config,
    ids::UserId,
    problem::{Code, Problem},
};
use gauge::Gauge;
use pace::Pace;

pub use crate::problem::RateState;
pub use gauge::Permit;

/// Users one pace remembers; at the cap new ones get 429 until others were forgotten.
const KEYS_MAX: usize = 100_000;
/// How often users whose pace is back to fresh are forgotten.
const SWEEP_PERIOD: Duration = Duration::from_secs(10);

/// A limit that can't be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("limits.{setting} must be at least 1")]
pub struct ZeroLimit {
    /// The setting.
    pub setting: &'static str,
}

/// Every user's limits.
#[derive(Debug)]
pub struct Limits {
    opens: Pace,
    prompts: Pace,
    sessions: Arc<Gauge>,
    streams: Arc<Gauge>,
    waiting: Arc<Gauge>,
    files: FileLimits,
}

/// How large what goes into and out of workspaces may be.
#[derive(Debug, Clone, Copy)]
pub struct FileLimits {
    /// A file that is written, in bytes.
    pub file_bytes: u64,
    /// An archive, in bytes.
    pub archive_bytes: u64,
    /// Its entries.
    pub archive_entries: usize,
}

impl Limits {
    /// Limits with nobody in them yet.
    ///
    /// # Errors
    /// A pace is zero.
    pub fn new(settings: &config::Limits) -> Result<Self, ZeroLimit> {
        let positive = |setting, value| NonZeroU32::new(value).ok_or(ZeroLimit { setting });
        let opens = positive("opens_per_minute", settings.opens_per_minute)?;
        let opens_burst = positive("opens_burst", settings.opens_burst)?;
        let prompts = positive("prompts_per_minute", settings.prompts_per_minute)?;
        let prompts_burst = positive("prompts_burst", settings.prompts_burst)?;
        Ok(Self {
            opens: Pace::new("open", opens, opens_burst, KEYS_MAX),
            prompts: Pace::new("prompt", prompts, prompts_burst, KEYS_MAX),
            sessions: Gauge::new("sessions", settings.sessions),
            streams: Gauge::new("streams", settings.streams),
            waiting: Gauge::new("waiting", settings.waiting),
            files: FileLimits {
                file_bytes: settings.file_bytes,
                archive_bytes: settings.archive_bytes,
                archive_entries: settings.archive_entries,
            },
        })
    }

    /// Counts one open.
    ///
    /// # Errors
    /// `RATE_LIMITED`: the user is too fast. Nothing is counted then.
    pub fn check_open(&self, user: &UserId) -> Result<RateState, Problem> {
        self.opens.take(user).map_err(|state| too_fast("sessions are being opened too fast", state))
    }

    /// Counts one prompt.
    ///
    /// # Errors
    /// `RATE_LIMITED`: the user is too fast. Nothing is counted then.
    pub fn check_prompt(&self, user: &UserId) -> Result<RateState, Problem> {
        self.prompts.take(user).map_err(|state| too_fast("prompts are being sent too fast", state))
    }

    /// Holds one of the user's sessions until the permit is dropped.
    ///
    /// # Errors
    /// `RESOURCE_LIMIT`: the user has as many as they may.
    pub fn hold_session(&self, user: &UserId) -> Result<Permit, Problem> {
        self.sessions.hold(user).map_err(|state| too_many("too many sessions are open; close one first", state))
    }

    /// Holds one of the user's sessions that was granted before, whatever the limit says now.
    pub fn keep_session(&self, user: &UserId) -> Permit {
        self.sessions.keep(user)
    }

    /// How large files and archives may be.
    #[must_use]
    pub const fn files(&self) -> FileLimits {
        self.files
    }

    /// Holds one of the user's streams, of events or of a file's bytes, until the permit is dropped.
    ///
    /// # Errors
    /// `RESOURCE_LIMIT`: the user has as many as they may.
    pub fn hold_stream(&self, user: &UserId) -> Result<Permit, Problem> {
        self.streams.hold(user).map_err(|state| too_many("too many streams are open; end one first", state))
    }

    /// Holds one of the user's places in the queue for a sandbox until the permit is dropped.
    ///
    /// # Errors
    /// `RESOURCE_LIMIT`: the user has as many as they may.
    pub fn hold_waiting(&self, user: &UserId) -> Result<Permit, Problem> {
        self.waiting.hold(user).map_err(|state| too_many("too many opens are waiting for a sandbox", state))
    }

    /// Where the user stands with opens; counts nothing.
    #[must_use]
    pub fn opens(&self, user: &UserId) -> RateState {
        self.opens.look(user)
    }

    /// Where the user stands with prompts; counts nothing.
    #[must_use]
    pub fn prompts(&self, user: &UserId) -> RateState {
        self.prompts.look(user)
    }

    /// Open sessions of the user, and how many may be open.
    #[must_use]
    pub fn sessions(&self, user: &UserId) -> (usize, usize) {
        (self.sessions.held(user), self.sessions.limit())
    }

    /// Forgets users whose pace is back to fresh, every ten seconds, until the token is cancelled.
    pub async fn keep_house(self: Arc<Self>, token: CancellationToken) {
        let mut ticks = tokio::time::interval(SWEEP_PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while token.run_until_cancelled(ticks.tick()).await.is_some() {
            self.opens.sweep();
            self.prompts.sweep();
        }
    }
}

fn too_fast(detail: &'static str, state: RateState) -> Problem {
    let problem = Problem::new(Code::RateLimited, detail).rate(state);
    match state.reset {
        Some(delay) => problem.retry_after(delay),
        None => problem,
    }
}

fn too_many(detail: &'static str, state: RateState) -> Problem {
    Problem::new(Code::ResourceLimit, detail).rate(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(settings: &config::Limits) -> Limits {
        Limits::new(settings).unwrap()
    }

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    #[test]
    fn a_pace_of_zero_is_refused_by_name() {
        let settings = config::Limits { prompts_burst: 0, ..config::Limits::default() };
        assert_eq!(Limits::new(&settings).unwrap_err().setting, "prompts_burst");
    }

    #[test]
    fn who_opens_too_fast_learns_when_to_come_back() {
        let limits = limits(&config::Limits { opens_per_minute: 1, opens_burst: 1, ..config::Limits::default() });
        let alice = user("alice");
        assert_eq!(limits.check_open(&alice).unwrap().remaining, 0);
        let problem = limits.check_open(&alice).unwrap_err();
        assert_eq!(problem.code, Code::RateLimited);
        let delay = problem.retry_after.unwrap();
        assert!(delay > Duration::from_secs(50) && delay <= Duration::from_secs(60), "{delay:?}");
        assert_eq!(problem.rate.unwrap().window, Some(Duration::from_secs(60)));
    }

    #[test]
    fn opening_too_fast_slows_neither_prompts_nor_other_users() {
        let limits = limits(&config::Limits { opens_per_minute: 1, opens_burst: 1, ..config::Limits::default() });
        let alice = user("alice");
        limits.check_open(&alice).unwrap();
        limits.check_open(&alice).unwrap_err();
        limits.check_prompt(&alice).unwrap();
        limits.check_open(&user("bob")).unwrap();
    }

    #[test]
    fn a_held_session_counts_until_its_permit_is_dropped() {
        let limits = limits(&config::Limits { sessions: 1, ..config::Limits::default() });
        let alice = user("alice");
        let permit = limits.hold_session(&alice).unwrap();
        assert_eq!(limits.sessions(&alice), (1, 1));
        assert_eq!(limits.hold_session(&alice).unwrap_err().code, Code::ResourceLimit);
        drop(permit);
        assert_eq!(limits.sessions(&alice), (0, 1));
        assert!(limits.hold_session(&alice).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn housekeeping_ends_with_its_token() {
        let token = CancellationToken::new();
        let task = tokio::spawn(Arc::new(limits(&config::Limits::default())).keep_house(token.clone()));
        tokio::time::advance(SWEEP_PERIOD * 3).await;
        token.cancel();
        tokio::time::timeout(Duration::from_secs(1), task).await.unwrap().unwrap();
    }
}
