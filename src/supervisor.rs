//! PID 1 of every sandbox, and the words it shares with the server.
//!
//! A small static program that starts the agent, carries its stdio to the server over a link that may break and come back,
//! relays two ports of the sandbox's loopback to the gateway, collects dead children, and ends with the agent or when no server has been there for too long. It logs
//! nothing: what is worth telling goes over the link. It knows no engine, no protocol of agents and no user.
//!
//! | file | what it does |
//! |---|---|
//! | [`frames`], [`connection`], [`ring`] | the link's messages, its socket, what is unacknowledged; shared with [`crate::sandbox::link`] |
//! | [`args`], [`run`] | command line; the one loop |
//! | [`spawn`], [`input`], [`output`], [`reap`] | the agent, its stdin, its outputs, its end |
//! | [`dial`], [`relay`] | the link's near end; the ways to the gateway |
//! | [`orphan`], [`aftermath`] | when the agent has to go; from its end to ours |
//! | [`probe`] | what the sandbox looks like from inside |

pub mod aftermath;
pub mod args;
pub mod connection;
pub mod dial;
pub mod frames;
pub mod input;
pub mod orphan;
pub mod output;
pub mod probe;
pub mod reap;
pub mod relay;
pub mod ring;
pub mod run;
pub mod spawn;

use std::{ffi::OsString, process::ExitCode};

use self::args::Command;

/// Exit code for a command line that isn't understood.
const USAGE: u8 = 2;

/// The program: arguments after its name in, exit code out.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match args::parse(arguments) {
        Ok(Command::Help) => print!("{}", args::HELP),
        Ok(Command::Version) => println!("greenroom-supervisor {}", env!("CARGO_PKG_VERSION")),
        Ok(Command::Probe) => {
            println!("{}", probe::look_around().to_line());
            probe::wait_for_end_of_input();
        }
        Ok(Command::Run(options)) => {
            let ended = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .and_then(|runtime| runtime.block_on(run::run(options)));
            return match ended {
                Ok(code) => ExitCode::from(code),
                Err(error) => {
                    eprintln!("greenroom-supervisor: {error}");
                    ExitCode::FAILURE
                }
            };
        }
        Err(error) => {
            eprintln!("greenroom-supervisor: {error}\n\n{}", args::HELP);
            return ExitCode::from(USAGE);
        }
    }
    ExitCode::SUCCESS
}
