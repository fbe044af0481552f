//! One supervisor that runs as a child of ours, and the way it ends.

use std::{path::Path, process::ExitStatus, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

use crate::{
    runtime::{
        BoxState,
        command::{Ports, supervisor_arguments},
    },
    sandbox::spec::SandboxSpec,
};

/// How long a supervisor may take to end its agent and itself when asked, longer than it gives the agent; then its whole group is
/// killed.
const END_GRACE: Duration = Duration::from_secs(4);

/// A started supervisor. Dropping it kills its process group; the tokio runtime reaps it.
pub(super) struct Running {
    child: Child,
    group: Pid,
}

impl Running {
    /// Starts the supervisor in a process group of its own, with nothing of our environment but PATH.
    pub(super) fn start(spec: &SandboxSpec, home: &Path) -> std::io::Result<Self> {
        let mut command = Command::new(&spec.supervisor);
        // The loopback is everybody's here: the supervisor chooses a port and tells it over the link.
        command.args(supervisor_arguments(spec, &spec.run_dir, Ports::default())).args(&spec.command);
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path))).envs(&spec.env);
        command.env("HOME", home).env("TMPDIR", home).current_dir(home);
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
        command.process_group(0);
        let child = command.spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let group = group.ok_or_else(|| std::io::Error::other("a child that was just started has an id"))?;
        Ok(Self { child, group })
    }

    /// The supervisor's process id, which is also its group's.
    pub(super) fn pid(&self) -> i32 {
        self.group.as_raw_nonzero().get()
    }

    /// How it ended; None while it runs.
    pub(super) fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// What it is doing: stopped by a signal counts as paused.
    pub(super) fn state(&mut self) -> BoxState {
        if self.exit_status().is_some() {
            return BoxState::Ended;
        }
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        // The name before it, in brackets, may hold anything.
        match stat.rsplit(") ").next().and_then(|rest| rest.chars().next()) {
            Some('T' | 't') => BoxState::Paused,
            _ => BoxState::Running,
        }
    }

    /// Asks it to end, waits, kills what is left of its group, and reaps it.
    pub(super) async fn end(mut self) {
        self.signal(Signal::TERM);
        // One that is stopped hears nothing until it goes on.
        self.signal(Signal::CONT);
        if tokio::time::timeout(END_GRACE, self.child.wait()).await.is_err() {
            self.signal(Signal::KILL);
            let _reaped = tokio::time::timeout(END_GRACE, self.child.wait()).await;
        }
    }

    fn signal(&self, signal: Signal) {
        // Fails only when nobody of the group is left, which is what we want.
        let _gone = kill_process_group(self.group, signal);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The leader may be gone while its children are not. An id is not used again while its group has members; the
        // moment in which an empty group's id could belong to somebody else is that of any kill by id.
        self.signal(Signal::KILL);
    }
}
