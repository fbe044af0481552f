//! Clears what a former run left behind: first its containers, then its slots, whose workspaces go home.
//!
//! A container that the engine won't remove keeps its slot, but no server from starting: the sweep goes on trying.

use std::fs;

use tracing::{error, info};

use super::house::{House, StartError};
use crate::{
    pool::sweep::{self, Swept},
    runtime::Runtime,
    sandbox::{census::Census, slot::Slots},
    workspace::Workspaces,
};

/// Nothing of ours runs yet, so the census is empty and everything found is a leftover.
pub(super) async fn clear(
    runtime: &dyn Runtime,
    census: &Census,
    house: &House,
    slots: &Slots,
    workspaces: &Workspaces,
) -> Result<(), StartError> {
    let Swept { destroyed, stuck } = sweep::unknown(runtime, census).await.map_err(StartError::Runtime)?;
    let found = slots.list().map_err(|source| house.fault("slots", source))?;
    let (mut recovered, mut leased, slots_found) = (0, 0, found.len());
    for slot in found {
        if stuck.contains(slot.id()) {
            continue;
        }
        let (was_leased, holds_workspace) = (slot.was_leased(), matches!(slot.belongs_to(), Ok(Some(_))));
        if let Err(problem) = workspaces.recover(&slot) {
            // The folder stays: a person can still save what is in it.
            error!(error = %problem, cause = ?std::error::Error::source(&problem), slot = %slot.id(), "a workspace could not be recovered");
            continue;
        }
        recovered += usize::from(holds_workspace);
        leased += usize::from(was_leased);
        if let Err(problem) = slot.remove() {
            error!(error = %problem, slot = %slot.id(), "a leftover slot could not be removed");
        }
    }
    if destroyed + slots_found > 0 {
        info!(
            containers = destroyed,
            slots = slots_found,
            leased,
            workspaces = recovered,
            "cleared what a former run left"
        );
    }
    // The file of a run that was killed while it checked whether it can write.
    let _usually_not_there = fs::remove_file(house.dir.join(".writable"));
    Ok(())
}
