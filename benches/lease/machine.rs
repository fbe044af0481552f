//! Where this runs, and whether it is quiet there.

use std::{fmt, fs, time::Duration};

use serde::Serialize;
use tokio::time::{Instant, sleep};

/// The machine, for whoever compares figures.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// Processors we may use.
    pub cpus: usize,
    /// Their name.
    pub cpu: String,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The kernel's release.
    pub kernel: String,
    /// The engine's name and version.
    pub engine: String,
    /// Runnable tasks over the last minute, when the benchmark began.
    pub load: String,
}

impl Machine {
    /// Looks around.
    pub fn look(engine: &str) -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory = value(&text("/proc/meminfo"), "MemTotal");
        let kibibytes = memory.and_then(|memory| memory.split_whitespace().next()?.parse::<u64>().ok());
        Self {
            cpus: std::thread::available_parallelism().map_or(1, Into::into),
            cpu: value(&text("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".to_owned()),
            memory_mib: kibibytes.unwrap_or_default() / 1024,
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            engine: engine.to_owned(),
            load: text("/proc/loadavg").split_whitespace().next().unwrap_or_default().to_owned(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpus, cpu, memory_mib, kernel, engine, load } = self;
        write!(formatter, "{cpus} × {cpu}, {memory_mib} MiB, Linux {kernel}, {engine}; load {load}")
    }
}

/// At most this share of all processors may be busy.
const QUIET: f64 = 0.2;
/// Over which time it is looked at.
const WINDOW: Duration = Duration::from_millis(200);
/// After this long a round is measured all the same, and counted as disturbed.
const PATIENCE: Duration = Duration::from_secs(3);

/// Waits until the machine has nothing else to do. False: it has, and we waited in vain.
pub async fn quiet() -> bool {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let before = Ticks::now();
        sleep(WINDOW).await;
        if Ticks::now().busy_since(before) <= QUIET {
            return true;
        }
    }
    false
}

/// Time of all processors since the machine started, in the kernel's ticks.
#[derive(Debug, Clone, Copy, Default)]
struct Ticks {
    idle: u64,
    all: u64,
}

impl Ticks {
    fn now() -> Self {
        // First line: cpu user nice system idle iowait irq softirq steal …
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        let ticks: Vec<u64> = line.split_whitespace().skip(1).take(8).filter_map(|ticks| ticks.parse().ok()).collect();
        Self { idle: ticks.iter().skip(3).take(2).sum(), all: ticks.iter().sum() }
    }

    #[expect(clippy::cast_precision_loss, reason = "a share of a few ticks")]
    fn busy_since(self, before: Self) -> f64 {
        let (idle, all) = (self.idle.saturating_sub(before.idle), self.all.saturating_sub(before.all));
        1.0 - idle as f64 / all.max(1) as f64
    }
}
