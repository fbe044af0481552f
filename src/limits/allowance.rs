//! What users of one tier may: the numbers of the settings, over the books that all tiers share.

use std::{num::NonZeroU32, sync::Arc};

use super::{
    Books, RateState, ZeroLimit,
    gauge::{Gauge, Permit},
    pace::Pace,
};
use crate::{
    config,
    ids::UserId,
    problem::{Code, Problem},
};

/// What users of one tier may.
#[derive(Debug)]
pub struct Allowance {
    opens: Pace,
    prompts: Pace,
    reads: Pace,
    sessions: Cap,
    streams: Cap,
    waiting: Cap,
    files: FileLimits,
}

/// How many of one thing a user may hold.
#[derive(Debug)]
struct Cap {
    gauge: Arc<Gauge>,
    limit: usize,
}

/// How large workspaces may be, and what goes into and out of them.
#[derive(Debug, Clone, Copy)]
pub struct FileLimits {
    /// A file that is written, in bytes.
    pub file_bytes: u64,
    /// An archive, in bytes.
    pub archive_bytes: u64,
    /// Its entries.
    pub archive_entries: usize,
    /// A workspace on the disk, in bytes.
    pub workspace_bytes: u64,
}

impl Allowance {
    /// `section`: where the settings are, for the text of a fault.
    pub(super) fn new(section: &str, settings: &config::Limits, books: &Books) -> Result<Self, ZeroLimit> {
        let positive =
            |name, value| NonZeroU32::new(value).ok_or_else(|| ZeroLimit { setting: format!("{section}.{name}") });
        let opens = positive("opens_per_minute", settings.opens_per_minute)?;
        let opens_burst = positive("opens_burst", settings.opens_burst)?;
        let prompts = positive("prompts_per_minute", settings.prompts_per_minute)?;
        let prompts_burst = positive("prompts_burst", settings.prompts_burst)?;
        let reads = positive("reads_per_minute", settings.reads_per_minute)?;
        let reads_burst = positive("reads_burst", settings.reads_burst)?;
        Ok(Self {
            opens: Pace::new("open", opens, opens_burst, &books.opens),
            prompts: Pace::new("prompt", prompts, prompts_burst, &books.prompts),
            reads: Pace::new("read", reads, reads_burst, &books.reads),
            sessions: Cap { gauge: Arc::clone(&books.sessions), limit: settings.sessions },
            streams: Cap { gauge: Arc::clone(&books.streams), limit: settings.streams },
            waiting: Cap { gauge: Arc::clone(&books.waiting), limit: settings.waiting },
            files: FileLimits {
                file_bytes: settings.file_bytes,
                archive_bytes: settings.archive_bytes,
                archive_entries: settings.archive_entries,
                workspace_bytes: settings.workspace_bytes,
            },
        })
    }

    /// Counts one open.
    ///
    /// # Errors
    /// `RATE_LIMITED`: the user is too fast. Nothing is counted then.
    pub fn check_open(&self, user: &UserId) -> Result<RateState, Problem> {
        self.opens.take(user).map_err(opens_too_fast)
    }

    /// Whether an open would be granted now; counts nothing.
    ///
    /// # Errors
    /// `RATE_LIMITED`.
    pub fn may_open(&self, user: &UserId) -> Result<(), Problem> {
        some_left(self.opens.look(user)).map_err(opens_too_fast)
    }

    /// Counts one prompt.
    ///
    /// # Errors
    /// `RATE_LIMITED`: the user is too fast. Nothing is counted then.
    pub fn check_prompt(&self, user: &UserId) -> Result<RateState, Problem> {
        self.prompts.take(user).map_err(prompts_too_fast)
    }

    /// Whether a prompt would be granted now; counts nothing.
    ///
    /// # Errors
    /// `RATE_LIMITED`.
    pub fn may_prompt(&self, user: &UserId) -> Result<(), Problem> {
        some_left(self.prompts.look(user)).map_err(prompts_too_fast)
    }

    /// Counts one call that is neither an open nor a prompt.
    ///
    /// # Errors
    /// `RATE_LIMITED`: the user is too fast. Nothing is counted then.
    pub fn check_read(&self, user: &UserId) -> Result<RateState, Problem> {
        self.reads.take(user).map_err(|state| too_fast("calls are being made too fast", state))
    }

    /// Holds one of the user's sessions until the permit is dropped.
    ///
    /// # Errors
    /// `RESOURCE_LIMIT`: the user has as many as they may.
    pub fn hold_session(&self, user: &UserId) -> Result<Permit, Problem> {
        self.sessions.hold(user).map_err(|state| too_many("too many sessions are open; close one first", state))
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

    /// Where the user stands with all other calls; counts nothing.
    #[must_use]
    pub fn reads(&self, user: &UserId) -> RateState {
        self.reads.look(user)
    }

    /// Open sessions of the user, and how many may be open.
    #[must_use]
    pub fn sessions(&self, user: &UserId) -> (usize, usize) {
        (self.sessions.gauge.held(user), self.sessions.limit)
    }

    /// Streams of the user, and how many may be open.
    #[must_use]
    pub fn streams(&self, user: &UserId) -> (usize, usize) {
        (self.streams.gauge.held(user), self.streams.limit)
    }

    /// How large workspaces, files and archives may be.
    #[must_use]
    pub const fn files(&self) -> FileLimits {
        self.files
    }

    /// Forgets users whose pace is back to fresh. The books are those of all tiers.
    pub(super) fn sweep(&self) {
        for pace in [&self.opens, &self.prompts, &self.reads] {
            pace.sweep();
        }
    }
}

impl Cap {
    fn hold(&self, user: &UserId) -> Result<Permit, RateState> {
        self.gauge.hold(user, self.limit)
    }
}

fn some_left(state: RateState) -> Result<(), RateState> {
    if state.remaining > 0 { Ok(()) } else { Err(state) }
}

fn opens_too_fast(state: RateState) -> Problem {
    too_fast("sessions are being opened too fast", state)
}

fn prompts_too_fast(state: RateState) -> Problem {
    too_fast("prompts are being sent too fast", state)
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
