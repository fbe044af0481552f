//! What users' model calls may cost, and what they have cost.
//!
//! ```text
//!   ask ──► reserve what it may cost at most ──► call ──► settle: charge what the model counted, give back the rest
//!               │ no room, others have reserved: wait for them, in line
//!               └ no room, nothing to wait for: as much as there is, or no
//! ```
//!
//! In every window (an hour and a day of the clock in UTC, and a session's life) what is spent and what is reserved together never exceed the
//! budget, at no moment and however many calls run at once: so what calls really cost can't either, as long as no call costs more than was
//! reserved for it. A call counts in the hour and the day it began in. `docs/decisions/0020` says why it is so.
//!
//! | file | noun |
//! |---|---|
//! | `ledger` | the sums of one user; pure |
//! | `purse` | the ledger, its line of waiting calls, its reservations |
//! | `book` | all users' purses and what the settings say |
//!
//! What is spent is written down by the sessions' drivers; who opens the book of a user for the first time reads it from there.

mod book;
mod ledger;
mod purse;
#[cfg(test)]
mod tests;

use std::fmt;

use jiff::Timestamp;

pub use book::Budgets;
pub use purse::{Account, AccountLook};
pub(super) use {
    ledger::{Limits, Need},
    purse::Reservation,
};

/// Tokens of one call, or of many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Read by the model.
    pub input: u64,
    /// Written by the model.
    pub output: u64,
}

impl Cost {
    fn plus(self, other: Self) -> Self {
        Self { input: self.input.saturating_add(other.input), output: self.output.saturating_add(other.output) }
    }

    fn less(self, other: Self) -> Self {
        Self { input: self.input.saturating_sub(other.input), output: self.output.saturating_sub(other.output) }
    }
}

/// What a budget is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Window {
    /// An hour of the clock.
    Hour,
    /// A day, in UTC.
    Day,
    /// A session's life.
    Session,
}

impl Window {
    /// Its name in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Session => "session",
        }
    }
}

/// A budget is used up. Its text is public.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub struct Exhausted {
    /// Which.
    pub window: Window,
    /// When it begins anew; none: never.
    pub resets_at: Option<Timestamp>,
}

impl fmt::Display for Exhausted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.window {
            Window::Hour => "the token budget of this hour",
            Window::Day => "the token budget of this day",
            Window::Session => "the token budget of this session",
        };
        match self.resets_at {
            Some(at) => write!(formatter, "{what} is used up; it begins anew at {at}"),
            None => write!(formatter, "{what} is used up; open another session"),
        }
    }
}

/// How it stands with one budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Of what it is.
    pub window: Window,
    /// When it begins anew; none: never.
    pub resets_at: Option<Timestamp>,
    /// Tokens that may be read and written; none: as many as one likes.
    pub limit: (Option<u64>, Option<u64>),
    /// What calls that are over have cost.
    pub spent: Cost,
    /// What is held for calls that are under way.
    pub reserved: Cost,
}

/// What somebody spent in one hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HourSpent {
    /// Hours since 1970.
    pub hour: u64,
    /// How much.
    pub cost: Cost,
}

/// Seconds of an hour.
const HOUR: u64 = 3600;
/// Hours of a day.
const DAY: u64 = 24;

/// The hour of this moment: hours since 1970.
fn hour_of(now: Timestamp) -> u64 {
    u64::try_from(now.as_second()).unwrap_or(0) / HOUR
}

/// When this hour begins.
fn begin_of(hour: u64) -> Timestamp {
    let second = i64::try_from(hour.saturating_mul(HOUR)).unwrap_or(i64::MAX);
    Timestamp::from_second(second).unwrap_or(Timestamp::MAX)
}
