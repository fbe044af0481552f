//! What came out: a table for people, a file for machines, and whether the goals were met.

use std::{fmt, fs, io, path::Path};

use serde::Serialize;

use super::{book::Book, machine::Machine, neighbours::Neighbours, strangers::Strangers};

/// At most so much later, a neighbour's 99th percentile beside a flood.
const GOAL_RATIO: f64 = 1.5;
/// At most so much memory for strangers, and for users, in MiB.
const GOAL_MIB: f64 = 32.0;

/// All of it; the names are those of the file.
#[derive(Debug, Serialize)]
pub struct Report {
    goals: [Goal; 3],
    neighbours: Neighbours,
    strangers: Strangers,
    users: Book,
    machine: Machine,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Goal {
    what: &'static str,
    goal: f64,
    found: f64,
    met: bool,
}

impl Goal {
    fn at_most(what: &'static str, goal: f64, found: f64) -> Self {
        Self { what, goal, found, met: found <= goal }
    }
}

impl Report {
    /// Sums up.
    pub fn new(neighbours: Neighbours, strangers: Strangers, users: Book, machine: Machine) -> Self {
        let goals = [
            Goal::at_most(
                "p99 of neighbours beside a flood over that alone, at most",
                GOAL_RATIO,
                neighbours.p99_ratio,
            ),
            Goal::at_most("MiB for tokens that are nobody's, at most", GOAL_MIB, strangers.growth_mib),
            Goal::at_most("MiB for users, at most", GOAL_MIB, users.growth_mib),
        ];
        Self { goals, neighbours, strangers, users, machine }
    }

    /// Writes the file.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        fs::write(file, serde_json::to_string_pretty(self)? + "\n")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { goals, neighbours, strangers, users, machine } = self;
        writeln!(
            formatter,
            "\n{machine}\n\n  milliseconds   count        min        p50        p90        p99        max"
        )?;
        writeln!(formatter, "  alone          {}", neighbours.quiet_ms)?;
        writeln!(formatter, "  beside a flood {}", neighbours.flood_ms)?;
        writeln!(
            formatter,
            "\n  the flood: {:.0} requests a second, {:.1} % of them refused\n  {} tokens that are nobody's: {:.0} a second, {:.1} to {:.1} MiB\n  \
             {} users: {:.0} ns a call, {} counted at once\n",
            neighbours.flood_per_s,
            neighbours.refused * 100.0,
            strangers.tokens,
            strangers.per_s,
            strangers.before_mib,
            strangers.after_mib,
            users.users,
            users.each_ns,
            users.granted,
        )?;
        goals.iter().try_for_each(|Goal { what, goal, found, met }| {
            writeln!(formatter, "  {what} {goal}: {found} {}", if *met { "✓" } else { "✗" })
        })
    }
}
