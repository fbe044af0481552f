//! The sweep: compares the engine's list with the census and destroys what nobody knows.
//!
//! Only what carries this instance's exact label is ever looked at; the runtime sees to that. A container that isn't in the census is
//! a former server's, or the fruit of an engine call that was given up: both are destroyed. At start this runs once before anything is made.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    runtime::{Runtime, RuntimeError},
    sandbox::census::Census,
};

/// Destroys every container of ours that the census doesn't know; returns how many.
///
/// # Errors
/// The engine's trouble; what was left is found the next time.
pub async fn once(runtime: &dyn Runtime, census: &Census) -> Result<usize, RuntimeError> {
    let mut destroyed = 0;
    for found in runtime.list().await? {
        if census.knows(&found.slot) {
            continue;
        }
        info!(slot = %found.slot, running = found.running, "destroying a container nobody knows");
        runtime.remove(&found.container).await?;
        destroyed += 1;
    }
    Ok(destroyed)
}

/// Sweeps for as long as the token isn't cancelled.
pub fn spawn(runtime: Arc<dyn Runtime>, census: Arc<Census>, every: Duration, stop: CancellationToken) {
    tokio::spawn(async move {
        let mut tick = interval(every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = stop.cancelled() => return,
            }
            if let Err(error) = once(&*runtime, &census).await {
                warn!(%error, "the sweep could not be finished");
            }
        }
    });
}
