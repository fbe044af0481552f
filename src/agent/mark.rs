//! How far an agent's output is done with: what has to be written down beside its events, so that they can go on behind a restart.
//! Plain data; [`super::wire`] moves it.

use serde::{Deserialize, Serialize};

/// Most output the supervisor is asked to keep for the beginning of a line whose end hasn't come, in bytes, with what keeping it costs. Less
/// than the window, so that the rest of the line can follow, and less than the smallest ring.
pub const LINE_HELD: usize = 512 * 1024;

/// A place in one of the agent's outputs: behind all its bytes in chunks before `chunk`, and the first `offset` bytes of its part of `chunk`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The supervisor's number; they begin at 1 and count over both outputs. 0: nothing is done with.
    pub chunk: u64,
    /// Bytes of it.
    pub offset: u32,
}

impl Place {
    /// Behind the whole chunk.
    pub(super) const fn behind(chunk: u64) -> Self {
        Self { chunk: chunk + 1, offset: 0 }
    }
}

/// How far an agent's output is done with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Behind the last whole line of standard output that is done with, or further if nothing follows it yet.
    pub stdout: Place,
    /// The same of standard error.
    pub stderr: Place,
    /// The line that begins at `stdout` is longer than [`LINE_HELD`]: its beginning was given up to the supervisor, and can't be read again.
    pub torn: bool,
}

impl Mark {
    /// Newest chunk the supervisor may forget. The beginning of an unfinished line of standard output isn't forgotten; that of standard error is,
    /// because it is for people and may stay without an end for ever.
    #[must_use]
    pub const fn forgettable(&self) -> u64 {
        let next = if self.torn { self.stderr.chunk } else { self.stdout.chunk };
        next.saturating_sub(1)
    }
}
