//! What came out: a table for people, a file for machines, and whether the goals were met.

use std::{collections::BTreeMap, fmt, fs, io, path::Path};

use serde::Serialize;

use super::{
    client::Lease,
    figures::Figures,
    machine::Machine,
    rounds::{Measured, Series},
};

/// All of it; the names are those of the file.
#[derive(Debug, Serialize)]
pub struct Report {
    warm_open_ms: Option<Figures>,
    warm_first_token_ms: Option<Figures>,
    cold_open_ms: Option<Figures>,
    cold_first_token_ms: Option<Figures>,
    /// Start to ready of every sandbox of both servers, from their logs.
    sandbox_ready_ms: Option<Figures>,
    /// How many times as long cold takes, by the medians.
    cold_to_warm: Ratio,
    goals: Vec<Goal>,
    detail: BTreeMap<&'static str, Detail>,
    machine: Machine,
}

#[derive(Debug, Serialize)]
struct Ratio {
    open: f64,
    first_token: f64,
}

#[derive(Debug, Serialize)]
struct Goal {
    what: &'static str,
    at_most_ms: f64,
    p50_ms: f64,
    met: bool,
}

/// Where the time goes, by kind of round.
#[derive(Debug, Serialize)]
struct Detail {
    /// `GET /healthz` on the same connection: the floor under every figure.
    round_trip_ms: Option<Figures>,
    prompt_to_first_token_ms: Option<Figures>,
    /// The server's own clock over an open, and its parts.
    lease_total_ms: Option<Figures>,
    lease_wait_ms: Option<Figures>,
    lease_workspace_ms: Option<Figures>,
    lease_agent_ms: Option<Figures>,
    /// Means, from the server's metrics; with the first stock, which started two at a time.
    start_phase_mean_ms: BTreeMap<String, f64>,
    /// Rounds for which the machine did not become quiet.
    disturbed: usize,
}

impl Report {
    /// Sums up.
    pub fn new(
        measured: &Measured,
        ready: Vec<f64>,
        (warm_phases, cold_phases): (BTreeMap<String, f64>, BTreeMap<String, f64>),
        machine: Machine,
    ) -> Self {
        let Measured { warm, cold } = measured;
        let figures = |values: &[f64]| Figures::of(values.to_vec());
        let (warm_open_ms, warm_first_token_ms) = (figures(&warm.open), figures(&warm.first_token));
        let (cold_open_ms, cold_first_token_ms) = (figures(&cold.open), figures(&cold.first_token));
        let sandbox_ready_ms = Figures::of(ready);
        let ratio = |cold: Option<Figures>, warm: Option<Figures>| {
            cold.zip(warm).map_or(0.0, |(cold, warm)| (cold.p50 / warm.p50 * 10.0).round() / 10.0)
        };
        let goal = |what, at_most_ms, figures: Option<Figures>| {
            let p50_ms = figures?.p50;
            Some(Goal { what, at_most_ms, p50_ms, met: p50_ms <= at_most_ms })
        };
        let goals = [
            goal("warm open", 1.5, warm_open_ms),
            goal("warm open + first token", 80.0, warm_first_token_ms),
            goal("sandbox ready", 1500.0, sandbox_ready_ms),
        ];
        Self {
            warm_open_ms,
            warm_first_token_ms,
            cold_open_ms,
            cold_first_token_ms,
            sandbox_ready_ms,
            cold_to_warm: Ratio {
                open: ratio(cold_open_ms, warm_open_ms),
                first_token: ratio(cold_first_token_ms, warm_first_token_ms),
            },
            goals: goals.into_iter().flatten().collect(),
            detail: [("warm", Detail::new(warm, warm_phases)), ("cold", Detail::new(cold, cold_phases))].into(),
            machine,
        }
    }

    /// Writes the file.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        fs::write(file, serde_json::to_string_pretty(self)? + "\n")
    }
}

impl Detail {
    fn new(series: &Series, start_phase_mean_ms: BTreeMap<String, f64>) -> Self {
        let lease = |part: fn(&Lease) -> f64| Figures::of(series.leases.iter().map(part).collect());
        Self {
            round_trip_ms: Figures::of(series.round_trip.clone()),
            prompt_to_first_token_ms: Figures::of(series.prompt_to_token.clone()),
            lease_total_ms: lease(|lease| lease.total_ms),
            lease_wait_ms: lease(|lease| lease.wait_ms),
            lease_workspace_ms: lease(|lease| lease.workspace_ms),
            lease_agent_ms: lease(|lease| lease.agent_ms),
            start_phase_mean_ms,
            disturbed: series.disturbed,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "\n{}\n", self.machine)?;
        let columns = ["count", "min", "p50", "p90", "p99", "max"];
        let [count, rest @ ..] = columns;
        write!(formatter, "{:<32} {count:>5}", "milliseconds")?;
        rest.iter().try_for_each(|column| write!(formatter, " {column:>10}"))?;
        writeln!(formatter)?;
        let mut row = |name: &str, figures: &Option<Figures>| match figures {
            Some(figures) => writeln!(formatter, "{name:<32} {figures}"),
            None => Ok(()),
        };
        row("warm open", &self.warm_open_ms)?;
        row("warm open + first token", &self.warm_first_token_ms)?;
        row("cold open", &self.cold_open_ms)?;
        row("cold open + first token", &self.cold_first_token_ms)?;
        row("sandbox ready (both servers)", &self.sandbox_ready_ms)?;
        for (kind, detail) in &self.detail {
            row(&format!("  {kind}: GET /healthz"), &detail.round_trip_ms)?;
            row(&format!("  {kind}: prompt to first token"), &detail.prompt_to_first_token_ms)?;
            row(&format!("  {kind}: lease, by the server"), &detail.lease_total_ms)?;
            row(&format!("  {kind}:   wait"), &detail.lease_wait_ms)?;
            row(&format!("  {kind}:   workspace"), &detail.lease_workspace_ms)?;
            row(&format!("  {kind}:   agent"), &detail.lease_agent_ms)?;
        }
        for (kind, detail) in &self.detail {
            let phases: Vec<_> =
                detail.start_phase_mean_ms.iter().map(|(phase, mean)| format!("{phase} {mean}")).collect();
            writeln!(formatter, "{kind}: means of a start's phases in ms: {}", phases.join(", "))?;
            if detail.disturbed > 0 {
                writeln!(formatter, "{kind}: in {} rounds the machine had other work", detail.disturbed)?;
            }
        }
        let Ratio { open, first_token } = self.cold_to_warm;
        writeln!(
            formatter,
            "\ncold takes {open} times as long to open, {first_token} times as long to the first token (p50)"
        )?;
        for Goal { what, at_most_ms, p50_ms, met } in &self.goals {
            let verdict = if *met { "met   " } else { "MISSED" };
            writeln!(formatter, "goal {verdict} {what}: p50 {p50_ms} ms, at most {at_most_ms} ms")?;
        }
        Ok(())
    }
}
