//! The engine's events: a hint that somebody should look, sooner than the sweep would.
//!
//! An event never ends anything by itself: the engine is asked what is true now. When the events break off, which they do whenever the engine
//! restarts, a full sweep makes up for what was missed.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use tokio::time::sleep;
use tracing::{debug, info};

use super::{Pools, sweep};
use crate::{
    ids::SlotId,
    runtime::{BoxState, EngineEvent, EventKind},
    sandbox::census::SandboxState,
    telemetry::labels::Discard,
};

const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Before each look for what an event told.
const LOOKS: [Duration; 3] = [Duration::ZERO, Duration::from_millis(100), Duration::from_millis(400)];
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Runs until it is dropped.
pub(super) async fn run(pools: Arc<Pools>) {
    let mut pause = FIRST_PAUSE;
    loop {
        match pools.runtime.events().await {
            Ok(mut events) => {
                pause = FIRST_PAUSE;
                // Whatever happened before this moment no event tells.
                sweep::both_ways(&pools).await;
                pools.all().iter().for_each(|pool| pool.engine_is_back());
                while let Some(event) = events.next().await {
                    heed(&pools, event).await;
                }
                debug!("the engine's events broke off");
            }
            Err(error) => debug!(%error, "the engine gives no events"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// An engine may tell of a pause before its own list does: Docker writes down a container's state after the event.
async fn look_for_pause(pools: &Pools, slot: &SlotId) {
    for wait in LOOKS {
        sleep(wait).await;
        let list = sweep::end_those_that_do_not_run(pools).await;
        if list.is_none_or(|list| !list.iter().any(|found| found.slot == *slot && found.state == BoxState::Running)) {
            return;
        }
    }
}

async fn heed(pools: &Pools, event: EngineEvent) {
    let EngineEvent { slot, kind } = event;
    let Some(record) = pools.census.record(&slot) else { return };
    match kind {
        EventKind::Paused => {
            info!(%slot, "the engine says that a sandbox was paused");
            look_for_pause(pools, &slot).await;
        }
        // An agent whose tool was killed for want of memory is its user's; one that still waits is nobody's loss.
        EventKind::OutOfMemory if record.state == SandboxState::Ready => {
            pools.discard(&slot, Discard::Memory, "it ran out of memory while it waited");
        }
        EventKind::Died | EventKind::Removed => {
            for pool in pools.all() {
                pool.stock.check();
            }
        }
        EventKind::OutOfMemory | EventKind::Signalled | EventKind::Resumed => {}
    }
}
