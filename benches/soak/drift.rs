//! How far two censuses may differ.
//!
//! Things that are counted by one (containers, mounts, cgroups) may not differ at all. Descriptors and threads may by a few: a connection that is kept
//! for a while, a thread that is. Memory may by a share, since no allocator gives everything back; the engine, a program in Go whose heap
//! breathes and which others may use, by a larger one.

use std::fmt;

use serde::Serialize;

use super::census::{Census, Process};

/// One thing that was compared.
#[derive(Debug, Serialize)]
pub struct Check {
    what: String,
    /// What it was, or what went wrong.
    found: String,
    at_most: Option<u64>,
    pub ok: bool,
}

impl Check {
    /// A number with a ceiling.
    pub fn at_most(what: &str, found: u64, at_most: u64) -> Self {
        Self { what: what.to_owned(), found: found.to_string(), at_most: Some(at_most), ok: found <= at_most }
    }

    /// Something that is well, or has an error.
    pub fn text(what: &str, error: Option<anyhow::Error>) -> Self {
        let found = error.as_ref().map_or_else(|| "yes".to_owned(), |error| format!("{error:#}"));
        Self { what: what.to_owned(), found, at_most: None, ok: error.is_none() }
    }
}

/// What a process may hold more than it did.
struct Tolerance {
    descriptors: u64,
    threads: u64,
    memory_percent: u64,
    memory_mib: u64,
}

/// Connections that are kept for a while have a task each.
const TASKS: u64 = 8;
const SERVER: Tolerance = Tolerance { descriptors: 8, threads: 4, memory_percent: 15, memory_mib: 12 };
const ENGINE: Tolerance = Tolerance { descriptors: 24, threads: 16, memory_percent: 50, memory_mib: 64 };

/// Two moments of rest of one server, with its whole stock.
pub fn at_rest(first: &Census, second: &Census) -> Vec<Check> {
    let mut checks = vec![
        Check::at_most("at rest: containers", second.containers, first.containers),
        Check::at_most(
            "at rest: containers that the server doesn't know",
            second.containers.abs_diff(second.sandboxes),
            0,
        ),
    ];
    checks.extend(of_machine("at rest", first, second));
    let tasks = |census: &Census| census.tasks.unwrap_or(u64::MAX);
    let before = tasks(first);
    checks.push(Check::at_most(
        &format!("the server: tasks, {before} before"),
        tasks(second),
        before.saturating_add(TASKS),
    ));
    checks.extend(of_process("the server", first.server, second.server, &SERVER));
    checks.extend(of_process("the engine", first.engine, second.engine, &ENGINE));
    checks
}

/// Before the server was started, and after it has stopped.
pub fn outside(before: &Census, after: &Census) -> Vec<Check> {
    of_machine("stopped", before, after)
}

/// What others make and end on the same machine is counted too: a run needs a machine of its own.
fn of_machine(when: &str, before: &Census, after: &Census) -> Vec<Check> {
    vec![
        Check::at_most(&format!("{when}: all containers of the machine"), after.all_containers, before.all_containers),
        Check::at_most(&format!("{when}: mounts"), after.mounts, before.mounts),
        Check::at_most(&format!("{when}: cgroups"), after.cgroups, before.cgroups),
    ]
}

fn of_process(name: &str, before: Option<Process>, after: Option<Process>, tolerance: &Tolerance) -> Vec<Check> {
    let Some((before, after)) = before.zip(after) else {
        return vec![Check::text(
            &format!("{name} can be looked at"),
            Some(anyhow::anyhow!("its process can't be seen from here")),
        )];
    };
    let memory = before.memory_mib + before.memory_mib * tolerance.memory_percent / 100 + tolerance.memory_mib;
    vec![
        Check::at_most(
            &format!("{name}: descriptors, {} before", before.descriptors),
            after.descriptors,
            before.descriptors + tolerance.descriptors,
        ),
        Check::at_most(
            &format!("{name}: threads, {} before", before.threads),
            after.threads,
            before.threads + tolerance.threads,
        ),
        Check::at_most(&format!("{name}: MiB of memory, {} before", before.memory_mib), after.memory_mib, memory),
    ]
}

impl fmt::Display for Check {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.ok { "ok   " } else { "DRIFT" };
        write!(formatter, "{verdict} {}: {}", self.what, self.found)?;
        self.at_most.map_or(Ok(()), |at_most| write!(formatter, " (at most {at_most})"))
    }
}
