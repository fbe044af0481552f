//! Settings: one struct per concern, each field with its unit and default.
//!
//! Sources, later ones win: defaults, the TOML file, `GREENROOM__SECTION__KEY`, the well-known variables (`GEMINI_API_KEY`,
//! `DOCKER_HOST`, `POOL_SIZE`, `GEMINI_IMAGE`), command-line flags. Unknown keys are errors; all faults are told at once.

mod check;
mod decode;
pub mod fault;
pub mod load;
mod sources;
pub mod template;
mod tree;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use secrecy::SecretString;
use serde::Deserialize;

pub use fault::{ConfigError, Fault};
pub use load::{Overrides, Sources, load};
pub use template::{ModelApi, Protocol, Template};

/// All settings.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The listener for users.
    pub server: Server,
    /// The listener for operators.
    pub admin: Admin,
    /// Folders.
    pub state: State,
    /// The engine.
    pub runtime: Runtime,
    /// All sandboxes.
    pub sandbox: Sandbox,
    /// All pools.
    pub pool: Pool,
    /// Sessions and turns.
    pub session: Session,
    /// Who may come in.
    pub auth: Auth,
    /// How fast and how much.
    pub limits: Limits,
    /// The model API's key when the caller brings none.
    pub model: Model,
    /// Logs, traces, metrics.
    pub telemetry: Telemetry,
    /// What can be leased. Empty: one template `gemini`.
    pub templates: BTreeMap<String, Template>,
}

/// The listener for users.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Address. Default 127.0.0.1:8080.
    pub address: SocketAddr,
    /// Largest request head, in bytes. Default 16384; 431 past it.
    pub head_bytes: usize,
    /// Largest request body, in bytes. Default 1 MiB; 413 past it.
    pub body_bytes: usize,
    /// Deadline for a request's head. Default 10 s; the connection closes.
    #[serde(with = "humantime_serde")]
    pub head_timeout: Duration,
    /// Deadline for a request's body. Default 30 s; the connection closes.
    #[serde(with = "humantime_serde")]
    pub body_timeout: Duration,
    /// Connections in all. Default 16384; further ones are closed.
    pub connections: usize,
    /// Connections from one address. Default 1024; further ones are closed.
    pub connections_per_address: usize,
    /// Silence after which an SSE stream sends a comment line. Default 15 s.
    #[serde(with = "humantime_serde")]
    pub keep_alive: Duration,
    /// A reader that takes no bytes for this long is cut; it may resume. Default 20 s.
    #[serde(with = "humantime_serde")]
    pub write_stall: Duration,
    /// How long a stopping server waits for requests under way. Default 10 s.
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 8080)),
            head_bytes: 16 * 1024,
            body_bytes: 1024 * 1024,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            connections: 16_384,
            connections_per_address: 1_024,
            keep_alive: Duration::from_secs(15),
            write_stall: Duration::from_secs(20),
            drain: Duration::from_secs(10),
        }
    }
}

/// The listener for operators: `/metrics`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Address; loopback by default, 127.0.0.1:8081.
    pub address: SocketAddr,
}

impl Default for Admin {
    fn default() -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], 8081)) }
    }
}

/// Where things are kept on disk.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct State {
    /// The state folder: slots, workspaces, keys. One file system, which the engine sees under the same path.
    /// Default `/var/lib/greenroom`.
    pub dir: PathBuf,
}

impl Default for State {
    fn default() -> Self {
        Self { dir: PathBuf::from("/var/lib/greenroom") }
    }
}

/// Which runtime.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeChoice {
    /// Containers.
    #[default]
    Docker,
    /// Plain processes without isolation; loopback only.
    Process,
}

/// The engine.
#[derive(Debug, Clone, Deserialize)]
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
    /// Memory ceiling of all sandboxes together, in MiB. Default: none beyond `pool` × template limits.
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
#[derive(Debug, Clone, Deserialize)]
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
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pool {
    /// Warm sandboxes kept per template that doesn't say otherwise. Default 4. `POOL_SIZE`, `--pool-size`.
    pub size: usize,
    /// Sandboxes in all, in whatever state. Default 16.
    pub cap: usize,
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
            queue: 64,
            queue_timeout: Duration::from_secs(30),
            backoff: Duration::from_secs(1),
            backoff_max: Duration::from_secs(30),
            sweep: Duration::from_secs(15),
        }
    }
}

/// Sessions and turns.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Session {
    /// A session without a turn or an open permission ends after this long. Default 30 min.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// A session ends at this age. Default 8 h.
    #[serde(with = "humantime_serde")]
    pub max_age: Duration,
    /// Deadline for a turn's first output. Default 120 s.
    #[serde(with = "humantime_serde")]
    pub first_output_timeout: Duration,
    /// Deadline for a whole turn. Default 30 min.
    #[serde(with = "humantime_serde")]
    pub turn_timeout: Duration,
    /// How long an agent may take to end a turn it was asked to cancel. Default 5 s; then it is killed.
    #[serde(with = "humantime_serde")]
    pub cancel_grace: Duration,
    /// How long a permission stays open. Default 10 min; then it is denied.
    #[serde(with = "humantime_serde")]
    pub permission_timeout: Duration,
    /// Events kept per session, in bytes of their text. Default 64 MiB; the oldest go.
    pub log_bytes: usize,
    /// How long an ended session and its events can still be read. Default 10 min.
    #[serde(with = "humantime_serde")]
    pub keep_ended: Duration,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(30 * 60),
            max_age: Duration::from_secs(8 * 3600),
            first_output_timeout: Duration::from_secs(120),
            turn_timeout: Duration::from_secs(30 * 60),
            cancel_grace: Duration::from_secs(5),
            permission_timeout: Duration::from_secs(600),
            log_bytes: 64 * 1024 * 1024,
            keep_ended: Duration::from_secs(600),
        }
    }
}

/// Who may come in.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// Bearer tokens, beside those made with `greenroom keys create`.
    pub tokens: Vec<Token>,
}

/// One bearer token.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// The user it names.
    pub user: crate::ids::UserId,
    /// The token itself, at least 16 characters.
    pub token: SecretString,
}

/// How fast and how much, per user.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Opens per minute. Default 60; 429 past it.
    pub opens_per_minute: u32,
    /// Opens in one burst. Default 20.
    pub opens_burst: u32,
    /// Prompts per minute. Default 120; 429 past it.
    pub prompts_per_minute: u32,
    /// Prompts in one burst. Default 30.
    pub prompts_burst: u32,
    /// Sessions at the same time. Default 8; 429 past it.
    pub sessions: usize,
    /// Event streams at the same time. Default 64; 429 past it.
    pub streams: usize,
    /// Opens of one user that may wait. Default 2; 429 past it.
    pub waiting: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            opens_per_minute: 60,
            opens_burst: 20,
            prompts_per_minute: 120,
            prompts_burst: 30,
            sessions: 8,
            streams: 64,
            waiting: 2,
        }
    }
}

/// The model API's key when the caller brings none.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Model {
    /// The key. Usually by `GEMINI_API_KEY`.
    pub api_key: Option<SecretString>,
    /// Replaces the base URL of every template's model API; for the stub and for tests.
    pub base_url: Option<String>,
}

/// Logs, traces, metrics.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// What to log, in `tracing`'s filter language. Default `info`.
    pub log: String,
    /// `json` or `text`. Default `json`.
    pub format: LogFormat,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { log: "info".to_owned(), format: LogFormat::Json }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}
