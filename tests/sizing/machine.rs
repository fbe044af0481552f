//! One pool on one machine in virtual time: a discrete-event simulation. The estimator and the formula are the real ones; the warmer's rule is
//! restated in a few lines (start what is missing while a turn and the cap allow, retire what is too many), and a sandbox is a number.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    fmt,
    time::Duration,
};

use greenroom::pool::demand::Demand;

use super::arrivals::{Arrivals, Chance};

/// What is simulated.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    /// Shortest and longest start, in seconds; evenly distributed between.
    pub start: (f64, f64),
    /// Starts at the same time.
    pub start_limit: usize,
    /// The bounds of the stock.
    pub warm: (usize, usize),
    /// Sandboxes in all.
    pub cap: usize,
    /// Mean length of a session, in seconds; exponentially distributed.
    pub session: f64,
}

/// Gemini CLI as `make bench-lease` measured it: a start takes 1.05 s, give or take a tenth, two at a time.
pub const GEMINI: Machine = Machine { start: (0.95, 1.15), start_limit: 2, warm: (1, 64), cap: 10_000, session: 300.0 };

impl Machine {
    /// The same with a stock of fixed size.
    pub const fn fixed(self, stock: usize) -> Self {
        Self { warm: (stock, stock), ..self }
    }
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outcome {
    pub opens: usize,
    /// Opens that found a warm sandbox.
    pub hits: usize,
    /// Idle sandboxes, averaged over time.
    pub idle: f64,
    pub largest_target: usize,
    pub starts: usize,
    /// Warm sandboxes destroyed because the target fell.
    pub retired: usize,
    /// In seconds.
    pub longest_wait: f64,
}

impl Outcome {
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    pub fn hit_rate(&self) -> f64 {
        self.hits as f64 / self.opens as f64
    }

    /// Two machines together.
    pub fn beside(self, other: Self) -> Self {
        Self {
            opens: self.opens + other.opens,
            hits: self.hits + other.hits,
            idle: self.idle + other.idle,
            largest_target: self.largest_target.max(other.largest_target),
            starts: self.starts + other.starts,
            retired: self.retired + other.retired,
            longest_wait: self.longest_wait.max(other.longest_wait),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{:>7} opens | {:>6.2} % hits | {:>6.2} idle | target up to {:>3} | {:>7} starts, {:>4} retired | longest wait {:>5.2} s",
            self.opens,
            self.hit_rate() * 100.0,
            self.idle,
            self.largest_target,
            self.starts,
            self.retired,
            self.longest_wait,
        )
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Ready { begun: u64 },
    Ended,
    Opened { index: usize },
    Tick,
}

/// How often the planner looks without being asked, in microseconds. It looks after every event as well.
const TICK: u64 = 10_000_000;

struct Simulation<'a> {
    machine: &'a Machine,
    chance: Chance,
    demand: Demand,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    ready: usize,
    starting: usize,
    leased: usize,
    /// Since when each waits.
    waiting: VecDeque<u64>,
    outcome: Outcome,
}

/// Runs a trace to its end.
pub fn run(machine: &Machine, arrivals: &Arrivals) -> Outcome {
    simulate(machine, arrivals, |_open| {})
}

/// Runs a trace to its end; `missed` is told the index of each open that found nothing warm.
pub fn simulate(machine: &Machine, arrivals: &Arrivals, mut missed: impl FnMut(usize)) -> Outcome {
    let opens = arrivals.iter().enumerate().map(|(index, at)| Reverse((micros(*at), Event::Opened { index })));
    let mut simulation = Simulation {
        machine,
        chance: Chance::seeded(7),
        demand: Demand::new(machine.start_limit),
        events: opens.chain([Reverse((0, Event::Tick))]).collect(),
        ready: 0,
        starting: 0,
        leased: 0,
        waiting: VecDeque::new(),
        outcome: Outcome { opens: arrivals.len(), ..Outcome::default() },
    };
    let end = arrivals.last().map_or(0, |last| micros(*last));
    let (mut last, mut idle) = (0, 0);
    while let Some(Reverse((now, event))) = simulation.events.pop() {
        idle += simulation.ready as u64 * (now.min(end) - last);
        last = now.min(end);
        if now > end && simulation.waiting.is_empty() {
            break;
        }
        simulation.happened(now, event, &mut missed);
        simulation.plan(now);
    }
    simulation.outcome.idle = seconds(idle) / seconds(end);
    simulation.outcome
}

impl Simulation<'_> {
    fn happened(&mut self, now: u64, event: Event, missed: &mut impl FnMut(usize)) {
        match event {
            Event::Opened { index } => {
                self.demand.opened(Duration::from_micros(now));
                if self.ready > 0 && self.waiting.is_empty() {
                    self.ready -= 1;
                    self.outcome.hits += 1;
                    self.lease(now);
                } else {
                    missed(index);
                    self.waiting.push_back(now);
                }
            }
            Event::Ready { begun } => {
                self.starting -= 1;
                self.demand.started(Duration::from_micros(now - begun));
                match self.waiting.pop_front() {
                    Some(since) => {
                        self.outcome.longest_wait = self.outcome.longest_wait.max(seconds(now - since));
                        self.lease(now);
                    }
                    None => self.ready += 1,
                }
            }
            Event::Ended => self.leased -= 1,
            Event::Tick => self.events.push(Reverse((now + TICK, Event::Tick))),
        }
    }

    fn lease(&mut self, now: u64) {
        self.leased += 1;
        let ends = now + micros(self.chance.exponential(self.machine.session));
        self.events.push(Reverse((ends, Event::Ended)));
    }

    fn plan(&mut self, now: u64) {
        let (min, max) = self.machine.warm;
        let target = self.demand.target(Duration::from_micros(now), min, max);
        self.outcome.largest_target = self.outcome.largest_target.max(target);
        let wanted = target + self.waiting.len();
        while self.starting < self.machine.start_limit
            && self.ready + self.starting < wanted
            && self.ready + self.starting + self.leased < self.machine.cap
        {
            let (shortest, longest) = self.machine.start;
            let takes = shortest + (longest - shortest) * self.chance.fraction();
            self.events.push(Reverse((now + micros(takes), Event::Ready { begun: now })));
            self.starting += 1;
            self.outcome.starts += 1;
        }
        let excess = self.ready.saturating_sub(wanted);
        self.ready -= excess;
        self.outcome.retired += excess;
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a trace lasts days, not millennia")]
fn micros(seconds: f64) -> u64 {
    (seconds * 1e6) as u64
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}
