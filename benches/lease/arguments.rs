//! The command line of the benchmark.

use std::path::PathBuf;

use clap::Parser;

/// Warm against cold: how long until a session is open, and until its first token.
#[derive(Debug, Parser)]
#[command(name = "lease")]
pub struct Arguments {
    /// Rounds of each kind. Fewer for a trial; the stated figures need 50.
    #[arg(long, env = "LEASE_BENCH_COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub count: u32,
    /// Warm sandboxes that the warm server keeps.
    #[arg(long, env = "LEASE_BENCH_STOCK", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=12))]
    pub stock: u32,
    /// The server's program [default: as built with the benchmark]; to compare builds.
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_greenroom"), hide_default_value = true)]
    pub server: PathBuf,
    /// Passed by cargo; means nothing here.
    #[arg(long, hide = true)]
    bench: bool,
}
