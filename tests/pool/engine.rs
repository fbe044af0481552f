//! An engine in memory: a runtime that goes wrong by script, keeps its own list, and measures what it sees.
//!
//! What it is asked to do it does even when nobody waits for the answer any more, as engines do. Its containers carry a label: its list names
//! those of [`INSTANCE`] only; whoever asks it to touch another commits a trespass, which it remembers. Since the supervisors run
//! in this process, `start` answers with our own process id: that is who dials.

mod agent;
mod containers;
mod runtime;
pub mod script;
pub mod supervisor;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use greenroom::{
    ids::SlotId,
    runtime::{BoxState, EngineEvent, EventKind, Found, Memory},
};
use tokio::sync::{broadcast, watch};
use tokio_util::task::AbortOnDropHandle;

pub use containers::{Container, Seen};
pub use runtime::FakeRuntime;

use containers::State;
use script::{Call, Way};
use supervisor::Death;

/// The label of the server under test.
pub const INSTANCE: &str = "test";
/// Labels of others on the same engine that look like ours.
pub const LOOK_ALIKES: [&str; 5] = ["test-2", "tes", "Test", "test ", ""];
/// How long the server waits for a supervisor's call.
pub const LINK_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the server waits for each answer of an agent.
pub const BOOT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the server lets a link be away or silent.
pub const RELINK_TIMEOUT: Duration = Duration::from_millis(400);

/// The engine.
#[derive(Debug)]
pub struct Engine {
    /// A few lines at a time, never across an await.
    state: Mutex<State>,
    /// How often each call was met.
    met: watch::Sender<BTreeMap<Call, usize>>,
    /// Who is late misses some.
    events: broadcast::Sender<EngineEvent>,
}

impl Engine {
    /// An engine with containers of others on it.
    pub fn new() -> Arc<Self> {
        let (state, met, events) = (Mutex::default(), watch::Sender::default(), broadcast::Sender::new(64));
        let engine = Arc::new(Self { state, met, events });
        for label in LOOK_ALIKES {
            engine.plant(label, &SlotId::random());
        }
        engine
    }

    /// The next calls of this kind go these ways.
    pub fn next(&self, call: Call, ways: impl IntoIterator<Item = Way>) {
        self.state().script.next(call, ways);
    }

    /// Every call of this kind goes this way.
    pub fn always(&self, call: Call, way: Way) {
        self.state().script.always(call, way);
    }

    /// Everything works again.
    pub fn heal(&self) {
        self.state().script.heal();
    }

    /// Waits until calls of this kind were met this many times in all.
    pub async fn reached(&self, call: Call, times: usize) {
        let mut met = self.met.subscribe();
        let reached = met.wait_for(|met| met.get(&call).copied().unwrap_or_default() >= times);
        reached.await.expect("the sender is ours");
    }

    /// How often calls of this kind were met.
    pub fn times(&self, call: Call) -> usize {
        self.met.borrow().get(&call).copied().unwrap_or_default()
    }

    /// What it saw so far.
    pub fn seen(&self) -> Seen {
        self.state().seen.clone()
    }

    /// Containers made here, at most at any instant since this was asked last.
    pub fn most_since(&self) -> usize {
        let mut state = self.state();
        let present = state.made_here();
        std::mem::replace(&mut state.most_since, present)
    }

    /// When a container was dead for everybody to see, if it is.
    pub fn dead_since(&self, slot: &SlotId) -> Option<Instant> {
        self.state().dead.get(slot).copied()
    }

    /// The slots of our containers, by its own list.
    pub fn ours(&self) -> BTreeSet<SlotId> {
        let state = self.state();
        state.containers.values().filter(|found| found.label == INSTANCE).map(|found| found.slot.clone()).collect()
    }

    /// How many containers of others there are.
    pub fn others(&self) -> usize {
        self.state().containers.values().filter(|found| found.label != INSTANCE).count()
    }

    /// Looks at the container of a slot, if there is one.
    pub fn look<T>(&self, slot: &SlotId, look: impl FnOnce(&Container) -> T) -> Option<T> {
        self.state().containers.values().find(|found| found.label == INSTANCE && found.slot == *slot).map(look)
    }

    /// Puts a container there that the server under test did not make in this run.
    pub fn plant(&self, label: &str, slot: &SlotId) {
        let container = Container::planted(label, slot);
        self.state().put(container);
    }

    /// From now on a container uses this much of this much memory, in bytes.
    pub fn uses(&self, slot: &SlotId, used_bytes: u64, limit_bytes: u64) {
        let mut state = self.state();
        let found = state.containers.values_mut().find(|found| found.label == INSTANCE && found.slot == *slot);
        found.expect("it is there").memory = Some(Memory { used_bytes, limit_bytes });
    }

    /// Tells whoever listens that something happened to a container.
    pub fn tell(&self, slot: &SlotId, kind: EventKind) {
        // Nobody may listen.
        let _unheard = self.events.send(EngineEvent { slot: slot.clone(), kind });
    }

    /// Brings a container to its end behind the server's back. Whether there was one that lived.
    pub fn kill(&self, slot: &SlotId, death: Death) -> bool {
        let mut state = self.state();
        let found = state.containers.iter_mut().find(|(_, found)| found.label == INSTANCE && found.slot == *slot);
        let Some((id, container)) = found else { return false };
        let Some(deaths) = &container.deaths else { return false };
        let heard = deaths.try_send(death).is_ok();
        match death {
            Death::Agent | Death::Silent => {}
            Death::Killed => container.state = BoxState::Ended,
            Death::Paused => container.state = BoxState::Paused,
            Death::Removed => {
                // What still runs of it dies by itself.
                let _dying = container.supervisor.take().map(AbortOnDropHandle::detach);
                let id = id.clone();
                state.remove(&id);
            }
        }
        drop(state);
        let kind = match death {
            Death::Agent | Death::Silent => return heard,
            Death::Killed => EventKind::Died,
            Death::Paused => EventKind::Paused,
            Death::Removed => EventKind::Removed,
        };
        self.tell(slot, kind);
        heard
    }

    /// Notes that a call was made; says how it goes.
    fn meet(&self, call: Call) -> Way {
        let way = self.state().script.take(call);
        self.met.send_modify(|met| *met.entry(call).or_default() += 1);
        way
    }

    /// An agent heard a user.
    fn heard(&self, slot: &SlotId, words: &str) {
        let mut state = self.state();
        let found = state.containers.values_mut().find(|found| found.label == INSTANCE && found.slot == *slot);
        let Some(container) = found else { return };
        if container.voices.last().is_some_and(|before| before != words) {
            let overlap = format!("{slot} heard {words} after {:?}", container.voices);
            state.seen.overlaps.push(overlap);
            return;
        }
        container.voices.push(words.to_owned());
    }

    /// A supervisor or its agent has died, and the server could know.
    fn died(&self, slot: &SlotId) {
        let mut state = self.state();
        state.dead.insert(slot.clone(), Instant::now());
        state.starting.remove(slot);
    }

    /// A start has been asked for.
    fn start_begins(&self, slot: &SlotId) {
        let mut state = self.state();
        if state.given_up.contains(slot) {
            return;
        }
        state.starting.insert(slot.clone());
        state.seen.most_starting = state.seen.most_starting.max(state.starting.len());
    }

    /// It has come to an end, good or bad. To be said before the server can know.
    pub fn start_is_over(&self, slot: &SlotId) {
        self.state().starting.remove(slot);
    }

    /// An operator gives it up: whatever is still asked for it no longer counts as a start. To be said before the server is told.
    pub fn start_is_given_up(&self, slot: &SlotId) {
        let mut state = self.state();
        state.starting.remove(slot);
        state.given_up.insert(slot.clone());
    }

    /// It will come to an end because the server gives up after `deadline`. A little less, so that our clock is never behind.
    fn start_is_over_soon(self: &Arc<Self>, slot: &SlotId, deadline: Duration) {
        let (engine, slot) = (Arc::clone(self), slot.clone());
        tokio::spawn(async move {
            tokio::time::sleep(deadline.mul_f64(0.9)).await;
            engine.start_is_over(&slot);
        });
    }

    fn list(&self) -> Vec<Found> {
        let state = self.state();
        let ours = state.containers.iter().filter(|(_, container)| container.label == INSTANCE);
        ours.map(|(id, container)| container.found(id)).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
