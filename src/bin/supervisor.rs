//! PID 1 of a sandbox. Everything is in [`greenroom::supervisor`].

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    greenroom::supervisor::main(env::args_os().skip(1))
}
