//! Whether we can serve: engine, stock, state folder.

use std::{fs, io::Write as _, path::Path};

use super::{Service, view::Readiness};
use crate::pool::Pool;

impl Service {
    /// Looks at everything an open needs. The engine's deadline bounds it.
    pub async fn readiness(&self) -> Readiness {
        let mut reasons = Vec::new();
        if self.check_serving().is_err() {
            reasons.push("the server is shutting down".to_owned());
        }
        if let Err(error) = self.runtime.engine().await {
            tracing::debug!(%error, "not ready: the engine");
            reasons.push("the container engine can't be reached".to_owned());
        }
        reasons.extend(self.pools.values().filter_map(|pool| trouble(pool)));
        let state_dir = self.state_dir.clone();
        let written = tokio::task::spawn_blocking(move || write_to(&state_dir)).await;
        if !matches!(written, Ok(Ok(()))) {
            reasons.push("the state folder can't be written to".to_owned());
        }
        Readiness { ready: reasons.is_empty(), reasons }
    }
}

/// A pool is in trouble when it should have stock and has none.
fn trouble(pool: &Pool) -> Option<String> {
    let figures = pool.figures();
    let busy = figures.counts.leased + figures.counts.ending >= figures.cap;
    if figures.target == 0 || figures.counts.ready > 0 || busy {
        return None;
    }
    let why = match figures.failures.first() {
        Some(failure) => format!("the last start failed in phase {}: {}", failure.phase, failure.detail),
        None => "sandboxes are being started".to_owned(),
    };
    Some(format!("template {} has no warm sandbox: {why}", pool.name()))
}

fn write_to(state_dir: &Path) -> std::io::Result<()> {
    let probe = state_dir.join(".writable");
    fs::File::create(&probe)?.write_all(b"ok\n")?;
    fs::remove_file(probe)
}
