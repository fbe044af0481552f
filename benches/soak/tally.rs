//! What became of it all, counted.

use std::{
    collections::{BTreeMap, HashMap},
    fmt, fs,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use http::StatusCode;
use serde::Serialize;

use super::{attacker::Blow, drift::Check};

/// How a visit went.
#[derive(Debug)]
pub enum Went {
    Served,
    Aborted,
    HungUp,
    WalkedAway,
    /// The session ended in the middle.
    Lost,
    Refused(StatusCode, String),
}

/// Counters that many tasks share.
#[derive(Debug, Default)]
pub struct Tally {
    // Held for a few lines, never over an await.
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    counts: Counts,
    /// Which session met which container.
    met: HashMap<String, String>,
}

/// The counters; the names are those of the file.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Counts {
    /// By template and end.
    visits: BTreeMap<String, u64>,
    /// By status and code.
    refusals: BTreeMap<String, u64>,
    blows: BTreeMap<String, u64>,
    containers_met: usize,
    /// Containers that two sessions met.
    reuses: u64,
}

/// Refusals that are part of the game: a session or sandbox that somebody has just ended, a queue that took too long, or, after two blows in a row
/// hit sandboxes that were starting, callers who are told so at once.
const EXPECTED: [&str; 5] =
    ["409 SESSION_ENDED", "404 NOT_FOUND", "503 POOL_EXHAUSTED", "503 CONTAINER_START_FAILED", "502 AGENT_FAILED"];

impl Tally {
    /// A visit is over.
    pub fn visit(&self, template: &str, went: Went) {
        let name = match went {
            Went::Served => "served",
            Went::Aborted => "aborted",
            Went::HungUp => "hung up",
            Went::WalkedAway => "walked away",
            Went::Lost => "lost",
            Went::Refused(status, code) => {
                self.refused(status, &code);
                "refused"
            }
        };
        *self.lock().counts.visits.entry(format!("{template}, {name}")).or_default() += 1;
    }

    /// An answer was a refusal.
    pub fn refused(&self, status: StatusCode, code: &str) {
        *self.lock().counts.refusals.entry(format!("{} {code}", status.as_u16())).or_default() += 1;
    }

    /// A container was hit.
    pub fn blow(&self, blow: Blow) {
        *self.lock().counts.blows.entry(format!("{blow:?}").to_lowercase()).or_default() += 1;
    }

    /// A session met a container.
    pub fn met(&self, container: &str, session: &str) {
        let mut inner = self.lock();
        let before = inner.met.insert(container.to_owned(), session.to_owned());
        inner.counts.reuses += u64::from(before.is_some_and(|before| before != session));
        inner.counts.containers_met = inner.met.len();
    }

    /// All counters, as they are now.
    pub fn counts(&self) -> Counts {
        self.lock().counts.clone()
    }

    /// What must not have happened: reuse, refusals without a reason, panics of the server; and that anything happened at all.
    pub fn checks(&self, log: &Path) -> anyhow::Result<Vec<Check>> {
        let counts = self.counts();
        let strange = counts.refusals.iter().filter(|(refusal, _)| !EXPECTED.contains(&refusal.as_str()));
        let strange: u64 = strange.map(|(_, count)| count).sum();
        let both = counts.visits.keys().filter(|visit| visit.ends_with(", served")).count() == 2;
        let all: u64 = counts.visits.values().sum();
        let unserved = ["503 POOL_EXHAUSTED", "503 CONTAINER_START_FAILED"];
        let exhausted: u64 = unserved.iter().filter_map(|refusal| counts.refusals.get(*refusal)).sum();
        let log = fs::read_to_string(log)?;
        let panics = log.lines().filter(|line| line.contains("panicked at")).count();
        Ok(vec![
            Check::at_most("containers that two sessions met", counts.reuses, 0),
            Check::at_most("refusals that nothing explains", strange, 0),
            Check::at_most("panics in the server's log", panics as u64, 0),
            Check::at_most(
                "opens refused for want of a sandbox, in a hundred visits",
                exhausted * 100 / all.max(1),
                20,
            ),
            Check::text("users of both templates were served", (!both).then(|| anyhow::anyhow!("not all were"))),
            Check::text(
                "containers were killed, removed and paused",
                (counts.blows.len() < 3).then(|| anyhow::anyhow!("not all of it")),
            ),
        ])
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |counts: &BTreeMap<String, u64>| {
            counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(" · ")
        };
        writeln!(formatter, "visits: {}", list(&self.visits))?;
        writeln!(formatter, "refusals: {}", list(&self.refusals))?;
        writeln!(formatter, "blows: {}", list(&self.blows))?;
        write!(formatter, "containers met: {}, by two sessions: {}", self.containers_met, self.reuses)
    }
}
