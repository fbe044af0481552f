//! What a connection is doing, as far as its read deadline depends on it. Shared by its socket and its requests.
//!
//! ```text
//!            first bytes           head complete
//!   idle ───────────────▶ head ───────────────────▶ under way
//!    ▲                     ▲ (new connection)            │
//!    └─────────────────────┴────── last answer taken ────┘
//! ```
//!
//! A head must be whole within the head deadline, counted from its first byte, or from the start of the connection: that covers a client
//! that never says which protocol it speaks. An idle connection may stay for [`IDLE`]. While requests are under way their own
//! deadlines count. On HTTP/2, where bytes between requests may be pings, there is no head deadline after the first request.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use poem::http::Version;
use tokio::time::Instant;

/// How long a connection may stay without a request.
pub(super) const IDLE: Duration = Duration::from_secs(60);

/// What a connection is doing.
#[derive(Debug)]
pub(super) struct Pulse {
    head_timeout: Duration,
    /// Locked for a few assignments, never across an await.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    under_way: usize,
    http2: bool,
    phase: Phase,
}

/// What a connection without requests does.
#[derive(Debug)]
enum Phase {
    Idle { since: Instant },
    Head { since: Instant },
}

/// A request and its answer; over when dropped.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<Pulse>);

impl Pulse {
    pub(super) fn new(head_timeout: Duration) -> Arc<Self> {
        let phase = Phase::Head { since: Instant::now() };
        Arc::new(Self { head_timeout, state: Mutex::new(State { under_way: 0, http2: false, phase }) })
    }

    /// The client sent something.
    pub(super) fn bytes_came(&self) {
        let mut state = self.lock();
        if state.under_way == 0 && !state.http2 && matches!(state.phase, Phase::Idle { .. }) {
            state.phase = Phase::Head { since: Instant::now() };
        }
    }

    /// A request's head is whole.
    pub(super) fn request(self: &Arc<Self>, version: Version) -> UnderWay {
        let mut state = self.lock();
        state.under_way += 1;
        state.http2 = version == Version::HTTP_2;
        UnderWay(Arc::clone(self))
    }

    /// When the client must have sent more; none: it is our turn.
    pub(super) fn due(&self) -> Option<Instant> {
        let state = self.lock();
        match state.phase {
            _ if state.under_way > 0 => None,
            Phase::Idle { since } => Some(since + IDLE),
            Phase::Head { since } => Some(since + self.head_timeout),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.under_way -= 1;
        if state.under_way == 0 {
            state.phase = Phase::Idle { since: Instant::now() };
        }
    }
}
