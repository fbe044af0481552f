//! Starts the agent: its own process group, our environment and folder, three pipes.
//!
//! Nothing is waited for here: every child, the agent too, is collected by [`super::reap`].

use std::{
    ffi::OsString,
    io,
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    process::{Command, Stdio},
};

use rustix::process::Pid;
use tokio::net::unix::pipe;

/// A started agent and our ends of its pipes.
#[derive(Debug)]
pub struct Agent {
    /// Its process id, also that of its process group.
    pub pid: Pid,
    /// Its standard input.
    pub stdin: pipe::Sender,
    /// Its standard output.
    pub stdout: pipe::Receiver,
    /// Its standard error.
    pub stderr: pipe::Receiver,
}

/// Starts `command`, a program and its arguments, looked up in `PATH`.
///
/// # Errors
/// The program can't be started; the text names it.
pub fn spawn(command: &[OsString]) -> io::Result<Agent> {
    let (program, arguments) = command.split_first().ok_or_else(|| io::Error::other("no command was given"))?;
    let mut child = Command::new(program)
        .args(arguments)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("can't start {}: {error}", program.display())))?;
    let raw_pid = i32::try_from(child.id()).ok();
    let pid = raw_pid.and_then(Pid::from_raw).ok_or_else(|| io::Error::other("the kernel gave no process id"))?;
    let stdin = child.stdin.take().map(OwnedFd::from).ok_or_else(no_pipe)?;
    let stdout = child.stdout.take().map(OwnedFd::from).ok_or_else(no_pipe)?;
    let stderr = child.stderr.take().map(OwnedFd::from).ok_or_else(no_pipe)?;
    Ok(Agent {
        pid,
        stdin: pipe::Sender::from_owned_fd(stdin)?,
        stdout: pipe::Receiver::from_owned_fd(stdout)?,
        stderr: pipe::Receiver::from_owned_fd(stderr)?,
    })
}

fn no_pipe() -> io::Error {
    io::Error::other("a pipe to the agent is missing")
}
