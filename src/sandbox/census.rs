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
//! An [`Entry`] exists as long as its sandbox takes up room, until its container is destroyed, so the capacity holds for the engine's own
//! list too. There is no way back: a sandbox that was leased is never ready again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::link::Condemner;
use crate::{
    ids::{SlotId, TemplateName},
    runtime::ContainerId,
};

/// Which making of a template: moves on whenever the template changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

impl Generation {
    /// Of a sandbox that a former run of the server made from what the template isn't any more.
    pub const FORMER: Self = Self(u64::MAX);
}

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

/// What all sandboxes together may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// How many there may be, in whatever state.
    pub sandboxes: usize,
    /// The sum of their memory limits, in MiB.
    pub memory_mib: u64,
}

impl Capacity {
    /// How many there may be of which each may use so much.
    #[must_use]
    pub fn sandboxes_of(self, memory_mib: u64) -> usize {
        let fit = self
            .memory_mib
            .checked_div(memory_mib)
            .map_or(usize::MAX, |fit| usize::try_from(fit).unwrap_or(usize::MAX));
        fit.min(self.sandboxes)
    }
}

/// Who asks for room.
#[derive(Debug, Clone)]
pub struct Admission {
    /// The slot it will have.
    pub slot: SlotId,
    /// Its template.
    pub template: TemplateName,
    /// Which making of the template it is made from.
    pub generation: Generation,
    /// What it may use, in MiB.
    pub memory_mib: u64,
}

/// One sandbox, as the census knows it.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its template.
    pub template: TemplateName,
    /// Which making of the template it was made from.
    pub generation: Generation,
    /// What it is doing.
    pub state: SandboxState,
    /// What it may use, in MiB.
    pub memory_mib: u64,
    /// Its container, once the engine has made it.
    pub container: Option<ContainerId>,
    /// When it was admitted.
    pub since: Instant,
    /// Ends it from outside, once its supervisor has called.
    pub condemner: Option<Condemner>,
    /// The memory it used when somebody last looked, in bytes.
    pub memory_bytes: Option<u64>,
    /// Since when it is being destroyed.
    pub ending_since: Option<Instant>,
}

type Map = HashMap<SlotId, Record>;

/// Every sandbox of this server.
#[derive(Debug)]
pub struct Census {
    /// A few lines at a time, never across an await.
    inner: Mutex<Inner>,
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
struct Inner {
    capacity: Capacity,
    map: Map,
}

impl Inner {
    fn memory_mib(&self) -> u64 {
        self.map.values().map(|record| record.memory_mib).sum()
    }

    fn is_full(&self, memory_mib: u64) -> bool {
        let taken = self.memory_mib().saturating_add(memory_mib);
        self.map.len() >= self.capacity.sandboxes || taken > self.capacity.memory_mib
    }
}

impl Census {
    /// An empty census of this capacity.
    #[must_use]
    pub fn new(capacity: Capacity) -> Arc<Self> {
        let inner = Inner { capacity, map: Map::new() };
        Arc::new(Self { inner: Mutex::new(inner), changes: watch::Sender::new(0) })
    }

    /// What all sandboxes together may take.
    #[must_use]
    pub fn capacity(&self) -> Capacity {
        self.inner().capacity
    }

    /// Changes the capacity. What is there stays; when it is more, nothing is admitted until it is less.
    pub fn set_capacity(&self, capacity: Capacity) {
        self.inner().capacity = capacity;
        self.tell();
    }

    /// Makes room for a new sandbox; none when it would be more than the capacity.
    #[must_use]
    pub fn admit(self: &Arc<Self>, admission: Admission) -> Option<Entry> {
        let inner = self.inner();
        if inner.is_full(admission.memory_mib) { None } else { Some(self.enter(inner, admission, Instant::now())) }
    }

    /// Takes in a sandbox that is there already for so long, whatever the capacity says: a former run of the server made it. While all together are more
    /// than the capacity, nothing new is admitted.
    #[must_use]
    pub fn admit_found(self: &Arc<Self>, admission: Admission, age: Duration) -> Entry {
        let now = Instant::now();
        self.enter(self.inner(), admission, now.checked_sub(age).unwrap_or(now))
    }

    fn enter(self: &Arc<Self>, mut inner: MutexGuard<'_, Inner>, admission: Admission, since: Instant) -> Entry {
        let Admission { slot, template, generation, memory_mib } = admission;
        let state = SandboxState::Starting;
        let (container, condemner, memory_bytes, ending_since) = (None, None, None, None);
        let record =
            Record { template, generation, state, memory_mib, container, since, condemner, memory_bytes, ending_since };
        inner.map.insert(slot.clone(), record);
        drop(inner);
        self.tell();
        Entry { census: Arc::clone(self), slot }
    }

    /// The counts of one template.
    #[must_use]
    pub fn counts(&self, template: &TemplateName) -> Counts {
        count(self.inner().map.values().filter(|record| record.template == *template).map(|record| record.state))
    }

    /// The counts of all templates together.
    #[must_use]
    pub fn all(&self) -> Counts {
        count(self.inner().map.values().map(|record| record.state))
    }

    /// Everything there is, at one moment.
    #[must_use]
    pub fn records(&self) -> HashMap<SlotId, Record> {
        self.inner().map.clone()
    }

    /// One sandbox, if it is ours and alive, or being destroyed by us.
    #[must_use]
    pub fn record(&self, slot: &SlotId) -> Option<Record> {
        self.inner().map.get(slot).cloned()
    }

    /// Whether there is no room for another one of this size.
    #[must_use]
    pub fn is_full(&self, memory_mib: u64) -> bool {
        self.inner().is_full(memory_mib)
    }

    /// Whether there is no room for another one of this size, even if all that are ready went.
    #[must_use]
    pub fn is_full_without_stock(&self, memory_mib: u64) -> bool {
        let inner = self.inner();
        let taken = || inner.map.values().filter(|record| record.state != SandboxState::Ready);
        let memory: u64 = taken().map(|record| record.memory_mib).sum();
        taken().count() >= inner.capacity.sandboxes || memory.saturating_add(memory_mib) > inner.capacity.memory_mib
    }

    /// Notes what a sandbox was seen to use.
    pub fn weighed(&self, slot: &SlotId, bytes: u64) {
        if let Some(record) = self.inner().map.get_mut(slot) {
            record.memory_bytes = Some(bytes);
        }
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

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
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
        if let Some(record) = self.census.inner().map.get_mut(&self.slot) {
            record.state = state.max(record.state);
            if state == SandboxState::Ending {
                record.ending_since.get_or_insert_with(Instant::now);
            }
        }
        self.census.tell();
    }

    /// The engine has made its container.
    pub fn container_is(&self, container: ContainerId) {
        self.note(|record| record.container = Some(container));
    }

    /// Its supervisor has called: this ends it from outside.
    pub fn condemner_is(&self, condemner: Condemner) {
        self.note(|record| record.condemner = Some(condemner));
    }

    fn note(&self, note: impl FnOnce(&mut Record)) {
        if let Some(record) = self.census.inner().map.get_mut(&self.slot) {
            note(record);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.census.inner().map.remove(&self.slot);
        self.census.tell();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn admission(memory_mib: u64) -> Admission {
        let template = TemplateName::parse("gemini").expect("a good name");
        Admission { slot: SlotId::random(), template, generation: Generation::default(), memory_mib }
    }

    #[test]
    fn a_leased_sandbox_is_never_ready_again() {
        let census = Census::new(Capacity { sandboxes: 1, memory_mib: 1 });
        let entry = census.admit(admission(1)).expect("room");
        entry.advance(SandboxState::Leased);
        entry.advance(SandboxState::Ready);
        assert_eq!(census.all(), Counts { leased: 1, ..Counts::default() });
    }

    #[test]
    fn a_smaller_capacity_ends_nobody_and_admits_nobody_until_it_holds() {
        let census = Census::new(Capacity { sandboxes: 2, memory_mib: 100 });
        let (one, two) = (census.admit(admission(40)), census.admit(admission(40)));
        census.set_capacity(Capacity { sandboxes: 2, memory_mib: 50 });
        assert_eq!(census.all().total(), 2);
        drop(one);
        assert!(census.admit(admission(40)).is_none());
        drop(two);
        assert!(census.admit(admission(40)).is_some());
    }

    #[test]
    fn what_a_former_run_made_is_taken_in_and_keeps_others_out() {
        let census = Census::new(Capacity { sandboxes: 1, memory_mib: 100 });
        let (one, two) =
            (census.admit_found(admission(80), Duration::ZERO), census.admit_found(admission(80), Duration::ZERO));
        assert_eq!(census.all().total(), 2);
        drop(one);
        assert!(census.admit(admission(1)).is_none());
        drop(two);
        assert!(census.admit(admission(1)).is_some());
    }

    proptest! {
        #[test]
        fn the_capacity_holds_and_counts_add_up(cap in 0_usize..6, memory in 0_u64..20, steps in prop::collection::vec((0_u8..3, 0_usize..8), 0..60)) {
            let census = Census::new(Capacity { sandboxes: cap, memory_mib: memory });
            let mut entries = Vec::new();
            for (step, pick) in steps {
                match step {
                    0 => {
                        let (weight, used) = (pick as u64, entries.iter().map(|(_, weight)| *weight).sum::<u64>());
                        let admitted = census.admit(admission(weight));
                        prop_assert_eq!(admitted.is_some(), entries.len() < cap && used + weight <= memory);
                        entries.extend(admitted.map(|entry| (entry, weight)));
                    }
                    1 if !entries.is_empty() => drop(entries.swap_remove(pick % entries.len())),
                    _ if !entries.is_empty() => {
                        let states = [SandboxState::Ready, SandboxState::Leased, SandboxState::Ending];
                        let index = pick % entries.len();
                        entries[index].0.advance(states[pick % states.len()]);
                    }
                    _ => {}
                }
                prop_assert_eq!(census.all().total(), entries.len());
                prop_assert!(entries.len() <= cap);
            }
        }
    }
}
