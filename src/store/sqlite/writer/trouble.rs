//! What is said of tries that fail, and how long to wait between them.

use std::time::{Duration, Instant};

use tokio::sync::watch::Sender;
use tracing::{info, warn};

use crate::store::Health;

/// The first pause before writing is tried again, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Tries that failed, from the first to the end of them.
#[derive(Default)]
pub(super) struct Trouble {
    tries: u32,
    since: Option<Instant>,
}

impl Trouble {
    /// Whether this failure is the first; once.
    pub(super) fn is_first(&mut self) -> bool {
        self.tries += 1;
        self.tries == 1
    }

    /// Says so: in the log once, in the store's health each time.
    pub(super) fn tell(&mut self, health: &Sender<Health>, reason: String) {
        if self.since.is_none() {
            warn!(reason, "the store can't be written; it is tried again until it can");
            self.since = Some(Instant::now());
        }
        health.send_replace(Health::Failing(reason));
    }

    pub(super) fn pause(&mut self) -> Duration {
        self.tries += 1;
        (PAUSE_MIN * self.tries.min(16)).min(PAUSE_MAX)
    }

    pub(super) fn end(self, health: &Sender<Health>) {
        if let Some(since) = self.since {
            info!(after_ms = since.elapsed().as_millis() as u64, "the store can be written again");
            health.send_replace(Health::Well);
        }
    }
}
