//! Limits: what they cost those who keep to them, and how much memory those who don't can take.
//!
//! *Neighbours*: how late a user's answers are, alone and beside another who asks twenty times as often as granted; the two in turns, so that only their
//! ratio counts. *Strangers*: a million tokens that are nobody's, over kept connections, and the server's memory before and after. *Users*: a
//! million users through the limits themselves, in this process.
//!
//! The server is this package's, a program of its own without an engine: its sandboxes are plain processes and none is opened.
//!
//! | file | noun |
//! |---|---|
//! | `arguments` | the command line |
//! | `server`, `wire` | the server under test, and a connection to it |
//! | `neighbours`, `strangers`, `book` | the three measurements |
//! | `report` | the table, the goals, the JSON file |
//!
//! The exit code says whether the measurement could be made, never whether the figures are good.

mod arguments;
mod book;
#[path = "../lease/figures.rs"]
mod figures;
#[expect(dead_code, reason = "the lease benchmark waits for a quiet machine")]
#[path = "../lease/machine.rs"]
mod machine;
mod neighbours;
#[expect(dead_code, reason = "the lease benchmark asks for more")]
#[path = "../lease/program.rs"]
mod program;
mod report;
mod server;
mod strangers;
mod wire;

use std::{path::Path, process::ExitCode};

use anyhow::{Context as _, anyhow};
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

use arguments::Arguments;
use machine::Machine;
use neighbours::Neighbours;
use report::Report;
use server::Server;
use strangers::Strangers;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match measure(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("limits benchmark: {error:#}");
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
    let machine = Machine::look("no engine");
    eprintln!("{machine}");
    // First: nothing else has grown this process yet.
    let users = book::measure(arguments.users)?;

    let server = Server::start(&arguments.server, target, &folder).await?;
    let outcome = tokio::select! {
        outcome = measure_both(&server, arguments) => outcome,
        _ = interrupt.recv() => Err(anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow!("terminated")),
    };
    let stopped = server.stop().await;
    let (neighbours, strangers) =
        outcome.with_context(|| format!("not finished; the log is in {}", folder.display()))?;
    stopped?;

    let report = Report::new(neighbours, strangers, users, machine);
    let file = folder.join("limits.json");
    report.write(&file)?;
    print!("{report}");
    println!("written to {}", file.display());
    Ok(())
}

async fn measure_both(server: &Server, arguments: &Arguments) -> anyhow::Result<(Neighbours, Strangers)> {
    let neighbours = neighbours::measure(server.address, arguments).await?;
    Ok((neighbours, strangers::measure(server, arguments.tokens).await?))
}
