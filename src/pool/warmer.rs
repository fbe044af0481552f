//! The warmer: keeps all pools' stock at its target, in the background, in nobody's request.
//!
//! Whenever something changes it asks [`plan`](super::plan) what to start and what to retire. A start is only decided when a start turn is free, so
//! what starts is what is needed most at that moment. While half of the stock is left it waits a moment before it replaces what was taken: the
//! replacement's boot would compete with the first token of the session that was just opened. After a failure it pauses, longer each time, with jitter;
//! only a start that works, or an engine that is back, ends the pause early. It ends with its token, and whatever it was starting goes to the reaper.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{
    task::{AbortHandle, Id, JoinError, JoinSet},
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

use super::{
    Control, Mode, Pool, Pools,
    failures::{Failure, FailureKind},
    plan::{PoolState, Room, Situation, Step, plan},
    stock::Refusal,
};
use crate::{
    agent::AgentError,
    config,
    ids::{SlotId, random_fraction},
    runtime::RuntimeError,
    sandbox::{
        census::{Admission, Capacity, Generation, Record},
        lifecycle::{Recipe, Sandbox, StartFailure, start::StartError},
    },
};

/// What is being destroyed for longer than this isn't counted on: a container may be stuck in the kernel.
const GONE_WITHIN: Duration = Duration::from_secs(10);
/// How often everything is looked at when nothing happens: demand falls and sandboxes grow old without a sign.
const TICK: Duration = Duration::from_secs(1);
/// By how much the age of warm sandboxes may be shortened: those that were started together must not all end together.
const AGE_SPREAD: f64 = 0.2;

/// A start that is under way.
struct Start {
    pool: Arc<Pool>,
    generation: Generation,
    slot: SlotId,
    /// Ends it; what exists of it goes to the reaper.
    abort: AbortHandle,
}

type Starts = JoinSet<Result<Sandbox, StartFailure>>;

/// Runs until the pools stop; ends when nothing is being started any more.
pub(super) async fn run(pools: Arc<Pools>) {
    let mut starts: Starts = JoinSet::new();
    tokio::select! {
        () = keep_warm(&pools, &mut starts) => {}
        () = pools.stop.cancelled() => {}
    }
    // Ended, not only told to: a start that goes on for a moment may still make something for the reaper.
    starts.shutdown().await;
}

async fn keep_warm(pools: &Arc<Pools>, starts: &mut Starts) {
    let mut changes = pools.census.subscribe();
    let mut whose: HashMap<Id, Start> = HashMap::new();
    loop {
        changes.borrow_and_update();
        let wake = act(pools, starts, &mut whose);
        tokio::select! {
            Some(done) = starts.join_next_with_id() => finish(&mut whose, done),
            _ = changes.changed() => {}
            () = sleep_until(wake) => {}
        }
    }
}

/// Does what the plan says; returns when to look again at the latest.
fn act(pools: &Arc<Pools>, starts: &mut Starts, whose: &mut HashMap<Id, Start>) -> Instant {
    let now = Instant::now();
    pools.forget_removed();
    end_unwanted(pools, whose);
    let all = pools.all();
    let mut wake = now + TICK;
    let states = all.iter().map(|pool| pool.state(whose, now, &mut wake)).collect();
    let Rooms { free, coming, excess } = rooms(pools);
    let turns = pools.start_limit.saturating_sub(starts.len());
    for step in plan(Situation { pools: states, free, coming, excess, turns }) {
        match step {
            Step::Retire(index) => {
                let pool = &all[index];
                let generation = pool.control().generation;
                pool.stock.retire(generation, now);
            }
            Step::Start(index) => begin(pools, &all[index], starts, whose),
        }
    }
    wake
}

/// Room at one moment.
struct Rooms {
    free: Room,
    /// Free when what has begun to end has ended.
    coming: Room,
    /// Taken beyond the capacity.
    excess: Room,
}

fn rooms(pools: &Pools) -> Rooms {
    let Capacity { sandboxes, memory_mib } = pools.census.capacity();
    let (mut taken, mut coming) = (Room::default(), Room::default());
    for Record { memory_mib, ending_since, .. } in pools.census.records().values() {
        taken.give(*memory_mib);
        if ending_since.is_some_and(|since| since.elapsed() < GONE_WITHIN) {
            coming.give(*memory_mib);
        }
    }
    let beyond = |from: Room, other: Room| Room {
        sandboxes: from.sandboxes.saturating_sub(other.sandboxes),
        memory_mib: from.memory_mib.saturating_sub(other.memory_mib),
    };
    let all = Room { sandboxes, memory_mib };
    Rooms { free: beyond(all, taken), coming, excess: beyond(taken, all) }
}

/// Ends starts that an operator doesn't want any more: destroyed ones, and those of templates that are drained or gone.
fn end_unwanted(pools: &Pools, whose: &HashMap<Id, Start>) {
    let destroyed = pools.unwanted();
    let drained = |pool: &Pool| pool.stock.refused() == Some(Refusal::Draining);
    for start in whose.values().filter(|start| destroyed.contains(&start.slot) || drained(&start.pool)) {
        start.abort.abort();
    }
}

fn begin(pools: &Arc<Pools>, pool: &Arc<Pool>, starts: &mut Starts, whose: &mut HashMap<Id, Start>) {
    let slot = SlotId::random();
    let (recipe, generation) = {
        let mut control = pool.control();
        control.last_turn = pools.next_turn();
        (control.recipe.clone(), control.generation)
    };
    let memory_mib = recipe.template.limits.memory_mib;
    let admission = Admission { slot: slot.clone(), template: recipe.name.clone(), generation, memory_mib };
    let Some(entry) = pools.census.admit(admission) else { return };
    pool.stock.failures().try_again();
    let starter = Arc::clone(&pools.starter);
    let handle = starts.spawn({
        let slot = slot.clone();
        async move { starter.start(&recipe, &slot, entry).await }
    });
    whose.insert(handle.id(), Start { pool: Arc::clone(pool), generation, slot, abort: handle });
}

fn finish(whose: &mut HashMap<Id, Start>, done: Result<(Id, Result<Sandbox, StartFailure>), JoinError>) {
    let (id, outcome) = match done {
        Ok((id, outcome)) => (id, Some(outcome)),
        Err(error) if error.is_cancelled() => {
            whose.remove(&error.id());
            return;
        }
        Err(error) => {
            warn!(%error, "a start panicked");
            (error.id(), None)
        }
    };
    let Some(Start { pool, generation, .. }) = whose.remove(&id) else { return };
    match outcome {
        Some(Ok(sandbox)) => pool.shelve(sandbox, generation),
        // An operator's doing, not a failure.
        Some(Err(StartFailure { error: StartError::Agent(AgentError::Condemned(_)), .. })) => {}
        Some(Err(failure)) => pool.note(&failure, generation),
        None => {
            let mut control = pool.control();
            control.pause_until = Instant::now() + control.settings.backoff_max;
        }
    }
}

impl Pool {
    /// How it is at this moment; moves `wake` to where it will be otherwise.
    fn state(&self, whose: &HashMap<Id, Start>, now: Instant, wake: &mut Instant) -> PoolState {
        for detail in self.stock.early_losses() {
            self.note_early_loss(detail, now);
        }
        if self.stock.has_lasting() {
            self.stock.failures().proven();
        }
        let mut control = self.control();
        let Control { generation, min, max, mode, removed, pause_until, courtesy_until, last_turn, .. } = *control;
        if pause_until <= now {
            // Also where no stock is kept and so nothing is started: callers are what the next try is for.
            self.stock.failures().try_again();
        }
        let inventory = self.stock.inventory(generation, now);
        let target = self.demand().target(self.begun.elapsed(), min, max);
        control.target = if removed || mode == Mode::Draining { 0 } else { target };
        if inventory.fresh >= control.target {
            self.figures.full();
        }
        // Also where there is no room for the whole target.
        if inventory.fresh >= control.target || (inventory.stale == 0 && inventory.fresh > 0) {
            control.replacing = false;
        }
        let ours = |start: &&Start| start.pool.name == self.name && start.generation == generation;
        for time in [pause_until, courtesy_until].into_iter().filter(|time| *time > now) {
            *wake = time.min(*wake);
        }
        PoolState {
            waiting: inventory.waiting,
            fresh: inventory.fresh,
            stale: inventory.stale,
            starting: whose.values().filter(ours).count() + control.coming,
            target: control.target,
            min,
            memory_mib: control.recipe.template.limits.memory_mib,
            may_start: self.stock.refused().is_none() && pause_until <= now,
            careful: self.stock.failures().in_a_row() > 0,
            courteous: courtesy_until > now
                && inventory.waiting == 0
                && 2 * (inventory.fresh + inventory.stale) >= control.target.max(1),
            drained: removed || mode == Mode::Draining,
            last_turn,
        }
    }

    fn shelve(&self, sandbox: Sandbox, generation: Generation) {
        let now = Instant::now();
        let total = sandbox.times().total;
        info!(template = %self.name, total_ms = millis(total), "sandbox ready");
        self.demand().started(total);
        if let Some(lag) = self.figures.replaced(now) {
            self.metrics.refilled(&self.name, lag);
        }
        let mut control = self.control();
        let age = Self::lifetime(&control);
        if control.generation == generation {
            control.pause_until = now;
            self.stock.failures().over();
        }
        drop(control);
        self.stock.put(sandbox, generation, now, now + age);
    }

    /// How long a sandbox may wait, as the settings are now.
    pub(super) fn lifetime(control: &Control) -> Duration {
        control.settings.warm_age.mul_f64(1.0 - AGE_SPREAD * random_fraction())
    }

    /// An agent boots and then ends by itself: without a pause it would be started for ever.
    fn note_early_loss(&self, detail: String, now: Instant) {
        let (next_try, in_a_row) = self.pause(&mut self.control(), now);
        warn!(template = %self.name, detail, in_a_row, pause_ms = millis(next_try - now), "a sandbox was lost soon after it was ready");
        let loss = Failure { time: Timestamp::now(), kind: FailureKind::Agent, phase: "stock", detail, next_try };
        self.stock.failures().add_early_loss(loss);
    }

    /// Pauses for one failure more; says until when, and how many there were in a row with it.
    fn pause(&self, control: &mut Control, now: Instant) -> (Instant, u32) {
        let failures = self.stock.failures();
        let in_a_row = failures.in_a_row().saturating_add(1);
        let pause = backoff(&control.settings, in_a_row, random_fraction());
        control.pause_until = (now + pause).max(failures.next_slot(now));
        (control.pause_until, in_a_row)
    }

    /// The engine answers again: what failed for want of it is tried at once.
    pub(super) fn engine_is_back(&self) {
        if self.stock.failures().present().is_some_and(|failure| failure.kind == FailureKind::Engine) {
            self.control().pause_until = Instant::now();
            self.census.tell();
        }
    }

    /// Notes a failure and the pause that follows it. What an old making of the template does is no matter any more.
    fn note(&self, failure: &StartFailure, generation: Generation) {
        let now = Instant::now();
        let mut control = self.control();
        if control.generation != generation {
            return;
        }
        let (next_try, in_a_row) = self.pause(&mut control, now);
        let detail = public_sentence(failure, &control.recipe);
        drop(control);
        let phase = failure.phase.as_str();
        let kind = kind_of(&failure.error);
        self.stock.failures().add(Failure { time: Timestamp::now(), kind, phase, detail, next_try });
        warn!(
            template = %self.name, phase, error = %failure.error, in_a_row, pause_ms = millis(next_try - now),
            "a sandbox could not be made ready"
        );
    }
}

/// The pause after this many failures in a row; `jitter` is between 0 and 1 and takes up to half of it away.
fn backoff(settings: &config::Pool, in_a_row: u32, jitter: f64) -> Duration {
    let doubled = settings.backoff.saturating_mul(1 << in_a_row.saturating_sub(1).min(16));
    doubled.min(settings.backoff_max).mul_f64(1.0 - jitter / 2.0)
}

fn kind_of(error: &StartError) -> FailureKind {
    match error {
        StartError::Runtime(RuntimeError::Unreachable { .. } | RuntimeError::Deadline { .. }) => FailureKind::Engine,
        StartError::Agent(AgentError::Deadline { .. }) => FailureKind::AgentTimeout,
        StartError::Agent(_) => FailureKind::Agent,
        _ => FailureKind::Container,
    }
}

/// What users may read: no paths, no ids, nobody else's words but the agent's own refusal.
fn public_sentence(failure: &StartFailure, recipe: &Recipe) -> String {
    match &failure.error {
        StartError::Runtime(RuntimeError::Unreachable { .. }) => "the container engine can't be reached".to_owned(),
        StartError::Runtime(RuntimeError::Deadline { call, seconds }) => {
            format!("the container engine did not finish {call} within {seconds} s")
        }
        StartError::Runtime(RuntimeError::NoImage { .. }) => {
            format!("the image of template {} is not on the engine", recipe.name)
        }
        StartError::Runtime(RuntimeError::Refused { call, .. }) => format!("the container engine refused to {call}"),
        StartError::Slot(_) | StartError::NotWritten(_) | StartError::Gateway(_) => {
            "the host could not make the sandbox's folder".to_owned()
        }
        StartError::Link(_) => "the sandbox's supervisor did not call".to_owned(),
        StartError::Agent(AgentError::Lost(_)) => "the sandbox was lost while its agent booted".to_owned(),
        StartError::Agent(error) => error.to_string(),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pauses_grow_to_their_limit_and_never_past_it(in_a_row in 1_u32..100, jitter in 0.0_f64..=1.0) {
            let settings = config::Pool::default();
            let pause = backoff(&settings, in_a_row, jitter);
            prop_assert!(pause >= settings.backoff / 2 && pause <= settings.backoff_max);
        }
    }
}
