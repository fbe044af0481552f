//! The command line of the benchmark.

use std::path::PathBuf;

use clap::Parser;

/// What limits cost those who keep to them, and how much memory those who don't can take.
#[derive(Debug, Parser)]
#[command(name = "limits")]
pub struct Arguments {
    /// Rounds of neighbours alone, then beside a flood.
    #[arg(long, env = "LIMITS_BENCH_ROUNDS", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub rounds: u32,
    /// How long each half of a round is.
    #[arg(long, default_value_t = 1_500, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    pub milliseconds: u64,
    /// Requests a second of the user who floods: a hundred are granted.
    #[arg(long, env = "LIMITS_BENCH_FLOOD", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(100..=100_000))]
    pub flood: u64,
    /// Tokens that are tried and nobody's.
    #[arg(long, env = "LIMITS_BENCH_TOKENS", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..=100_000_000))]
    pub tokens: u64,
    /// Users that go through the limits.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..=100_000_000))]
    pub users: u64,
    /// The server's program [default: as built with the benchmark]; to compare builds.
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_greenroom"), hide_default_value = true)]
    pub server: PathBuf,
    /// Passed by cargo; means nothing here.
    #[arg(long, hide = true)]
    bench: bool,
}
