//! Sandboxes as plain processes: no isolation at all, for development and fast tests.
//!
//! The supervisor runs as a child of the server, in a process group of its own, with the same sockets in the slot's folder as in a
//! container. Its agent may read and write whatever the server may; the only bounds are that the environment starts empty and that
//! HOME lies in the slot's folder. No other run of the server takes them up: what a killed server leaves behind ends by itself when
//! `orphan_grace` has passed.

mod child;

use std::{
    collections::HashMap,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    sync::Mutex,
};

use async_trait::async_trait;

use self::child::Running;
use super::{BoxState, ContainerId, EngineFacts, Found, Note, PostMortem, Runtime, RuntimeError, RuntimeKind};
use crate::sandbox::spec::SandboxSpec;

/// A supervisor and what it was made from.
struct Entry {
    spec: SandboxSpec,
    state: State,
}

enum State {
    Created,
    Running(Running),
    /// Taken out while it is being ended.
    Ending,
}

/// The process runtime.
#[derive(Default)]
pub struct Process {
    /// Never held across an await.
    entries: Mutex<HashMap<ContainerId, Entry>>,
}

impl Process {
    /// A runtime with no process yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, HashMap<ContainerId, Entry>> {
        self.entries.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[async_trait]
impl Runtime for Process {
    fn kind(&self) -> RuntimeKind {
        RuntimeKind::Process
    }

    fn workspace_inside(&self, box_dir: &Path) -> String {
        box_dir.join("workspace").to_string_lossy().into_owned()
    }

    async fn engine(&self) -> Result<EngineFacts, RuntimeError> {
        let nothing = "agents run as plain processes: they may do whatever this server may";
        Ok(EngineFacts {
            version: "plain processes".to_owned(),
            memory_bytes: std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_memory(&text)),
            notes: vec![Note::missing("isolation", nothing)],
        })
    }

    async fn resolve_image(&self, _image: &str) -> Result<String, RuntimeError> {
        Ok(String::new())
    }

    async fn create(&self, spec: &SandboxSpec) -> Result<ContainerId, RuntimeError> {
        let home = home(spec);
        let refused = |error: std::io::Error| RuntimeError::Refused {
            call: "create",
            reason: format!("{}: {error}", home.display()),
        };
        std::fs::create_dir_all(&home).map_err(refused)?;
        let container = ContainerId(format!("process-{}", spec.slot));
        self.entries().insert(container.clone(), Entry { spec: spec.clone(), state: State::Created });
        Ok(container)
    }

    async fn start(&self, container: &ContainerId) -> Result<i32, RuntimeError> {
        let refused = |reason: String| RuntimeError::Refused { call: "start", reason };
        let mut entries = self.entries();
        let entry = entries.get_mut(container).ok_or_else(|| refused("no such process".to_owned()))?;
        if !matches!(entry.state, State::Created) {
            return Err(refused("it was started before".to_owned()));
        }
        let running = Running::start(&entry.spec, &home(&entry.spec))
            .map_err(|error| refused(format!("{}: {error}", entry.spec.supervisor.display())))?;
        let pid = running.pid();
        entry.state = State::Running(running);
        Ok(pid)
    }

    /// A drop in the middle kills the processes at once; the entry stays, and the next call removes it.
    async fn remove(&self, container: &ContainerId) -> Result<(), RuntimeError> {
        let state = match self.entries().get_mut(container) {
            None => return Ok(()),
            Some(entry) => std::mem::replace(&mut entry.state, State::Ending),
        };
        if let State::Running(running) = state {
            running.end().await;
        }
        self.entries().remove(container);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<Found>, RuntimeError> {
        let found = |(container, entry): (&ContainerId, &mut Entry)| Found {
            container: container.clone(),
            slot: entry.spec.slot.clone(),
            epoch: entry.spec.epoch.clone(),
            template: entry.spec.template.clone(),
            state: match &mut entry.state {
                State::Created => BoxState::Created,
                State::Running(running) => running.state(),
                State::Ending => BoxState::Ended,
            },
        };
        Ok(self.entries().iter_mut().map(found).collect())
    }

    async fn verify(&self, _container: &ContainerId, _spec: &SandboxSpec) -> Result<Vec<String>, RuntimeError> {
        Ok(Vec::new())
    }

    async fn post_mortem(&self, container: &ContainerId) -> Result<Option<PostMortem>, RuntimeError> {
        let mut entries = self.entries();
        let Some(State::Running(running)) = entries.get_mut(container).map(|entry| &mut entry.state) else {
            return Ok(None);
        };
        // As a shell counts: 128 and the signal.
        let code =
            |status: std::process::ExitStatus| status.code().or_else(|| status.signal().map(|signal| 128 + signal));
        let exit_code = running.exit_status().and_then(code).map(i64::from);
        Ok(Some(PostMortem { exit_code, out_of_memory: false }))
    }
}

/// The agent's home: beside the slot's `run` folder, so that it goes with the slot.
fn home(spec: &SandboxSpec) -> PathBuf {
    spec.run_dir.parent().unwrap_or(Path::new("/")).join("home")
}

/// The machine's memory, from `/proc/meminfo`, which counts in KiB.
fn total_memory(meminfo: &str) -> Option<u64> {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    total.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests;
