//! Whether we can serve: engine, stock, store, state folder.
//!
//! Anybody may ask, without a token and as often as they like: one look at a time, and its answer holds for a second.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    time::Duration,
};

use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::{Service, view::Readiness};
use crate::{
    pool::{FailureKind, Mode, Pool},
    store::Health,
};

/// How long an answer holds.
const FRESH: Duration = Duration::from_secs(1);
/// Deadline for a few bytes on the state folder's disk.
const WRITE_DEADLINE: Duration = Duration::from_secs(2);

/// The last look. The lock is held while looking: those who ask meanwhile get its answer.
#[derive(Debug, Default)]
pub(super) struct LastLook(Mutex<Option<(Instant, Readiness)>>);

impl Service {
    /// Looks at everything an open needs. The deadlines of the engine and the disk bound it.
    pub async fn readiness(&self) -> Readiness {
        let mut last = self.last_look.0.lock().await;
        if let Some((when, readiness)) = last.as_ref()
            && when.elapsed() < FRESH
        {
            return readiness.clone();
        }
        let readiness = self.look().await;
        *last = Some((Instant::now(), readiness.clone()));
        readiness
    }

    async fn look(&self) -> Readiness {
        let mut reasons = Vec::new();
        if self.check_serving().is_err() {
            reasons.push("the server is shutting down".to_owned());
        }
        if let Health::Failing(why) = &*self.store.health().borrow() {
            tracing::debug!(why, "not ready: the store");
            reasons.push("what happens can't be written down: the store's disk is full or failing".to_owned());
        }
        if let Err(error) = self.runtime.alive().await {
            tracing::debug!(%error, "not ready: the engine");
            reasons.push("the container engine can't be reached".to_owned());
        }
        let pools = self.pools.serving();
        reasons.extend(pools.iter().filter_map(|pool| trouble(pool)));
        if !pools.is_empty() && pools.iter().all(|pool| pool.figures().mode == Mode::Draining) {
            reasons.push("an operator drains every template".to_owned());
        }
        let state_dir = self.state_dir.clone();
        let writing = tokio::task::spawn_blocking(move || write_to(&state_dir));
        if !matches!(timeout(WRITE_DEADLINE, writing).await, Ok(Ok(Ok(())))) {
            reasons.push("the state folder can't be written to".to_owned());
        }
        Readiness { ready: reasons.is_empty(), reasons }
    }
}

/// A pool is in trouble when it should have stock and has none, and no operator wants it so. Says which phase failed, not in whose words: this is for everybody.
fn trouble(pool: &Pool) -> Option<String> {
    let figures = pool.figures();
    if figures.cap == 0 {
        return Some(format!(
            "template {} has no room: one sandbox may use more memory than all together",
            pool.name()
        ));
    }
    if figures.mode != Mode::Active || figures.target == 0 || figures.counts.ready > 0 || figures.full {
        return None;
    }
    let why = figures.failing.map_or_else(
        || "sandboxes are being started".to_owned(),
        |failure| {
            let who = match failure.kind {
                FailureKind::Engine => "the engine did not answer",
                FailureKind::Container => "the container could not be started",
                FailureKind::Agent => "the agent did not come up",
                FailureKind::AgentTimeout => "the agent did not answer in time",
            };
            format!("the last start failed in phase {}: {who}", failure.phase)
        },
    );
    Some(format!("template {} has no warm sandbox: {why}", pool.name()))
}

fn write_to(state_dir: &Path) -> io::Result<()> {
    let probe = state_dir.join(".writable");
    fs::File::create(&probe)?.write_all(b"ok\n")?;
    fs::remove_file(probe)
}
