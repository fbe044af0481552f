//! The command line of the benchmark.

use std::path::PathBuf;

use clap::Parser;

/// Events from the agent's write to the SSE reader: how many a second, and how late.
#[derive(Debug, Parser)]
#[command(name = "events")]
pub struct Arguments {
    /// How many sessions talk at the same time; each is measured.
    #[arg(long, env = "EVENTS_BENCH_SESSIONS", value_delimiter = ',', default_values_t = [1, 10, 100],
          value_parser = clap::value_parser!(u32).range(1..=200))]
    pub sessions: Vec<u32>,
    /// Events of one round of throughput, over all sessions.
    #[arg(long, env = "EVENTS_BENCH_EVENTS", default_value_t = 500_000, value_parser = clap::value_parser!(u64).range(1_000..=10_000_000))]
    pub events: u64,
    /// Rounds of throughput; the median counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub rounds: u32,
    /// Events a second, over all sessions, at which latency is measured.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub rate: u64,
    /// How long latency is measured.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// Characters of each event's text.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(40..=100_000))]
    pub size: u64,
    /// The server's program [default: as built with the benchmark]; to compare builds.
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_greenroom"), hide_default_value = true)]
    pub server: PathBuf,
    /// Passed by cargo; means nothing here.
    #[arg(long, hide = true)]
    bench: bool,
}
