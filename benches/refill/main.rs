//! How quickly a pool refills while its sandboxes are being leased, against what the machine can start when it does nothing else.
//!
//! One server, with the real Gemini CLI. The *ceiling*: an empty stock is told to be large, and fills. The *refill*: callers take every sandbox
//! as soon as it is ready and give it back at once, so that each has to be destroyed and replaced. Both are counted over the same number of
//! sandboxes, in turns, so that a machine that drifts drifts for both; starts in parallel are limited alike (`runtime.start_limit`).
//!
//! Server, client and the rest are the lease benchmark's. The exit code says whether the measurement could be made, never whether the
//! figures are good.

#[expect(dead_code, reason = "the lease benchmark asks for more")]
#[path = "../lease/client.rs"]
mod client;
#[expect(dead_code, reason = "the lease benchmark waits for a quiet machine")]
#[path = "../lease/machine.rs"]
mod machine;
mod phases;
#[path = "../lease/program.rs"]
mod program;
#[expect(dead_code, reason = "the lease benchmark asks for more")]
#[path = "../lease/server.rs"]
mod server;
#[expect(dead_code, reason = "nothing is prompted here")]
#[path = "../lease/stream.rs"]
mod stream;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, anyhow};
use clap::Parser;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use machine::Machine;
use phases::{Rate, ceiling, refill};
use program::Program;
use server::{Context, Plan, Server};

/// At least this much of the ceiling.
const GOAL: f64 = 0.9;

/// Refill under continuous leasing, against the machine's ceiling.
#[derive(Debug, Parser)]
#[command(name = "refill")]
struct Arguments {
    /// Rounds of each kind.
    #[arg(long, env = "REFILL_BENCH_ROUNDS", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Sandboxes counted in each round.
    #[arg(long, env = "REFILL_BENCH_COUNT", default_value_t = 24, value_parser = clap::value_parser!(u32).range(4..=40))]
    count: u32,
    /// Starts in parallel.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=8))]
    start_limit: u32,
    /// The server's program [default: as built with the benchmark]; to compare builds.
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_greenroom"), hide_default_value = true)]
    server: PathBuf,
    /// Passed by cargo; means nothing here.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What came out; the names are those of the file.
#[derive(Debug, Serialize)]
struct Report {
    ceiling_per_minute: f64,
    refill_per_minute: f64,
    ratio: f64,
    goal: f64,
    start_limit: u32,
    /// Per round, in their order.
    ceiling_rounds: Vec<f64>,
    refill_rounds: Vec<f64>,
    machine: Machine,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match measure(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("refill benchmark: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    // Cargo's own: the folder `tmp` in the target folder.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().context("the target folder has no path")?;
    let folder = target.join("bench");
    std::fs::create_dir_all(&folder).with_context(|| format!("can't make {}", folder.display()))?;

    let stub = Program::stub("refill-stub", &arguments.server, &folder).await?;
    let context = Context { program: &arguments.server, stub: &stub, target, folder: &folder };
    let server = Server::start(plan(arguments), context).await?;
    let machine = Machine::look(&server.engine().await?);
    eprintln!("{machine}");
    let outcome = tokio::select! {
        outcome = rounds(&server, arguments) => outcome,
        _ = interrupt.recv() => Err(anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow!("terminated")),
    };
    // Everything is stopped in order before anything is said: nothing may be left on the engine.
    let stopped = server.stop().await;
    let stub_stopped = stub.stop().await;
    let (ceilings, refills) = outcome.with_context(|| format!("not finished; the logs are in {}", folder.display()))?;
    stopped.and(stub_stopped)?;

    let report = Report::new(&ceilings, &refills, arguments.start_limit, machine);
    let file = folder.join("refill.json");
    std::fs::write(&file, serde_json::to_string_pretty(&report)? + "\n")?;
    report.tell();
    println!("written to {}", file.display());
    Ok(())
}

/// Room for a round's whole stock and for what is being destroyed at the same time.
fn plan(arguments: &Arguments) -> Plan {
    let settings = format!(
        "pool.cap = {}\n\
         pool.memory_share = 8.0\n\
         runtime.start_limit = {}\n\
         templates.gemini.min_warm = 0\n\
         templates.gemini.max_warm = 0",
        arguments.count + 16,
        arguments.start_limit
    );
    Plan { name: "refill", settings }
}

async fn rounds(server: &Server, arguments: &Arguments) -> anyhow::Result<(Vec<Rate>, Vec<Rate>)> {
    let (mut ceilings, mut refills) = (Vec::new(), Vec::new());
    for round in 1..=arguments.rounds {
        ceilings.push(ceiling(server, arguments.count).await.with_context(|| format!("ceiling {round}"))?);
        refills.push(refill(server, arguments.count).await.with_context(|| format!("refill {round}"))?);
        let last = |rates: &[Rate]| rates.last().map_or(0.0, |rate| rate.per_minute());
        eprintln!("round {round}: ceiling {:.1}, refill {:.1} a minute", last(&ceilings), last(&refills));
    }
    Ok((ceilings, refills))
}

impl Report {
    fn new(ceilings: &[Rate], refills: &[Rate], start_limit: u32, machine: Machine) -> Self {
        let tenths = |value: f64| (value * 10.0).round() / 10.0;
        let each = |rates: &[Rate]| rates.iter().map(|rate| tenths(rate.per_minute())).collect();
        let (ceiling, refill) = (Rate::of_all(ceilings).per_minute(), Rate::of_all(refills).per_minute());
        Self {
            ceiling_per_minute: tenths(ceiling),
            refill_per_minute: tenths(refill),
            ratio: (refill / ceiling * 1000.0).round() / 1000.0,
            goal: GOAL,
            start_limit,
            ceiling_rounds: each(ceilings),
            refill_rounds: each(refills),
            machine,
        }
    }

    fn tell(&self) {
        println!("{}\n", self.machine);
        println!("ceiling: {:.1} sandboxes ready a minute, {:?}", self.ceiling_per_minute, self.ceiling_rounds);
        println!("refill:  {:.1} sandboxes ready a minute, {:?}", self.refill_per_minute, self.refill_rounds);
        let verdict = if self.ratio >= self.goal { "met   " } else { "MISSED" };
        println!("goal {verdict} ratio {:.3}, at least {}", self.ratio, self.goal);
    }
}
