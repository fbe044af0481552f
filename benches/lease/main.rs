//! What a warm stock is worth: opening a session and getting the first token, warm against cold, in one run on one machine.
//!
//! Everything is real: this package's server as a program of its own, the container engine, Gemini CLI in its image, HTTP over loopback. Only
//! the model is the bundled stub, so that no network is measured. Two servers run side by side, one that keeps a stock and one that keeps none, and rounds go
//! to them in turns of ten, so that a machine that drifts drifts for both.
//!
//! | file | noun |
//! |---|---|
//! | `arguments` | the command line |
//! | `program`, `server` | a child process and its log; a server of ours in one |
//! | `client`, `stream` | a user's side of the API, on one kept connection |
//! | `rounds` | one measurement of each kind; the order of them |
//! | `figures`, `report` | percentiles; the table, the goals, the JSON file |
//! | `machine` | where this ran, and whether it was quiet |
//!
//! The exit code says whether the measurement could be made, never whether the figures are good.

mod arguments;
mod client;
mod figures;
mod machine;
mod program;
mod report;
mod rounds;
mod server;
mod stream;

use std::{path::Path, process::ExitCode};

use anyhow::{Context as _, anyhow};
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

use arguments::Arguments;
use machine::Machine;
use program::Program;
use report::Report;
use rounds::{Measured, rounds};
use server::{Context as Surroundings, Plan, Server};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match measure(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lease benchmark: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    // Listened for from the beginning: whenever it comes, the servers are stopped in order.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // Cargo's own: the folder `tmp` in the target folder.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().context("the target folder has no path")?;
    let folder = target.join("bench");
    std::fs::create_dir_all(&folder).with_context(|| format!("can't make {}", folder.display()))?;

    let stub = Program::stub("lease-stub", &arguments.server, &folder).await?;
    let (warm, cold) = servers(arguments, &stub, target, &folder).await?;
    let machine = Machine::look(&warm.engine().await?);
    eprintln!("{machine}");

    let outcome = tokio::select! {
        outcome = rounds(&warm, &cold, arguments.count) => outcome,
        _ = interrupt.recv() => Err(anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow!("terminated")),
    };
    // The servers' own view; the last chance to ask for it.
    let phases = (warm.start_phases().await, cold.start_phases().await);
    let ready = [warm.ready_times(), cold.ready_times()].concat();
    // Everything is stopped in order before anything is said, also after a failure: nothing may be left on the engine.
    let stopped = tokio::join!(warm.stop(), cold.stop());
    let stub_stopped = stub.stop().await;
    let measured: Measured =
        outcome.with_context(|| format!("not finished; the servers' logs are in {}", folder.display()))?;
    stopped.0.and(stopped.1).and(stub_stopped)?;

    let report = Report::new(&measured, ready, phases, machine);
    print!("{report}");
    let file = folder.join("lease.json");
    report.write(&file).with_context(|| format!("can't write {}", file.display()))?;
    println!("\nwritten to {}", file.display());
    Ok(())
}

/// Starts both servers. If one doesn't come up, the other is stopped again.
async fn servers(
    arguments: &Arguments,
    stub: &Program,
    target: &Path,
    folder: &Path,
) -> anyhow::Result<(Server, Server)> {
    let surroundings = Surroundings { program: &arguments.server, stub, target, folder };
    let start = |name, stock| {
        let settings = format!("templates.gemini.min_warm = {stock}\ntemplates.gemini.max_warm = {stock}");
        Server::start(Plan { name, settings }, surroundings)
    };
    match tokio::join!(start("lease-warm", arguments.stock), start("lease-cold", 0)) {
        (Ok(warm), Ok(cold)) => Ok((warm, cold)),
        (Ok(other), Err(error)) | (Err(error), Ok(other)) => {
            let _a_consequence = other.stop().await;
            Err(error)
        }
        (Err(error), Err(_the_same_most_likely)) => Err(error),
    }
}
