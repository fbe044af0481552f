//! The connection a supervisor keeps to us, seen from the server.
//!
//! Each slot has a socket of its own, and only the container's init process is served on it: the kernel says who connected (`SO_PEERCRED`),
//! so the agent, which can reach the socket too, can't play the supervisor. After the first connection one task owns the link:
//!
//! ```text
//!            Hello               broken                     relink_timeout, or its first process ended
//!  waiting ─────────▶ linked ◀─────────────▶ waiting again ────────────────▶ Lost
//!                        │       Hello
//!                        └── Exited, all output delivered and taken: Goodbye, the end
//! ```
//! - Output is numbered: what comes twice after a reconnection is dropped, a missing number ends the link as lost.
//! - What the reader is done with is acknowledged; until then the supervisor keeps it. A reader that stalls is never waited for here: output
//!   on its way is bounded by [`OUTPUT_WINDOW`](crate::supervisor::frames::OUTPUT_WINDOW), pings and input go on.
//! - Input that isn't in the agent's stdin yet is kept and sent again on a new link, without doubling a byte.
//! - A supervisor that is there and doesn't answer for `relink_timeout` counts as lost too ([`heartbeat`]).
//! - Who learns elsewhere that the sandbox must go ends the link with a [`Condemner`].
//! - A reader that went away: what still comes is discarded. A writer that went away: the agent's stdin is closed.
//!
//! Dropping the [`Link`] ends the task and closes the socket; the pipes then end without a last word.
//!
//! A link that is left to the next run of the server ([`Leaving`]) says nothing at its end: with nobody to read, nothing is acknowledged, and with
//! nobody to write, the agent's stdin stays open. The supervisor dials until that run listens.

mod condemner;
mod heartbeat;
mod inbox;
mod init;
mod listener;
mod outbox;
mod task;
#[cfg(test)]
mod tests;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::pipes::{AgentPipes, PIPE_CAPACITY, Stream};
use crate::supervisor::frames::{self, Hello};

pub use self::{condemner::Condemner, listener::LinkListener};

/// Requests that may wait for the link's task.
const REQUEST_CAPACITY: usize = 4;
/// How much longer than its grace the end of an agent is waited for.
const STOP_MARGIN: Duration = Duration::from_secs(2);

/// How long a link may be away.
#[derive(Debug, Clone, Copy)]
pub struct LinkConfig {
    /// Until the supervisor has introduced itself for the first time.
    pub first_timeout: Duration,
    /// Until it is back after the link broke, and the longest it may owe an answer while the link stands.
    pub relink_timeout: Duration,
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The state folder has to be somewhere shorter.
    #[error("the socket path {path} has {length} bytes; the kernel takes at most {max}: use a shorter state folder")]
    PathTooLong {
        /// The path.
        path: String,
        /// Its length.
        length: usize,
        /// The most there may be.
        max: usize,
    },
    /// The socket can't be made.
    #[error("can't listen on {path}")]
    Listen {
        /// Where.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No supervisor introduced itself in time: it didn't start, or the folder isn't mounted.
    #[error("no supervisor linked within {} ms ({refused} connections of other processes were refused)", .waited.as_millis())]
    NoSupervisor {
        /// How long was waited.
        waited: Duration,
        /// Connections that came from another process.
        refused: u64,
    },
    /// The supervisor in the sandbox is of another version of Greenroom.
    #[error("the supervisor speaks link version {theirs}, this server {ours}")]
    Version {
        /// The supervisor's.
        theirs: u16,
        /// Ours.
        ours: u16,
    },
}

/// Why a supervisor gave no sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PingError {
    /// It is silent, or its link is down.
    #[error("the supervisor did not answer within {} ms", .waited.as_millis())]
    Silent {
        /// How long was waited.
        waited: Duration,
    },
    /// The link has ended for good, or the agent has.
    #[error("the sandbox's link or its agent has ended")]
    Ended,
}

/// What the task lets others see.
#[derive(Debug, Default)]
struct Shared {
    refused: AtomicU64,
    up: AtomicBool,
    leaving: Leaving,
}

/// Says that what lasts is left to the next run of the server. All links of a server share one.
#[derive(Debug, Clone, Default)]
pub struct Leaving(Arc<AtomicBool>);

impl Leaving {
    /// From here on it is so.
    pub fn begin(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it is so.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A request to the task.
#[derive(Debug)]
enum Request {
    Stop { grace: Duration },
    Signal { number: i32 },
    Ping { asker: oneshot::Sender<()> },
}

/// A handle on a sandbox's link.
#[derive(Debug)]
pub struct Link {
    hello: Hello,
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
    condemner: Condemner,
    ended: watch::Receiver<bool>,
    _task: AbortOnDropHandle<()>,
}

impl Link {
    /// The port on the sandbox's loopback that leads to its gateway; 0 when the sandbox could not be set up.
    #[must_use]
    pub const fn relay_port(&self) -> u16 {
        self.hello.relay_port
    }

    /// The agent's process id as the supervisor sees it; none when it could not be started.
    #[must_use]
    pub const fn agent_pid(&self) -> Option<u32> {
        if self.hello.agent_pid == 0 { None } else { Some(self.hello.agent_pid) }
    }

    /// The newest input the supervisor had when it introduced itself first.
    #[must_use]
    pub const fn input_received(&self) -> u64 {
        self.hello.input_received
    }

    /// The oldest output the supervisor had then.
    #[must_use]
    pub const fn oldest_output(&self) -> u64 {
        self.hello.oldest_output
    }

    /// Connections of other processes that were refused.
    #[must_use]
    pub fn refused_peers(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// Whether the supervisor is linked at this moment.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.shared.up.load(Ordering::Relaxed)
    }

    /// Ends the agent, TERM first and KILL after the grace; returns when the link has ended or shortly after the grace. If the link is
    /// down, the request is made as soon as it is back. Dropping the future leaves the request standing.
    pub async fn stop(&self, grace: Duration) {
        if self.requests.send(Request::Stop { grace }).await.is_ok() {
            let mut ended = self.ended.clone();
            let _late = tokio::time::timeout(grace + STOP_MARGIN, ended.wait_for(|ended| *ended)).await;
        }
    }

    /// Sends a signal to the agent's process group, if the link is up.
    pub async fn signal(&self, number: i32) {
        // A task that has ended has no agent to signal.
        let _ended = self.requests.send(Request::Signal { number }).await;
    }

    /// Asks the supervisor for a sign of life and waits for it, at most `patience`; says how long it took. A link that is down may come back
    /// meanwhile. The future doesn't borrow the link, and dropping it leaves nothing.
    ///
    /// # Errors
    /// There was none.
    pub fn ping(&self, patience: Duration) -> impl Future<Output = Result<Duration, PingError>> + Send + use<> {
        let requests = self.requests.clone();
        async move {
            let start = Instant::now();
            let (asker, answer) = oneshot::channel();
            let asking = async {
                requests.send(Request::Ping { asker }).await.map_err(|_| PingError::Ended)?;
                answer.await.map_err(|_| PingError::Ended)
            };
            timeout(patience, asking).await.map_err(|_| PingError::Silent { waited: patience })??;
            Ok(start.elapsed())
        }
    }

    /// A handle that ends the sandbox from outside.
    #[must_use]
    pub fn condemner(&self) -> Condemner {
        self.condemner.clone()
    }
}

impl From<frames::Source> for Stream {
    fn from(source: frames::Source) -> Self {
        match source {
            frames::Source::Stdout => Self::Stdout,
            frames::Source::Stderr => Self::Stderr,
        }
    }
}

/// Makes both ends of a link that was just opened.
fn open(first: listener::Greeted, listener: LinkListener, init_pid: i32, config: LinkConfig) -> (Link, AgentPipes) {
    let shared = listener.shared();
    let (input, input_receiver) = mpsc::channel(PIPE_CAPACITY);
    let (output_sender, output) = mpsc::channel(PIPE_CAPACITY);
    let (done_with, done_receiver) = watch::channel(0);
    let (requests, request_receiver) = mpsc::channel(REQUEST_CAPACITY);
    let (condemner, condemned) = Condemner::new();
    let (ended_sender, ended) = watch::channel(false);
    let hello = first.hello;
    let (taken_sender, input_taken) = watch::channel(hello.input_received);
    let ends = task::Ends {
        input: input_receiver,
        input_taken: taken_sender,
        output: output_sender,
        done_with: done_receiver,
        requests: request_receiver,
        condemned,
        ended: ended_sender,
    };
    let task = task::Task::new(first, listener, init_pid, config, ends);
    let task = AbortOnDropHandle::new(tokio::spawn(task.run()));
    (
        Link { hello, shared, requests, condemner, ended, _task: task },
        AgentPipes { input, input_taken, output, done_with },
    )
}
