//! Whether the sandboxes of this engine are tight: what was asked, what the engine says, what the probe saw from inside. Pure.
//!
//! One row for each thing that keeps an agent in. *Unavailable* is what this engine or kernel can't do and a sandbox holds without;
//! *failed* is a hole: the server doesn't serve with one. Silence is never taken for safety: what a report doesn't have has failed.

mod inside;

use std::fmt;

use serde::Serialize;

use super::{slot::Owner, spec::Limits};
use crate::{
    runtime::{EngineFacts, RuntimeKind},
    supervisor::probe::ProbeReport,
};

/// What came of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is as asked.
    Ok,
    /// This engine can't; the sandbox holds without.
    Unavailable,
    /// A hole.
    Failed,
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Ok => "ok",
            Self::Unavailable => "can't be had here",
            Self::Failed => "FAIL",
        })
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What it is about.
    pub about: String,
    /// What was asked for.
    pub asked: String,
    /// What the engine says.
    pub engine: String,
    /// What the probe saw from inside; empty where it can't see.
    pub inside: String,
    /// The conclusion.
    pub verdict: Verdict,
}

/// What a sandbox was asked to be.
#[derive(Debug, Clone)]
pub struct Expectations {
    /// The runtime it runs on.
    pub kind: RuntimeKind,
    /// Whom the agent runs as.
    pub owner: Owner,
    /// Its limits.
    pub limits: Limits,
    /// The agent's home.
    pub home: String,
}

/// Judges one throw-away sandbox. `differences` are the lines of [`crate::runtime::Runtime::verify`].
#[must_use]
pub fn verdicts(
    facts: &EngineFacts,
    differences: &[String],
    report: &ProbeReport,
    expected: &Expectations,
) -> Vec<Row> {
    let mut rows = notes(facts);
    if expected.kind == RuntimeKind::Process {
        return rows;
    }
    let mut unclaimed: Vec<&String> = differences.iter().collect();
    for check in inside::checks(report, expected) {
        // The lines about the fields that stand behind this row.
        let (told, rest) = unclaimed.into_iter().partition::<Vec<_>, _>(|line| check.claims(line));
        unclaimed = rest;
        let verdict = if check.holds && told.is_empty() { Verdict::Ok } else { check.otherwise };
        let engine = if told.is_empty() { "as asked".to_owned() } else { join(&told) };
        rows.push(Row { about: check.about.to_owned(), asked: check.asked, engine, inside: check.seen, verdict });
    }
    rows.extend(unclaimed.into_iter().map(|line| difference(facts, line)));
    rows
}

/// Why this server must not serve; None if nothing failed.
#[must_use]
pub fn refusal(rows: &[Row]) -> Option<String> {
    let holes: Vec<String> = rows
        .iter()
        .filter(|row| row.verdict == Verdict::Failed)
        .map(|row| {
            let found = if row.inside.is_empty() { &row.engine } else { &row.inside };
            format!("{} (asked for {}, found {found})", row.about, row.asked)
        })
        .collect();
    if holes.is_empty() { None } else { Some(format!("sandboxes of this engine are not tight: {}", holes.join("; "))) }
}

/// What the engine says about itself: all there is to tell when no sandbox could be made.
#[must_use]
pub fn notes(facts: &EngineFacts) -> Vec<Row> {
    facts
        .notes
        .iter()
        .map(|note| Row {
            about: note.about.to_owned(),
            asked: String::new(),
            engine: note.text.clone(),
            inside: String::new(),
            verdict: if note.holds { Verdict::Ok } else { Verdict::Unavailable },
        })
        .collect()
}

/// A field the engine changed and no check from inside stands for.
fn difference(facts: &EngineFacts, line: &str) -> Row {
    let (field, rest) = line.split_once(':').unwrap_or((line, ""));
    // Kernels without swap accounting or processor quotas are common; memory and process limits are not negotiable.
    let excuse = match field {
        "MemorySwap" => Some("swap limit"),
        "NanoCpus" => Some("processor limit"),
        _ => None,
    };
    let excused = excuse.is_some_and(|about| facts.notes.iter().any(|note| note.about == about && !note.holds));
    Row {
        about: field.to_owned(),
        asked: "as in the table of hardening".to_owned(),
        engine: rest.trim().to_owned(),
        inside: String::new(),
        verdict: if excused { Verdict::Unavailable } else { Verdict::Failed },
    }
}

fn join(lines: &[&String]) -> String {
    lines.iter().map(|line| line.as_str()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
