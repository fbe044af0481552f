//! What a former run left: taken up where it can go on, cleared where it can't.
//!
//! Whatever is taken up stays as it is; its room in the census is taken from the first moment. Of the rest first the containers go, then the
//! slots, whose workspaces go home. A container that the engine won't remove keeps its slot, but no server from starting: the sweep goes on
//! trying.

mod fate;

use std::{
    collections::{HashMap, HashSet},
    fs,
    sync::Arc,
};

use futures_util::{StreamExt as _, stream};
use tracing::{error, info, warn};

use self::fate::{Fate, SlotFacts};
use super::{engine::Engine, house::StartError};
use crate::{
    config::Config,
    ids::SlotId,
    runtime::{ContainerId, Found},
    sandbox::{
        census::{Admission, Generation},
        lifecycle::{Foundling, Recipe},
        slot::{Ready, Slot},
    },
    session::record,
    store::StoredSession,
};

/// Containers removed at the same time; the engine gains nothing from more.
const PARALLEL: usize = 4;

/// What a former run left running and this one takes up.
#[derive(Default)]
pub(super) struct Former {
    /// Warm ones, with what their slots say.
    pub(super) warm: Vec<(Foundling, Ready)>,
    /// Those in which a session goes on, by the slot.
    pub(super) leased: HashMap<SlotId, Foundling>,
}

impl Former {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.warm.len() + self.leased.len()
    }
}

/// One slot of a former run.
struct Old {
    slot: Slot,
    ready: Option<Ready>,
    recipe: Option<Recipe>,
    fresh: bool,
}

/// The slot a session lives in; none for one that has ended.
pub(super) fn slot_of(stored: &StoredSession) -> Option<SlotId> {
    if stored.row.ended_at.is_none() { record::slot_of(stored) } else { None }
}

impl Engine {
    /// Looks at what a former run left, clears what can't go on, and takes charge of the rest. Nothing of ours runs yet. `recipes` are this
    /// run's, with their images' ids.
    ///
    /// # Errors
    /// The engine gives no list, or the slots can't be read.
    pub(super) async fn former(
        &self,
        config: &Config,
        recipes: &[Recipe],
        sessions: &[StoredSession],
    ) -> Result<Former, StartError> {
        let containers = self.runtime.list().await.map_err(StartError::Runtime)?;
        let slots = self.slots.list().map_err(|source| self.house.fault("slots", source))?;
        let mut slots: Vec<_> =
            slots.into_iter().map(|slot| self.look_at(slot, &containers, config, recipes)).collect();
        let facts: Vec<_> = slots.iter().map(Old::facts).collect();
        let inhabited: Vec<_> = sessions.iter().filter_map(slot_of).collect();
        let mut fates = if self.runtime.kind().outlives_the_server() {
            fate::decide(&facts, &containers, &inhabited)
        } else {
            HashMap::new()
        };

        let mut former = Former::default();
        let mut kept = HashSet::new();
        slots.retain_mut(|old| {
            let (container, leased) = match fates.remove(old.slot.id()) {
                Some(Fate::Session(container)) => (container, true),
                Some(Fate::Stock(container)) => (container, false),
                Some(Fate::Clear) | None => return true,
            };
            let Some(recipe) = old.recipe.take() else { return true };
            kept.insert(container.clone());
            let foundling = self.find(recipe, old, container);
            match old.ready.take().filter(|_| !leased) {
                Some(ready) => former.warm.push((foundling, ready)),
                None => drop(former.leased.insert(old.slot.id().clone(), foundling)),
            }
            false
        });
        let doomed: Vec<_> = containers.iter().filter(|found| !kept.contains(&found.container)).collect();
        self.clear(&doomed, slots).await;
        if former.count() > 0 {
            info!(warm = former.warm.len(), leased = former.leased.len(), "sandboxes of a former run are taken up");
        }
        // The file of a run that was killed while it checked whether it can write.
        let _usually_not_there = fs::remove_file(self.house.dir.join(".writable"));
        Ok(former)
    }

    fn look_at(&self, slot: Slot, containers: &[Found], config: &Config, recipes: &[Recipe]) -> Old {
        let ready = slot.ready();
        let current = |name| recipes.iter().find(|recipe| recipe.name == name);
        let same = ready.as_ref().and_then(|ready| {
            let now = current(ready.template.clone())?;
            (self.starter.fingerprint_of(now).as_ref() == Some(&ready.fingerprint)).then_some(now)
        });
        let fresh = same.is_some();
        // As it was made; if that can't be understood any more, as its template is now.
        let recipe = same.cloned().or_else(|| {
            let ready = ready.as_ref()?;
            super::engine::compile_one(ready.template.as_str(), &ready.settings, config, &self.metrics).ok()
        });
        let recipe = recipe.or_else(|| {
            let found = containers.iter().find(|found| found.slot == *slot.id())?;
            current(found.template.clone()).cloned()
        });
        Old { slot, ready, recipe, fresh }
    }

    fn find(&self, recipe: Recipe, old: &Old, container: ContainerId) -> Foundling {
        let admission = Admission {
            slot: old.slot.id().clone(),
            template: recipe.name.clone(),
            generation: if old.fresh { Generation::default() } else { Generation::FORMER },
            memory_mib: recipe.template.limits.memory_mib,
        };
        let age = old.ready.as_ref().map(Ready::age).unwrap_or_default();
        let entry = self.census.admit_found(admission, age);
        let mut foundling = self.starter.find(recipe, old.slot.clone(), container, entry);
        let workspaces = Arc::clone(&self.workspaces);
        foundling.when_gone(move |slot| {
            if let Err(problem) = workspaces.recover(slot) {
                let cause = std::error::Error::source(&problem);
                error!(error = %problem, ?cause, slot = %slot.id(), "a workspace could not be moved home");
            }
        });
        foundling
    }

    async fn clear(&self, containers: &[&Found], slots: Vec<Old>) {
        let removals = containers.iter().map(|found| async {
            match self.runtime.remove(&found.container).await {
                Ok(()) => None,
                Err(error) => {
                    warn!(%error, slot = %found.slot, "a container could not be removed");
                    Some(found.slot.clone())
                }
            }
        });
        let stuck: HashSet<SlotId> =
            stream::iter(removals).buffer_unordered(PARALLEL).filter_map(std::future::ready).collect().await;
        let (mut recovered, mut leased, slots_found) = (0, 0, slots.len());
        for Old { slot, .. } in slots {
            if stuck.contains(slot.id()) {
                continue;
            }
            let (was_leased, holds_workspace) = (slot.was_leased(), matches!(slot.belongs_to(), Ok(Some(_))));
            if let Err(problem) = self.workspaces.recover(&slot) {
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
        let destroyed = containers.len() - stuck.len();
        if destroyed + slots_found > 0 {
            info!(
                containers = destroyed,
                slots = slots_found,
                leased,
                workspaces = recovered,
                "cleared what a former run left"
            );
        }
    }
}

impl Old {
    fn facts(&self) -> SlotFacts {
        // What can't be told counts as somebody's.
        let used = self.slot.was_leased() || !matches!(self.slot.belongs_to(), Ok(None));
        SlotFacts { id: self.slot.id().clone(), fresh: self.fresh, used, known: self.recipe.is_some() }
    }
}
