//! What sandboxes are made with: the state folder, the engine, the sandbox and its pools.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// Where things are kept on disk.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct State {
    /// The state folder: the store, slots, workspaces, keys. One file system, which the engine sees under the same path.
    /// Default `/var/lib/greenroom`.
    pub dir: PathBuf,
    /// What an event that a reader has seen survives. Default `process`.
    pub durability: Durability,
}

impl Default for State {
    fn default() -> Self {
        Self { dir: PathBuf::from("/var/lib/greenroom"), durability: Durability::default() }
    }
}

/// What survives what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// A server that is killed at any moment. When the power goes, the last moments may be lost; the store stays whole.
    #[default]
    Process,
    /// Power that goes, too: every write waits for the disk.
    Power,
}

/// Which runtime.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeChoice {
    /// Containers.
    #[default]
    Docker,
    /// Plain processes without isolation; loopback only.
    Process,
}

/// The engine.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Runtime {
    /// `docker` (also Podman) or `process`. Default `docker`.
    pub kind: RuntimeChoice,
    /// The engine's address: `unix:///…` or `tcp://…`. Default `DOCKER_HOST`, else `unix:///var/run/docker.sock`.
    pub host: Option<String>,
    /// The OCI runtime to ask for (`runc`, `runsc`, …). Default: the engine's own default.
    pub oci_runtime: Option<String>,
    /// Names this server on the engine; two servers on one engine need two names. Default: made at first start, kept in the state folder.
    pub instance: Option<String>,
    /// Sandboxes that may start at the same time. Default 2.
    pub start_limit: usize,
    /// Deadline of engine calls but create and start. Default 5 s.
    #[serde(with = "humantime_serde")]
    pub call_timeout: Duration,
    /// Deadline of create and of start. Default 20 s.
    #[serde(with = "humantime_serde")]
    pub start_timeout: Duration,
    /// Memory of all sandboxes together, in MiB: the sum of their limits, and the ceiling the kernel keeps. Default: what
    /// `pool.memory_share` gives.
    pub memory_mib: Option<u64>,
    /// The uid and gid in the sandbox. Default 10001 when the server is root, else the server's own.
    pub uid: Option<u32>,
}

impl Default for Runtime {
    fn default() -> Self {
        Self {
            kind: RuntimeChoice::Docker,
            host: None,
            oci_runtime: None,
            instance: None,
            start_limit: 2,
            call_timeout: Duration::from_secs(5),
            start_timeout: Duration::from_secs(20),
            memory_mib: None,
            uid: None,
        }
    }
}

/// All sandboxes.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sandbox {
    /// The supervisor's program. Default: `greenroom-supervisor` beside the server's own.
    pub supervisor: Option<PathBuf>,
    /// How long an agent may live without a server. Default 60 s; then the supervisor ends it and itself.
    #[serde(with = "humantime_serde")]
    pub orphan_grace: Duration,
    /// Output kept until acknowledged, in bytes. Default 4 MiB; past it the agent's pipe blocks.
    pub ring_bytes: usize,
    /// Deadline for the supervisor's first connection after start. Default 10 s.
    #[serde(with = "humantime_serde")]
    pub link_timeout: Duration,
    /// How long a broken link may take to come back. Default 10 s; then the sandbox counts as lost.
    #[serde(with = "humantime_serde")]
    pub relink_timeout: Duration,
    /// Deadline for each of the agent's answers while it boots. Default 20 s.
    #[serde(with = "humantime_serde")]
    pub boot_timeout: Duration,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self {
            supervisor: None,
            orphan_grace: Duration::from_secs(60),
            ring_bytes: 4 * 1024 * 1024,
            link_timeout: Duration::from_secs(10),
            relink_timeout: Duration::from_secs(10),
            boot_timeout: Duration::from_secs(20),
        }
    }
}

/// All pools.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pool {
    /// `min_warm` of templates that don't say otherwise. Default 4. `POOL_SIZE`, `--pool-size`.
    pub size: usize,
    /// Sandboxes in all, in whatever state. Default 16.
    pub cap: usize,
    /// The memory limits of all sandboxes together, as a share of the memory of the engine's machine. Default 0.8; past 1 more is promised
    /// than there is. Never more than `runtime.memory_mib`.
    pub memory_share: f64,
    /// A warm sandbox is replaced at this age, less up to a fifth of it, by chance. Default 1 h.
    #[serde(with = "humantime_serde")]
    pub warm_age: Duration,
    /// Opens that may wait for a sandbox, per template. Default 64; past it 503.
    pub queue: usize,
    /// How long an open waits for a sandbox unless it says otherwise. Default 30 s; then 503.
    #[serde(with = "humantime_serde")]
    pub queue_timeout: Duration,
    /// First pause after a failed start; doubles, with jitter, up to `backoff_max`. Default 1 s.
    #[serde(with = "humantime_serde")]
    pub backoff: Duration,
    /// Longest pause after failed starts. Default 30 s.
    #[serde(with = "humantime_serde")]
    pub backoff_max: Duration,
    /// How often the engine's list is compared with our own. Default 15 s.
    #[serde(with = "humantime_serde")]
    pub sweep: Duration,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            size: 4,
            cap: 16,
            memory_share: 0.8,
            warm_age: Duration::from_secs(3600),
            queue: 64,
            queue_timeout: Duration::from_secs(30),
            backoff: Duration::from_secs(1),
            backoff_max: Duration::from_secs(30),
            sweep: Duration::from_secs(15),
        }
    }
}
