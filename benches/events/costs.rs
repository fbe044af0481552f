//! Processor time: who used how much of it.

use std::fs;

use serde::Serialize;

/// Ticks of a second in `/proc`, the same on every Linux.
const TICKS: f64 = 100.0;

/// Processor time so far, in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Costs {
    server: f64,
    reader: f64,
    machine: f64,
}

/// Microseconds of processor time for each event.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct CostPerEvent {
    /// The server's process.
    pub server: f64,
    /// This benchmark: all SSE readers.
    pub readers: f64,
    /// Everything else on the machine: agents, supervisors, the engine, and who else runs.
    pub agents_and_rest: f64,
}

impl Costs {
    /// What was used until now.
    pub fn now(server: i32) -> Self {
        Self { server: of_process(&server.to_string()), reader: of_process("self"), machine: of_machine() }
    }

    /// What was used since then, for each of so many events.
    #[expect(clippy::cast_precision_loss, reason = "millions")]
    pub fn per_event(self, before: Self, events: u64) -> CostPerEvent {
        let each = |seconds: f64| (seconds * 1e8 / events.max(1) as f64).round() / 100.0;
        let (server, reader) = (self.server - before.server, self.reader - before.reader);
        let rest = (self.machine - before.machine - server - reader).max(0.0);
        CostPerEvent { server: each(server), readers: each(reader), agents_and_rest: each(rest) }
    }
}

fn of_process(process: &str) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // Behind the name, which may hold anything: state is the first field, user and system time are the twelfth and thirteenth.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    seconds(fields.skip(11).take(2))
}

fn of_machine() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    // cpu user nice system idle iowait irq softirq steal
    let fields = stat.lines().next().unwrap_or_default().split_whitespace().skip(1).enumerate();
    seconds(fields.filter(|(index, _)| [0, 1, 2, 5, 6].contains(index)).map(|(_, field)| field))
}

#[expect(clippy::cast_precision_loss, reason = "ticks of a hundredth of a second")]
fn seconds<'a>(ticks: impl Iterator<Item = &'a str>) -> f64 {
    let ticks: u64 = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    ticks as f64 / TICKS
}
