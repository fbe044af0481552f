//! The census: which sandboxes exist and what each is doing. All counts come from this one map.
//!
//! ```text
//!            admit            ready            lease
//!   (none) ────────► starting ──────► ready ──────────► leased
//!                        │              │                  │ drop
//!                        └──────────────┴────────► ending ◄┘
//!                                                    │ container, folder and workspace seen to
//!                                                    ▼
//!                                                  (none)
//! ```
//!
//! An [`Entry`] exists as long as its sandbox takes up room, until its container is destroyed, so the cap holds for the engine's own
//! list too. There is no way back: a sandbox that was leased is never ready again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::ids::{SlotId, TemplateName};

/// What a sandbox is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SandboxState {
    /// Being made; its agent boots.
    Starting,
    /// In stock, its agent waits for a prompt.
    Ready,
    /// A user's.
    Leased,
    /// Being destroyed.
    Ending,
}

/// How many sandboxes are in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Being made.
    pub starting: usize,
    /// In stock.
    pub ready: usize,
    /// Users'.
    pub leased: usize,
    /// Being destroyed.
    pub ending: usize,
}

impl Counts {
    /// All of them.
    #[must_use]
    pub const fn total(self) -> usize {
        self.starting + self.ready + self.leased + self.ending
    }
}

type Map = HashMap<SlotId, (TemplateName, SandboxState)>;

/// Every sandbox of this server.
#[derive(Debug)]
pub struct Census {
    cap: usize,
    /// A few lines at a time, never across an await.
    map: Mutex<Map>,
    changes: watch::Sender<u64>,
}

impl Census {
    /// An empty census that admits at most `cap` sandboxes at a time.
    #[must_use]
    pub fn new(cap: usize) -> Arc<Self> {
        Arc::new(Self { cap, map: Mutex::default(), changes: watch::Sender::new(0) })
    }

    /// Makes room for a new sandbox; none when the cap is reached.
    #[must_use]
    pub fn admit(self: &Arc<Self>, template: &TemplateName, slot: &SlotId) -> Option<Entry> {
        let mut map = self.map();
        if map.len() >= self.cap {
            return None;
        }
        map.insert(slot.clone(), (template.clone(), SandboxState::Starting));
        drop(map);
        self.tell();
        Some(Entry { census: Arc::clone(self), slot: slot.clone() })
    }

    /// The counts of one template.
    #[must_use]
    pub fn counts(&self, template: &TemplateName) -> Counts {
        count(self.map().values().filter(|(name, _)| name == template).map(|(_, state)| *state))
    }

    /// The counts of all templates together.
    #[must_use]
    pub fn all(&self) -> Counts {
        count(self.map().values().map(|(_, state)| *state))
    }

    /// Whether a sandbox is ours and alive, or being destroyed by us.
    #[must_use]
    pub fn knows(&self, slot: &SlotId) -> bool {
        self.map().contains_key(slot)
    }

    /// Wakes whoever plans: the number moves at every change.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Wakes whoever plans, for a reason outside the map.
    pub fn tell(&self) {
        self.changes.send_modify(|number| *number = number.wrapping_add(1));
    }

    fn map(&self) -> MutexGuard<'_, Map> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(states: impl Iterator<Item = SandboxState>) -> Counts {
    states.fold(Counts::default(), |mut counts, state| {
        let place = match state {
            SandboxState::Starting => &mut counts.starting,
            SandboxState::Ready => &mut counts.ready,
            SandboxState::Leased => &mut counts.leased,
            SandboxState::Ending => &mut counts.ending,
        };
        *place += 1;
        counts
    })
}

/// One sandbox's place in the census; dropping it says that the sandbox is gone for good.
#[derive(Debug)]
pub struct Entry {
    census: Arc<Census>,
    slot: SlotId,
}

impl Entry {
    /// Moves on to a later state. An earlier one is ignored: nothing goes back.
    pub fn advance(&self, state: SandboxState) {
        if let Some((_, present)) = self.census.map().get_mut(&self.slot) {
            *present = state.max(*present);
        }
        self.census.tell();
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.census.map().remove(&self.slot);
        self.census.tell();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn template() -> TemplateName {
        TemplateName::parse("gemini").expect("a good name")
    }

    #[test]
    fn a_leased_sandbox_is_never_ready_again() {
        let census = Census::new(1);
        let entry = census.admit(&template(), &SlotId::random()).expect("room");
        entry.advance(SandboxState::Leased);
        entry.advance(SandboxState::Ready);
        assert_eq!(census.all(), Counts { leased: 1, ..Counts::default() });
    }

    proptest! {
        #[test]
        fn the_cap_holds_and_counts_add_up(cap in 0_usize..6, steps in prop::collection::vec((0_u8..3, 0_usize..8), 0..60)) {
            let census = Census::new(cap);
            let mut entries = Vec::new();
            for (step, pick) in steps {
                match step {
                    0 => {
                        let admitted = census.admit(&template(), &SlotId::random());
                        prop_assert_eq!(admitted.is_some(), entries.len() < cap);
                        entries.extend(admitted);
                    }
                    1 if !entries.is_empty() => drop(entries.swap_remove(pick % entries.len())),
                    _ if !entries.is_empty() => {
                        let states = [SandboxState::Ready, SandboxState::Leased, SandboxState::Ending];
                        let index = pick % entries.len();
                        entries[index].advance(states[pick % states.len()]);
                    }
                    _ => {}
                }
                prop_assert_eq!(census.all().total(), entries.len());
                prop_assert!(entries.len() <= cap);
            }
        }
    }
}
