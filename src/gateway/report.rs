//! What a gateway tells a session's driver.

use super::budget::Exhausted;

/// Something the driver should know of its session's model calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// A call is over and has cost something.
    Usage(Usage),
    /// A call was refused, and so will be the next ones.
    Refused(CallRefused),
    /// After a refusal: a call was answered.
    Answered,
}

/// Tokens of one model call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// The model that was called; empty where neither the call nor the answer named it.
    pub model: String,
    /// Tokens read.
    pub input_tokens: u64,
    /// Tokens written, thinking included.
    pub output_tokens: u64,
    /// The hour the call began in and counts in: hours since 1970.
    pub hour: u64,
    /// The model did not count: this is what the call was charged, the most that it can have cost by what passed of it.
    pub estimated: bool,
}

/// Why a call was refused for a reason that stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallRefused {
    /// The model API refused the key.
    #[error(
        "the model API refused the API key; send another one with a PATCH of the session, or open one with a key that is good"
    )]
    Key,
    /// The session's own key was known to a former server only.
    #[error(
        "the session's API key is missing: it was lost with a restart or removed, and has to be sent again, or it can't be looked up at present"
    )]
    KeyMissing,
    /// A budget is used up.
    #[error(transparent)]
    Budget(#[from] Exhausted),
}
