//! What to start and what to retire now: a pure function of all pools at one moment.
//!
//! All pools share the room (sandboxes and memory) and the start turns, so one plan is made for all of them. In order:
//!
//! 1. What a pool has too much of goes: everything of one that is drained, and what is ready beyond the target, stale ones first. That is
//!    what makes a changed template's stock change gradually: a fresh one becomes ready, and a stale one is one too many. When the capacity was made
//!    smaller, idle ones go until it holds.
//! 2. Callers who wait get the free start turns, in turns between pools.
//! 3. Then stock: pools below their minimum first, the emptiest first.
//!
//! A start that finds no room makes some: for a caller who waits, by retiring an idle sandbox of another pool; for a pool below its minimum,
//! one that another has above its own; for a stale stock, one of the stale ones. What is already ending counts as room to come, so that
//! nothing is retired twice for one start.

/// One pool at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolState {
    /// Callers who wait.
    pub waiting: usize,
    /// Ready, made as the template is now.
    pub fresh: usize,
    /// Ready, but made before the template changed, or too old.
    pub stale: usize,
    /// Starting, as the template is now.
    pub starting: usize,
    /// Warm sandboxes to keep, by demand.
    pub target: usize,
    /// Warm sandboxes to keep, by the operator's word.
    pub min: usize,
    /// What each of its sandboxes may use, in MiB.
    pub memory_mib: u64,
    /// Whether a start is allowed now: not paused, not in the pause after a failure.
    pub may_start: bool,
    /// Whether only one may start at a time: after a failure, until one works.
    pub careful: bool,
    /// Whether the stock should not be refilled just now, because a session that was just opened comes first.
    pub courteous: bool,
    /// Whether everything is to go.
    pub drained: bool,
    /// When it last had a start turn; greater is later.
    pub last_turn: u64,
}

impl PoolState {
    const fn ready(&self) -> usize {
        self.fresh + self.stale
    }

    /// Starts that callers wait for.
    const fn urgent(&self) -> usize {
        self.waiting.saturating_sub(self.ready() + self.starting)
    }

    /// Starts that are missing to the target.
    const fn missing(&self, goal: usize) -> usize {
        (goal + self.waiting).saturating_sub(self.fresh + self.starting)
    }

    const fn lose_one(&mut self) {
        if self.stale > 0 {
            self.stale -= 1;
        } else {
            self.fresh = self.fresh.saturating_sub(1);
        }
    }

    const fn allowed(&self) -> bool {
        self.may_start && !self.drained && !(self.careful && self.starting > 0)
    }
}

/// Free room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room {
    /// Sandboxes.
    pub sandboxes: usize,
    /// Memory, in MiB.
    pub memory_mib: u64,
}

impl Room {
    const fn holds(self, memory_mib: u64) -> bool {
        self.sandboxes > 0 && self.memory_mib >= memory_mib
    }

    /// Takes room away, or all that is left.
    pub const fn take(&mut self, memory_mib: u64) {
        self.sandboxes = self.sandboxes.saturating_sub(1);
        self.memory_mib = self.memory_mib.saturating_sub(memory_mib);
    }

    /// Adds the room of one sandbox.
    pub const fn give(&mut self, memory_mib: u64) {
        self.sandboxes += 1;
        self.memory_mib += memory_mib;
    }
}

/// All pools at one moment.
#[derive(Debug, Clone, Default)]
pub struct Situation {
    /// The pools.
    pub pools: Vec<PoolState>,
    /// Room that is free now.
    pub free: Room,
    /// Room that will be free when what is ending has ended.
    pub coming: Room,
    /// Room that is taken and shouldn't be: the capacity was made smaller.
    pub excess: Room,
    /// Starts that may begin now.
    pub turns: usize,
}

/// One thing to do; numbers are places in [`Situation::pools`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Start a sandbox.
    Start(usize),
    /// Retire a stale one, or else the oldest one.
    Retire(usize),
}

/// For whom a start is.
#[derive(Clone, Copy)]
enum Cause {
    Waiting,
    Minimum,
    Target,
}

/// What to do now. Deterministic; what it leaves undone for want of turns or room is planned again at the next change.
#[must_use]
pub fn plan(mut now: Situation) -> Vec<Step> {
    let mut steps = Vec::new();
    retire_surplus(&mut now, &mut steps);
    retire_excess(&mut now, &mut steps);
    let mut turn = now.pools.iter().map(|pool| pool.last_turn).max().unwrap_or_default();
    for cause in [Cause::Waiting, Cause::Minimum, Cause::Target] {
        let mut without_room = vec![false; now.pools.len()];
        while now.turns > 0 {
            let Some(chosen) = choose(&now, cause, &without_room) else { break };
            let memory_mib = now.pools[chosen].memory_mib;
            if now.free.holds(memory_mib) {
                now.free.take(memory_mib);
                now.turns -= 1;
                turn += 1;
                now.pools[chosen].starting += 1;
                now.pools[chosen].last_turn = turn;
                steps.push(Step::Start(chosen));
                continue;
            }
            if make_room(&mut now, chosen, cause, &mut steps) {
                // Nothing smaller takes room that is on its way to another: there would never be enough.
                return steps;
            }
            // Nothing is on its way, and nobody else is to wait for what may take an hour.
            without_room[chosen] = true;
        }
    }
    steps
}

fn retire_surplus(now: &mut Situation, steps: &mut Vec<Step>) {
    for index in 0..now.pools.len() {
        let pool = &now.pools[index];
        let kept = if pool.drained { 0 } else { pool.target + pool.waiting };
        for _ in kept..pool.ready() {
            retire(now, index, steps);
        }
    }
}

fn retire_excess(now: &mut Situation, steps: &mut Vec<Step>) {
    while now.excess.sandboxes > now.coming.sandboxes || now.excess.memory_mib > now.coming.memory_mib {
        let idle = now.pools.iter().enumerate().filter(|(_, pool)| pool.ready() > 0);
        let richest = idle.max_by_key(|(_, pool)| (pool.ready().saturating_sub(pool.min), pool.ready()));
        let Some((index, _)) = richest else { return };
        retire(now, index, steps);
    }
}

fn choose(now: &Situation, cause: Cause, without_room: &[bool]) -> Option<usize> {
    let wanting = |pool: &PoolState| match cause {
        Cause::Waiting => pool.urgent() > 0,
        Cause::Minimum => !pool.courteous && pool.missing(pool.min.min(pool.target)) > 0,
        Cause::Target => !pool.courteous && pool.missing(pool.target) > 0,
    };
    let candidates =
        now.pools.iter().enumerate().filter(|(index, pool)| !without_room[*index] && pool.allowed() && wanting(pool));
    let emptiness = |pool: &PoolState| match cause {
        Cause::Waiting => pool.starting,
        Cause::Minimum | Cause::Target => (pool.fresh + pool.starting) * 1_000 / pool.target.max(1),
    };
    candidates.min_by_key(|(_, pool)| (emptiness(pool), pool.last_turn)).map(|(index, _)| index)
}

/// Retires for a start that finds no room, if that gives enough; else nothing goes in vain. Says whether room will come.
fn make_room(now: &mut Situation, chosen: usize, cause: Cause, steps: &mut Vec<Step>) -> bool {
    let needed = now.pools[chosen].memory_mib;
    // What is taken beyond the capacity must go first.
    let mut hoped = Room {
        sandboxes: (now.free.sandboxes + now.coming.sandboxes).saturating_sub(now.excess.sandboxes),
        memory_mib: (now.free.memory_mib + now.coming.memory_mib).saturating_sub(now.excess.memory_mib),
    };
    let (mut after, mut givers) = (now.clone(), Vec::new());
    while !hoped.holds(needed) {
        let Some(giver) = giver(&after, chosen, cause) else { return false };
        hoped.give(after.pools[giver].memory_mib);
        after.pools[giver].lose_one();
        givers.push(giver);
    }
    for giver in givers {
        retire(now, giver, steps);
    }
    true
}

/// Whose idle sandbox goes: the pool's own stale ones, then those of the pool that has the most to spare.
fn giver(now: &Situation, chosen: usize, cause: Cause) -> Option<usize> {
    let own = &now.pools[chosen];
    // One at a time: while its replacement starts, the others go on serving.
    if own.stale > 0 && own.waiting == 0 && own.starting == 0 {
        return Some(chosen);
    }
    let spare = |pool: &PoolState| match cause {
        Cause::Waiting => pool.ready().saturating_sub(pool.waiting),
        Cause::Minimum => pool.ready().saturating_sub(pool.min + pool.waiting),
        Cause::Target => 0,
    };
    let others = now.pools.iter().enumerate().filter(|(index, pool)| *index != chosen && spare(pool) > 0);
    others.max_by_key(|(_, pool)| (pool.ready().saturating_sub(pool.min), spare(pool))).map(|(index, _)| index)
}

fn retire(now: &mut Situation, index: usize, steps: &mut Vec<Step>) {
    let pool = &mut now.pools[index];
    pool.lose_one();
    now.coming.give(pool.memory_mib);
    steps.push(Step::Retire(index));
}

#[cfg(test)]
mod tests;
