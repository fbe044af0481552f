//! The agent's stdin and stdout as the server sees them: what a link gives and an agent protocol takes.
//!
//! Both directions are bounded. If the reader stalls, nothing is acknowledged, the supervisor's ring fills, and the agent's
//! own pipe blocks it: the pressure reaches the agent and nothing is dropped.

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use crate::supervisor::{frames::CHUNK_MAX, ring::ENTRY_COST};

/// Messages each direction of the pipes holds before the sender waits.
pub const PIPE_CAPACITY: usize = 64;
/// What the supervisor pays to keep one chunk of output, beside its bytes.
pub const CHUNK_COST: usize = ENTRY_COST;
/// Longest piece of input, in bytes.
pub const PIECE_MAX: usize = CHUNK_MAX;

/// Which of the agent's two outputs a chunk was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output: the protocol.
    Stdout,
    /// Standard error: for people.
    Stderr,
}

impl Stream {
    /// `stdout` or `stderr`, as events say it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// How the agent's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentExit {
    /// The exit code, if it exited by itself.
    pub code: Option<i32>,
    /// The signal, if one ended it.
    pub signal: Option<i32>,
}

/// What comes out of a sandbox, in order.
#[derive(Debug)]
pub enum FromAgent {
    /// Bytes the agent wrote. Numbers count up by one over both streams.
    Chunk {
        /// The supervisor's number of this chunk.
        seq: u64,
        /// Where it was written.
        stream: Stream,
        /// At most 64 KiB.
        bytes: Bytes,
    },
    /// The agent's process ended; nothing follows.
    Exited(AgentExit),
    /// The link broke and did not come back; nothing follows. The text is for the log.
    Lost(String),
    /// The sandbox was ended from outside; nothing follows. The text is for its user.
    Condemned(String),
}

/// Both ends an agent protocol works with.
#[derive(Debug)]
pub struct AgentPipes {
    /// To the agent's stdin: pieces of at most [`PIECE_MAX`] bytes. Each becomes one frame, so that the sender knows by which number the supervisor
    /// knows it.
    pub input: mpsc::Sender<Bytes>,
    /// Number of the last piece of input that is in the agent's stdin, or was there when the supervisor linked.
    pub input_taken: watch::Receiver<u64>,
    /// From the agent.
    pub output: mpsc::Receiver<FromAgent>,
    /// Whoever keeps what came of the output writes the number of the last chunk that is done with; the supervisor may then forget it.
    pub done_with: watch::Sender<u64>,
}
