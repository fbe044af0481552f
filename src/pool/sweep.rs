//! The sweep: the engine's list is the truth, and the census is held against it, both ways.
//!
//! What the engine has and the census doesn't know is destroyed: a former server's, the fruit of an engine call that was given up, or a second
//! container for one slot. What the census has and the engine doesn't run (removed, stopped or paused behind our back) leaves the stock, or ends its
//! session. Only what carries this instance's exact label is ever looked at; the runtime sees to that. At start a sweep runs before anything is made.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, info, warn};

use super::Pools;
use crate::{
    ids::SlotId,
    runtime::{BoxState, Found, Runtime, RuntimeError},
    sandbox::{
        census::{Census, Record, SandboxState},
        link::Leaving,
    },
    telemetry::labels::Discard,
};

/// A waiting sandbox that uses more than this share of its memory leaves the stock: its user would have too little.
const WAITING_SHARE: f64 = 0.8;

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
pub async fn unknown(runtime: &dyn Runtime, census: &Census) -> Result<Swept, RuntimeError> {
    destroy_unknown(runtime, census, &runtime.list().await?, &Leaving::default()).await
}

async fn destroy_unknown(
    runtime: &dyn Runtime,
    census: &Census,
    list: &[Found],
    leaving: &Leaving,
) -> Result<Swept, RuntimeError> {
    let mut swept = Swept::default();
    // After the list: whatever is on it was admitted before it was made, so what is missing here is nobody's, or ended meanwhile.
    let known = census.records();
    for found in list {
        // One whose container we don't know yet is just being made: it may be this one.
        let is_ours = |record: &Record| record.container.as_ref().is_none_or(|container| *container == found.container);
        if known.get(&found.slot).is_some_and(is_ours) {
            continue;
        }
        // It may be missing because it was just left to the next run of the server. Whoever leaves one has said so before.
        if leaving.has_begun() {
            break;
        }
        info!(slot = %found.slot, state = ?found.state, "destroying a container nobody knows");
        match runtime.remove(&found.container).await {
            Ok(()) => swept.destroyed += 1,
            Err(error) => {
                warn!(%error, slot = %found.slot, "a container could not be removed");
                swept.stuck.insert(found.slot.clone());
            }
        }
    }
    Ok(swept)
}

/// Sweeps until it is dropped.
pub(super) async fn run(pools: Arc<Pools>, every: Duration) {
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        both_ways(&pools).await;
        weigh(&pools).await;
    }
}

/// One sweep, both ways.
pub(super) async fn both_ways(pools: &Pools) {
    let Some(list) = end_those_that_do_not_run(pools).await else { return };
    if let Err(error) = destroy_unknown(&*pools.runtime, &pools.census, &list, &pools.starter.leaving()).await {
        warn!(%error, "the sweep could not be finished");
    }
}

/// Ends what the census has and the engine doesn't run; gives the engine's list, if there is one.
pub(super) async fn end_those_that_do_not_run(pools: &Pools) -> Option<Vec<Found>> {
    // Before the list: what is made after this line can't be missing from it.
    let before = pools.census.records();
    let list = match pools.runtime.list().await {
        Ok(list) => list,
        Err(error) => {
            warn!(%error, "the sweep could not be finished: the engine gives no list");
            return None;
        }
    };
    for (slot, record) in &before {
        let (SandboxState::Ready | SandboxState::Leased, Some(container)) = (record.state, &record.container) else {
            continue;
        };
        let found = list.iter().find(|found| found.container == *container);
        let (kind, why) = match found.map(|found| found.state) {
            Some(BoxState::Running) => continue,
            Some(BoxState::Paused) => (Discard::Operator, "an operator paused the sandbox"),
            Some(BoxState::Created | BoxState::Ended) => (Discard::Dead, "the sandbox's container ended"),
            None => (Discard::Dead, "the sandbox's container was removed"),
        };
        pools.end(slot, record, kind, why);
    }
    Some(list)
}

/// Notes what each sandbox uses; one that waits and uses too much goes.
async fn weigh(pools: &Pools) {
    let records = pools.census.records();
    join_all(records.iter().map(|(slot, record)| weigh_one(pools, slot, record))).await;
}

async fn weigh_one(pools: &Pools, slot: &SlotId, record: &Record) {
    let (SandboxState::Ready | SandboxState::Leased, Some(container)) = (record.state, &record.container) else {
        return;
    };
    match pools.runtime.memory(container).await {
        Ok(Some(memory)) => {
            pools.census.weighed(slot, memory.used_bytes);
            #[expect(clippy::cast_precision_loss, reason = "a share needs no more than 52 bits")]
            let share = memory.used_bytes as f64 / memory.limit_bytes.max(1) as f64;
            if record.state == SandboxState::Ready && share > WAITING_SHARE {
                pools.discard(slot, Discard::Memory, "it used too much memory for one that waits");
            }
        }
        Ok(None) => {}
        // It may have ended meanwhile; if the engine is in trouble, others tell.
        Err(error) => debug!(%error, %slot, "what a sandbox uses could not be read"),
    }
}
