//! Starts the agent: its own process group, our environment, which it gets the proxy's address with, and folder, three pipes.
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

/// What tools look at for a proxy, in both spellings: `curl` takes `http_proxy` in lower case only, others want capitals.
const PROXY: [&str; 4] = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"];
/// What tools look at for hosts to be reached without one.
const NO_PROXY: [&str; 2] = ["NO_PROXY", "no_proxy"];
/// The sandbox itself: its relay to the model, and servers that the agent starts.
const INSIDE: &str = "127.0.0.1,localhost,::1";

/// Starts `command`, a program and its arguments, looked up in `PATH`. It and its children are told that there is a proxy on this port of the
/// loopback; what our own environment says about proxies wins.
///
/// # Errors
/// The program can't be started; the text names it.
pub fn spawn(command: &[OsString], proxy_port: u16) -> io::Result<Agent> {
    let (program, arguments) = command.split_first().ok_or_else(|| io::Error::other("no command was given"))?;
    let mut child = Command::new(program)
        .args(arguments)
        .envs(proxy_variables(proxy_port, |name| std::env::var_os(name).is_some()))
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

fn proxy_variables(port: u16, is_set: impl Fn(&str) -> bool) -> impl Iterator<Item = (&'static str, String)> {
    let proxy = PROXY.map(|name| (name, format!("http://127.0.0.1:{port}")));
    let no_proxy = NO_PROXY.map(|name| (name, INSIDE.to_owned()));
    proxy.into_iter().chain(no_proxy).filter(move |(name, _)| !is_set(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_are_told_of_the_proxy_but_what_a_template_says_wins() {
        let told: Vec<_> = proxy_variables(7, |name| name == "HTTPS_PROXY").collect();
        let expected = [
            ("HTTP_PROXY", "http://127.0.0.1:7"),
            ("http_proxy", "http://127.0.0.1:7"),
            ("https_proxy", "http://127.0.0.1:7"),
            ("NO_PROXY", INSIDE),
            ("no_proxy", INSIDE),
        ];
        assert_eq!(told, expected.map(|(name, value)| (name, value.to_owned())));
    }
}
