//! Events, from the agent's write to the SSE reader: how many a second, and how late.
//!
//! Everything between is real: an agent in a hardened container that says as much as it is asked for (`tests/chatterbox`), its supervisor, the link,
//! this package's server as a program of its own with the log on disk as by default, HTTP over loopback, and readers that check that no number is
//! missing. All of it shares the machine's processors, readers and agents too.
//!
//! *Throughput*: all sessions get a prompt at the same time and say their share of a fixed number of events as fast as they are taken; from the first
//! prompt until the last reader has the last event. *Latency*: all sessions together say a fixed number of events a second, evenly spread.
//!
//! | file | noun |
//! |---|---|
//! | `arguments` | the command line |
//! | `reader`, `chunks` | one reader of one session's events |
//! | `rounds` | one measurement of each kind |
//! | `costs` | whose processor time it was |
//! | `report` | the table, the goals, the JSON file |
//!
//! Server, client and the rest are the lease benchmark's. The exit code says whether the measurement could be made, never whether the
//! figures are good.

mod arguments;
mod chunks;
#[expect(dead_code, reason = "the lease benchmark asks for more")]
#[path = "../lease/client.rs"]
mod client;
mod costs;
#[path = "../lease/figures.rs"]
mod figures;
#[expect(dead_code, reason = "the lease benchmark waits for a quiet machine")]
#[path = "../lease/machine.rs"]
mod machine;
#[path = "../lease/program.rs"]
mod program;
mod reader;
mod report;
mod rounds;
#[expect(dead_code, reason = "the lease benchmark asks for more")]
#[path = "../lease/server.rs"]
mod server;
#[expect(dead_code, reason = "turns are read by readers of our own")]
#[path = "../lease/stream.rs"]
mod stream;

use std::{path::Path, process::ExitCode};

use anyhow::{Context as _, anyhow};
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

use arguments::Arguments;
use machine::Machine;
use program::Program;
use report::Report;
use rounds::measure_all;
use server::{Context, Plan, Server};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match measure(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("events benchmark: {error:#}");
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

    let stub = Program::stub("events-stub", &arguments.server, &folder).await?;
    let context = Context { program: &arguments.server, stub: &stub, target, folder: &folder };
    let server = Server::start(plan(arguments), context).await?;
    let machine = Machine::look(&server.engine().await?);
    eprintln!("{machine}");
    let outcome = tokio::select! {
        outcome = measure_all(&server, arguments) => outcome,
        _ = interrupt.recv() => Err(anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow!("terminated")),
    };
    // Everything is stopped in order before anything is said: nothing may be left on the engine.
    let stopped = server.stop().await;
    let stub_stopped = stub.stop().await;
    let crowds = outcome.with_context(|| format!("not finished; the logs are in {}", folder.display()))?;
    stopped.and(stub_stopped)?;

    let report = Report::new(crowds, arguments, machine).context("nothing was measured")?;
    let file = folder.join("events.json");
    report.write(&file)?;
    print!("{report}");
    println!("written to {}", file.display());
    Ok(())
}

/// A stock for the largest crowd, and no room for more: nothing is started while it is measured.
fn plan(arguments: &Arguments) -> Plan {
    let largest = arguments.sessions.iter().max().copied().unwrap_or(1);
    let settings = format!(
        r#"pool.cap = {largest}
pool.queue = 1000
runtime.start_limit = 4
[templates.chatterbox]
image = "greenroom/chatterbox:test"
command = ["/chatterbox"]
min_warm = {largest}
max_warm = {largest}
limits = {{ memory_mib = 64, tmp_mib = 8, home_mib = 8 }}"#
    );
    Plan { name: "events", settings }
}
