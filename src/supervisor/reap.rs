//! Collects dead children and ends living ones.
//!
//! As PID 1, or as subreaper outside a container, the supervisor becomes the parent of every process whose own parent ended.
//! [`collect`] takes their exit states off the kernel, so no zombie stays; [`kill_descendants`] ends whatever the agent left behind.

use std::fs;

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, kill_process_group, wait};

use super::frames::Ending;

/// What [`collect`] found.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Collected {
    /// How the agent ended, if it was among the dead.
    pub agent: Option<Ending>,
    /// No child is left, dead or alive.
    pub childless: bool,
}

/// Collects every child that has ended, without waiting.
#[must_use]
pub fn collect(agent: Option<Pid>) -> Collected {
    let mut collected = Collected::default();
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                let code = status.exit_status().map(Ending::Code);
                let ending = code.or_else(|| status.terminating_signal().map(Ending::Signal));
                if Some(pid) == agent && ending.is_some() {
                    collected.agent = ending;
                }
            }
            Ok(None) => return collected,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => {
                collected.childless = true;
                return collected;
            }
        }
    }
}

/// Sends a signal to the agent's process group. That it is gone already is fine.
pub fn signal_group(agent: Pid, signal: Signal) {
    let _gone = kill_process_group(agent, signal);
}

/// Kills every process that descends from this one. One round: who was born meanwhile is found by the next.
pub fn kill_descendants() {
    for pid in descendants(getpid(), &parents()) {
        let _gone = kill_process(pid, Signal::KILL);
    }
}

/// Every process with its parent, from `/proc`.
fn parents() -> Vec<(Pid, i32)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw)?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            Some((pid, parent_in(&stat)?))
        })
        .collect()
}

/// The fourth field of `/proc/PID/stat`. The second is the program's name in brackets and may hold anything, brackets too.
fn parent_in(stat: &str) -> Option<i32> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    after_name.split(' ').nth(1)?.parse().ok()
}

fn descendants(ancestor: Pid, parents: &[(Pid, i32)]) -> Vec<Pid> {
    let mut found = vec![ancestor];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(parents.iter().filter(|(_, its)| *its == parent.as_raw_pid()).map(|(pid, _)| *pid));
        next += 1;
    }
    found.remove(0);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pid(raw: i32) -> Pid {
        Pid::from_raw(raw).expect("not zero")
    }

    #[test]
    fn a_program_that_calls_itself_like_a_stat_line_fools_nobody() {
        assert_eq!(parent_in("42 (sh) S 7 42 42 0"), Some(7));
        assert_eq!(parent_in("42 (x) S 1 ) y) R 9 42 42 0"), Some(9));
        assert_eq!(parent_in("42"), None);
    }

    #[test]
    fn descendants_are_found_at_any_depth_and_others_left_alone() {
        let parents = [(pid(1), 0), (pid(5), 1), (pid(6), 5), (pid(7), 6), (pid(8), 1), (pid(9), 8)];
        assert_eq!(descendants(pid(5), &parents), [pid(6), pid(7)]);
        assert_eq!(descendants(pid(7), &parents), []);
    }
}
