//! Everything a runtime must know to make one sandbox. Plain data: no engine's words, no user's words.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, SlotId, TemplateName};

/// Where things are inside a container.
pub mod inside {
    /// The supervisor, mounted read-only.
    pub const SUPERVISOR: &str = "/.greenroom/supervisor";
    /// The slot's `run` folder (the sockets of link, gateway and egress), mounted read-only.
    pub const RUN: &str = "/.greenroom/run";
    /// The workspace's parent, the only place that outlives the container.
    pub const SANDBOX: &str = "/sandbox";
    /// The workspace: the agent's working folder.
    pub const WORKSPACE: &str = "/sandbox/workspace";
}

/// What one sandbox may use of the machine.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Memory, swap included, in MiB. All tmpfs sizes count against it. Default 2048.
    pub memory_mib: u64,
    /// Processors. Default 1.0.
    pub cpus: f64,
    /// Processes and threads. Default 256.
    pub pids: u32,
    /// Size of `/tmp`, in MiB. Default 256.
    pub tmp_mib: u64,
    /// Size of the agent's home, in MiB. Default 256.
    pub home_mib: u64,
    /// Open files per process. Default 4096.
    pub open_files: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_mib: 2048, cpus: 1.0, pids: 256, tmp_mib: 256, home_mib: 256, open_files: 4096 }
    }
}

/// One sandbox to be made.
#[derive(Debug, Clone)]
pub struct SandboxSpec {
    /// Its slot; also the container's name and label.
    pub slot: SlotId,
    /// The run of the server that makes it.
    pub epoch: Epoch,
    /// The template it is made from.
    pub template: TemplateName,
    /// The image, as resolved by [`crate::runtime::Runtime::resolve_image`]: an id, never a tag. Empty for the process runtime.
    pub image: String,
    /// The agent's command.
    pub command: Vec<String>,
    /// The agent's environment. Holds nothing of any user.
    pub env: BTreeMap<String, String>,
    /// The agent's home folder in the container.
    pub home: String,
    /// Resource limits.
    pub limits: Limits,
    /// The supervisor's program on the host.
    pub supervisor: PathBuf,
    /// The slot's `run` folder on the host.
    pub run_dir: PathBuf,
    /// The workspace's parent on the host.
    pub box_dir: PathBuf,
    /// How long the agent may live without a server.
    pub orphan_grace: Duration,
    /// Output the supervisor keeps until it is acknowledged, in bytes.
    pub ring_bytes: usize,
}
