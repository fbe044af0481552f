//! The server's program: arguments in, exit code out. All else is in the library.

use std::process::ExitCode;

use clap::Parser as _;
use greenroom::cli::{Cli, exit};

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("greenroom: {}", exit::sentence(&error));
            exit::code(&error)
        }
    }
}
