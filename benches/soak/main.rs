//! A long run with everything in it: opens, prompts, aborts and kills on real containers, and a census before and after.
//!
//! One server with two templates, the real Gemini CLI and a small one for churn. After a warm-up the load pauses, everything comes to rest, and a census
//! is taken; then the load goes on for the rest of the time, comes to rest again, and a second census must be like the first: containers, mounts,
//! cgroups, file descriptors, threads and memory of the server and of the engine. A third, after the server has stopped, must be like
//! one from before it started. What may differ, and by how much, is in `drift`.
//!
//! | file | noun |
//! |---|---|
//! | `visitors` | users who open, prompt, abort, hang up and walk away |
//! | `attacker` | somebody who kills, removes and pauses containers |
//! | `tally` | what became of it all, counted |
//! | `census` | what there is, on the engine and in `/proc` |
//! | `drift` | how far two censuses may differ |
//!
//! Server, client and the rest are the lease benchmark's. Exits with an error when anything drifted or an answer was not to be expected.

mod attacker;
mod census;
#[expect(dead_code, reason = "the lease benchmark asks for more")]
#[path = "../lease/client.rs"]
mod client;
mod drift;
#[expect(dead_code, reason = "the lease benchmark waits for a quiet machine")]
#[path = "../lease/machine.rs"]
mod machine;
#[path = "../lease/program.rs"]
mod program;
#[expect(dead_code, reason = "the lease benchmark asks for more")]
#[path = "../lease/server.rs"]
mod server;
#[expect(dead_code, reason = "the lease benchmark reads streams to the end")]
#[path = "../lease/stream.rs"]
mod stream;
mod tally;
mod visitors;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use clap::Parser;
use serde::Serialize;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};

use attacker::Attacker;
use census::{Census, Engine};
use drift::Check;
use machine::Machine;
use program::Program;
use server::{Context, Plan, Server};
use tally::{Counts, Tally};
use visitors::Visitors;

/// The load pauses; until the census nothing may happen for this long: idle threads and connections go.
const STILL: Duration = Duration::from_secs(12);
/// By when all must be as before.
const SETTLED: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_secs(2);

/// Opens, prompts, aborts and kills, and a census before and after.
#[derive(Debug, Parser)]
#[command(name = "soak")]
struct Arguments {
    /// How long the load lasts, warm-up included.
    #[arg(long, env = "MINUTES", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    minutes: u64,
    /// The seed of chance.
    #[arg(long, env = "SOAK_SEED", default_value_t = 1)]
    seed: u64,
    /// The server's program [default: as built with the benchmark].
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_greenroom"), hide_default_value = true)]
    server: PathBuf,
    /// Passed by cargo; means nothing here.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What came out; the names are those of the file.
#[derive(Debug, Serialize)]
struct Report {
    minutes: u64,
    seed: u64,
    drift: bool,
    checks: Vec<Check>,
    counts: Counts,
    machine: Machine,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    match soak(&Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The whole run; says whether all was well.
async fn soak(arguments: &Arguments) -> anyhow::Result<bool> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    // Cargo's own: the folder `tmp` in the target folder.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().context("the target folder has no path")?;
    let folder = target.join("bench");
    std::fs::create_dir_all(&folder).with_context(|| format!("can't make {}", folder.display()))?;

    // The file of a former run says nothing of this one.
    let file = folder.join("soak.json");
    if let Err(error) = std::fs::remove_file(&file)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error).with_context(|| format!("can't remove {}", file.display()));
    }

    let engine = Engine::connect().await?;
    let before = Census::take(&engine, None).await?;
    let stub = Program::stub("soak-stub", &arguments.server, &folder).await?;
    let context = Context { program: &arguments.server, stub: &stub, target, folder: &folder };
    let server = Server::start(plan(), context).await?;
    let machine = Machine::look(&server.engine().await?);
    eprintln!("{machine}");

    let tally = Arc::<Tally>::default();
    let outcome = tokio::select! {
        outcome = run(&server, &engine, arguments, &tally) => outcome,
        _ = interrupt.recv() => Err(anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow!("terminated")),
    };
    // In order, also after a failure: nothing may be left on the engine.
    let stopped = server.stop().await;
    let stub_stopped = stub.stop().await;
    let mut checks = outcome.with_context(|| format!("not finished; the logs are in {}", folder.display()))?;
    checks.push(Check::text("the server stops in order and leaves no container", stopped.err()));
    stub_stopped?;
    checks.extend(settled(async || Ok(drift::outside(&before, &Census::take(&engine, None).await?))).await?);
    checks.extend(tally.checks(&folder.join("soak.log"))?);

    let report = Report {
        minutes: arguments.minutes,
        seed: arguments.seed,
        drift: checks.iter().any(|check| !check.ok),
        checks,
        counts: tally.counts(),
        machine,
    };
    std::fs::write(&file, serde_json::to_string_pretty(&report)? + "\n")?;
    report.tell();
    println!("written to {}", file.display());
    Ok(!report.drift)
}

/// Warm-up, census, load, census.
async fn run(
    server: &Server,
    engine: &Engine,
    arguments: &Arguments,
    tally: &Arc<Tally>,
) -> anyhow::Result<Vec<Check>> {
    let whole = Duration::from_secs(arguments.minutes * 60);
    let warm_up = (whole / 4).clamp(Duration::from_secs(20), Duration::from_secs(180));
    load(server, engine, arguments.seed, warm_up, tally).await?;
    let first = Census::take(engine, Some(server)).await?;
    eprintln!("after the warm-up: {first}");
    load(server, engine, arguments.seed + 1, whole - warm_up, tally).await?;
    let checks = settled(async || {
        let second = Census::take(engine, Some(server)).await?;
        eprintln!("after the load: {second}");
        Ok(drift::at_rest(&first, &second))
    });
    checks.await
}

/// Load for so long, and then rest.
async fn load(
    server: &Server,
    engine: &Engine,
    seed: u64,
    duration: Duration,
    tally: &Arc<Tally>,
) -> anyhow::Result<()> {
    eprintln!("load for {} s", duration.as_secs());
    let visitors = Visitors::come(server, seed, tally)?;
    let attacker = Attacker::begin(engine.clone(), server.instance.clone(), seed, tally);
    sleep(duration).await;
    attacker.end().await;
    visitors.leave().await?;
    server.wait_full().await?;
    sleep(STILL).await;
    server.wait_full().await
}

/// Looks until nothing drifts, or until the deadline; gives back the last look.
async fn settled(mut look: impl AsyncFnMut() -> anyhow::Result<Vec<Check>>) -> anyhow::Result<Vec<Check>> {
    let deadline = tokio::time::Instant::now() + SETTLED;
    loop {
        let checks = look().await?;
        if checks.iter().all(|check| check.ok) || tokio::time::Instant::now() > deadline {
            return Ok(checks);
        }
        sleep(LOOK).await;
    }
}

/// Two templates; sessions that nobody closes end soon, and what has ended is forgotten soon.
fn plan() -> Plan {
    let settings = format!(
        r#"pool.cap = 12
pool.queue = 200
pool.memory_share = 4.0
pool.backoff = "200ms"
session.keep_ended = "5s"
session.cancel_grace = "2s"
templates.gemini.min_warm = 2
templates.gemini.max_warm = 2
templates.shell = {{ image = "{}", command = ["sh", "-c", '''{}'''], protocol = "lines", quiet_time = "20s", min_warm = 3, max_warm = 3 }}"#,
        visitors::IMAGE,
        visitors::AGENT
    );
    Plan { name: "soak", settings }
}

impl Report {
    fn tell(&self) {
        println!("\n{}\n{} minutes, seed {}\n{}", self.machine, self.minutes, self.seed, self.counts);
        for check in &self.checks {
            println!("{check}");
        }
        println!("{}", if self.drift { "DRIFT" } else { "no drift" });
    }
}
