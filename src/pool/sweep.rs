//! The sweep: compares the engine's list with the census and destroys what nobody knows.
//!
//! Only what carries this instance's exact label is ever looked at; the runtime sees to that. A container that isn't in the census is
//! a former server's, or the fruit of an engine call that was given up: both are destroyed. At start this runs once before anything is made.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    ids::SlotId,
    runtime::{Runtime, RuntimeError},
    sandbox::census::Census,
};

/// What a sweep did.
#[derive(Debug, Default)]
pub struct Swept {
    /// Containers that are gone.
    pub destroyed: usize,
    /// Slots of those that the engine did not remove; the next sweep tries again.
    pub stuck: HashSet<SlotId>,
}

/// Destroys every container of ours that the census doesn't know. One that won't go doesn't save the others.
///
/// # Errors
/// The engine doesn't give its list.
pub async fn once(runtime: &dyn Runtime, census: &Census) -> Result<Swept, RuntimeError> {
    let mut swept = Swept::default();
    for found in runtime.list().await? {
        if census.knows(&found.slot) {
            continue;
        }
        info!(slot = %found.slot, state = ?found.state, "destroying a container nobody knows");
        match runtime.remove(&found.container).await {
            Ok(()) => swept.destroyed += 1,
            Err(error) => {
                warn!(%error, slot = %found.slot, "a container could not be removed");
                swept.stuck.insert(found.slot);
            }
        }
    }
    Ok(swept)
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
