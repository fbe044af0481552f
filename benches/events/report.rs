//! What came out: a table for people, a file for machines, and whether the goals were met.

use std::{fmt, fs, io, path::Path};

use serde::Serialize;

use super::{
    arguments::Arguments,
    costs::CostPerEvent,
    figures::Figures,
    machine::Machine,
    rounds::{Crowd, Throughput},
};

/// At least so many events a second, over all sessions of the largest crowd.
const GOAL_PER_S: f64 = 100_000.0;
/// At most so late, the median of the largest crowd at a thousand events a second.
const GOAL_MS: f64 = 0.5;

/// All of it; the names are those of the file. The figures at the top are those of the largest crowd.
#[derive(Debug, Serialize)]
pub struct Report {
    events_per_s: f64,
    latency_ms: Figures,
    sessions: u32,
    goals: [Goal; 2],
    detail: Vec<Detail>,
    /// Events of one round of throughput.
    events: u64,
    /// Events a second while latency was measured.
    latency_rate: u64,
    /// Characters of an event's text.
    text_size: u64,
    machine: Machine,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Goal {
    what: &'static str,
    goal: f64,
    found: f64,
    met: bool,
}

/// One crowd.
#[derive(Debug, Clone, Serialize)]
struct Detail {
    sessions: u32,
    /// The median of the rounds.
    events_per_s: f64,
    /// Every round, in their order.
    rounds: Vec<f64>,
    latency_ms: Figures,
    /// Microseconds of processor time for each event, in the median round.
    cost_us: CostPerEvent,
    /// The same while latency was measured.
    latency_cost_us: CostPerEvent,
}

impl Report {
    /// Sums up; none of nothing.
    pub fn new(crowds: Vec<Crowd>, arguments: &Arguments, machine: Machine) -> Option<Self> {
        let detail: Vec<Detail> = crowds.into_iter().filter_map(Detail::of).collect();
        let Detail { sessions, events_per_s, latency_ms, .. } =
            detail.iter().max_by_key(|detail| detail.sessions)?.clone();
        let goals = [
            Goal {
                what: "events a second, at least",
                goal: GOAL_PER_S,
                found: events_per_s,
                met: events_per_s >= GOAL_PER_S,
            },
            Goal {
                what: "median latency in ms, at most",
                goal: GOAL_MS,
                found: latency_ms.p50,
                met: latency_ms.p50 <= GOAL_MS,
            },
        ];
        Some(Self {
            events_per_s,
            latency_ms,
            sessions,
            goals,
            detail,
            events: arguments.events,
            latency_rate: arguments.rate,
            text_size: arguments.size,
            machine,
        })
    }

    /// Writes the file.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        fs::write(file, serde_json::to_string_pretty(self)? + "\n")
    }
}

impl Detail {
    fn of(crowd: Crowd) -> Option<Self> {
        let Crowd { sessions, rounds, latency, latency_cost } = crowd;
        let mut sorted: Vec<Throughput> = rounds.clone();
        sorted.sort_by(|one, other| one.events_per_s.total_cmp(&other.events_per_s));
        let median = sorted.get(sorted.len().checked_sub(1)? / 2)?;
        Some(Self {
            sessions,
            events_per_s: median.events_per_s,
            rounds: rounds.iter().map(|round| round.events_per_s).collect(),
            latency_ms: latency,
            cost_us: median.cost,
            latency_cost_us: latency_cost,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "\n{}\n", self.machine)?;
        for Detail { sessions, events_per_s, rounds, latency_ms, cost_us, .. } in &self.detail {
            writeln!(formatter, "{sessions:>4} sessions: {events_per_s:>8} events/s, rounds {rounds:?}")?;
            writeln!(formatter, "               latency in ms: count, min, p50, p90, p99, max")?;
            writeln!(formatter, "              {latency_ms}")?;
            writeln!(formatter, "               processor time per event in µs: {cost_us}")?;
        }
        writeln!(formatter)?;
        for Goal { what, goal, found, met } in &self.goals {
            let verdict = if *met { "met   " } else { "MISSED" };
            writeln!(formatter, "goal {verdict} {what} {goal}: {found} with {} sessions", self.sessions)?;
        }
        Ok(())
    }
}

impl fmt::Display for CostPerEvent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, readers, agents_and_rest } = self;
        write!(formatter, "server {server}, readers {readers}, agents and the rest {agents_and_rest}")
    }
}
