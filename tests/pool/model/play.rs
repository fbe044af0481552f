//! Plays steps against a house and holds what it sees against the promises.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::sample::Index;
use tokio::task::JoinHandle;

use super::{promises::every_open_is_counted_once, step::Step};
use crate::{
    engine::{
        INSTANCE, LOOK_ALIKES,
        script::{Call, Way},
        supervisor::Death,
    },
    house::{House, Plan, TEMPLATES},
    users::{speak, user},
    wait::{PATIENCE, until, within},
};
use greenroom::{
    ids::SlotId,
    pool::{LeaseError, Leased, Mode},
    sandbox::census::SandboxState,
};

/// Starts that are made to fail in one sequence: a pool lets at most ten fail in a minute, and then rests for longer than a test may.
const FAULTS_MAX: usize = 7;
/// Between two full sweeps, which go on all the time.
const SWEEP: Duration = Duration::from_millis(40);
/// Room at the beginning and at the end.
const ROOM: usize = 4;

/// Somebody who asked for a sandbox.
pub(super) struct Open {
    pub(super) user: u64,
    pub(super) template: usize,
    pub(super) asked: Instant,
    pub(super) patience: Duration,
    pub(super) task: JoinHandle<Result<Leased, LeaseError>>,
    /// Its template refused somebody since it asked.
    pub(super) may_be_refused: bool,
}

/// Somebody who has a sandbox.
pub(super) struct Held {
    pub(super) user: u64,
    pub(super) leased: Leased,
    pub(super) spoken: bool,
}

/// A sequence that is being played.
pub struct Play {
    pub(super) house: Arc<House>,
    pub(super) opens: Vec<Open>,
    pub(super) held: Vec<Held>,
    modes: [Mode; 2],
    gone: [bool; 2],
    images: [usize; 2],
    pub(super) room: usize,
    /// How many there may be: the room, or as many as there were when it became less.
    pub(super) bound: usize,
    pub(super) faults: usize,
    pub(super) planted: HashSet<SlotId>,
    /// Sandboxes that were brought to an end from outside.
    ended: HashSet<SlotId>,
}

impl Play {
    pub fn new() -> Self {
        let house = Arc::new(House::new(Plan { cap: ROOM, warm: 1, templates: 2, sweep: SWEEP, ..Plan::default() }));
        Self {
            house,
            opens: Vec::new(),
            held: Vec::new(),
            modes: [Mode::Active; 2],
            gone: [false; 2],
            images: [0; 2],
            room: ROOM,
            bound: ROOM,
            faults: 0,
            planted: HashSet::new(),
            ended: HashSet::new(),
        }
    }

    /// One step, and a look at everything.
    pub async fn step(&mut self, step: Step) {
        match step {
            Step::Open { user, template, patience } => self.open(user, template, patience),
            Step::HangUp(pick) => {
                if let Some(open) = take(&mut self.opens, pick) {
                    open.task.abort();
                    // It may have been served just before.
                    self.ended(open).await;
                }
            }
            Step::Speak(pick) => self.speak(pick).await,
            Step::Leave(pick) => drop(take(&mut self.held, pick)),
            Step::KillIdle(pick, death) => self.kill(pick, death, |state| state < SandboxState::Leased),
            Step::KillLeased(pick, death) => self.kill(pick, death, |state| state == SandboxState::Leased),
            Step::Destroy(pick) => {
                if let Some(slot) = self.pick(pick, |_| true) {
                    self.ended.insert(slot.clone());
                    self.faults += 1;
                    self.house.engine.start_is_given_up(&slot);
                    let _was_there = self.house.pools.destroy(&slot);
                }
            }
            Step::Trouble(call, ways) => self.trouble(call, ways),
            Step::Reload(template) => {
                self.images[template] += 1;
                self.apply();
            }
            Step::Toggle(template) => {
                self.gone[template] ^= true;
                self.expect_refusals(template);
                if self.gone[template] {
                    self.give_up_starts(template);
                }
                self.apply();
            }
            Step::Resize { template, min, max } => {
                if let Some(pool) = self.house.pool(template) {
                    pool.resize(min, max);
                }
            }
            Step::Room(room) => {
                self.room = room;
                self.bound = self.bound.max(room);
                self.apply();
            }
            Step::Mode(template, mode) => self.set_mode(template, mode),
            Step::Plant => {
                let slot = SlotId::random();
                self.house.engine.plant(INSTANCE, &slot);
                self.planted.insert(slot);
            }
            Step::Sweep => drop(within("a sweep", self.house.sweep()).await),
            Step::Wait(pause) => tokio::time::sleep(pause).await,
        }
        self.look().await;
    }

    /// Everything works again, everybody leaves: all who wait are served, the stock is there again, and then nothing is.
    pub async fn end(mut self) {
        self.house.engine.heal();
        self.gone = [false; 2];
        self.room = ROOM;
        self.bound = self.bound.max(ROOM);
        self.apply();
        for template in 0..TEMPLATES.len() {
            self.set_mode(template, Mode::Active);
        }
        within("every waiter ends", async {
            while !self.opens.is_empty() {
                self.held.clear();
                tokio::time::sleep(Duration::from_millis(2)).await;
                self.look().await;
            }
        })
        .await;
        self.held.clear();
        for pool in (0..TEMPLATES.len()).filter_map(|template| self.house.pool(template)) {
            let resting = || pool.figures().failing.is_some_and(|failure| failure.pause() > PATIENCE / 4);
            until("the stock is there again", || pool.figures().counts.ready >= pool.figures().min || resting()).await;
            until("nobody waits", || pool.figures().waiting == 0).await;
            every_open_is_counted_once(&pool);
        }
        self.house.sweep().await.expect("the engine works again");
        until("nothing of ours is unknown", || self.house.strangers().is_empty()).await;
        self.look().await;
        self.counts_agree().await;
        assert_eq!(self.house.engine.others(), LOOK_ALIKES.len());
        House::unwrap(self.house).finish().await;
    }

    fn open(&mut self, number: u64, template: usize, patience: Duration) {
        let house = Arc::clone(&self.house);
        let task = tokio::spawn(async move { house.lease_of(template, &user(number), Some(patience)).await });
        let may_be_refused = self.gone[template] || self.modes[template] != Mode::Active;
        self.opens.push(Open { user: number, template, asked: Instant::now(), patience, task, may_be_refused });
    }

    async fn speak(&mut self, pick: Index) {
        if self.held.is_empty() {
            return;
        }
        let held = pick.get_mut(&mut self.held);
        if std::mem::replace(&mut held.spoken, true) {
            return;
        }
        let slot = held.leased.lease.slot().id().clone();
        let said = speak(&mut held.leased, &format!("user-{}", held.user)).await;
        assert!(said.is_ok() || self.is_ended(&slot), "a sandbox that nobody ended is dead: {said:?}");
    }

    /// Brings one of those in this state to an end.
    fn kill(&mut self, pick: Index, death: Death, which: impl Fn(SandboxState) -> bool) {
        if let Some(slot) = self.pick(pick, which) {
            self.faults += 1;
            self.ended.insert(slot.clone());
            self.house.engine.kill(&slot, death);
        }
    }

    fn trouble(&mut self, call: Call, ways: Vec<Way>) {
        let faults = ways.iter().filter(|way| **way != Way::Slow).count();
        if self.faults + faults > FAULTS_MAX {
            return;
        }
        self.faults += faults;
        self.house.engine.next(call, ways);
    }

    fn set_mode(&mut self, template: usize, mode: Mode) {
        self.modes[template] = mode;
        self.expect_refusals(template);
        if mode == Mode::Draining {
            self.give_up_starts(template);
        }
        if let Some(pool) = self.house.pool(template) {
            pool.set_mode(mode);
        }
    }

    /// Those of a template that is about to be drained or to go: their turns are given to others at once.
    fn give_up_starts(&self, template: usize) {
        let records = self.house.census.records().into_iter();
        let starting = records.filter(|(_, record)| record.state == SandboxState::Starting);
        for (slot, _) in starting.filter(|(_, record)| record.template.as_str() == TEMPLATES[template]) {
            self.house.engine.start_is_given_up(&slot);
        }
    }

    fn apply(&self) {
        let present = (0..TEMPLATES.len()).filter(|template| !self.gone[*template]);
        let images = present.map(|template| (template, format!("image-{}", self.images[template]))).collect::<Vec<_>>();
        self.house.apply(&images, self.room);
    }

    fn expect_refusals(&mut self, template: usize) {
        for open in self.opens.iter_mut().filter(|open| open.template == template) {
            open.may_be_refused = true;
        }
    }

    /// Whether a sandbox was brought to an end by us or by the engine's trouble.
    pub(super) fn is_ended(&self, slot: &SlotId) -> bool {
        self.ended.contains(slot) || self.house.engine.dead_since(slot).is_some()
    }

    fn pick(&self, pick: Index, which: impl Fn(SandboxState) -> bool) -> Option<SlotId> {
        let records = self.house.census.records();
        let mut slots: Vec<SlotId> =
            records.into_iter().filter(|(_, record)| which(record.state)).map(|(slot, _)| slot).collect();
        slots.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        if slots.is_empty() { None } else { Some(pick.get(&slots).clone()) }
    }
}

/// Takes out the one that is meant, if there is any.
fn take<T>(from: &mut Vec<T>, pick: Index) -> Option<T> {
    if from.is_empty() { None } else { Some(from.swap_remove(pick.index(from.len()))) }
}
