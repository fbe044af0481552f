//! Settings: one struct per concern, each field with its unit and default.
//!
//! Sources, later ones win: defaults, the TOML file, `GREENROOM__SECTION__KEY`, the well-known variables (`GEMINI_API_KEY`,
//! `DOCKER_HOST`, `POOL_SIZE`, `GEMINI_IMAGE`), command-line flags. Unknown keys are errors; all faults are told at once.

mod audit;
mod auth;
mod check;
mod credentials;
mod decode;
mod egress;
mod engine;
mod fault;
mod listeners;
pub mod load;
mod model_api;
pub mod permissions;
pub mod reload;
mod secret;
mod sources;
pub mod template;
mod tiers;
mod tree;
mod users;
mod web;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use audit::Audit;
pub use auth::{Auth, Issuer, SigningAlgorithm, Token};
pub use credentials::{CredentialStore, Credentials, Vault, VaultLogin};
pub(crate) use egress::parse_port;
pub use egress::{Egress, HostError, HostName, HostPattern, TemplateEgress};
pub use engine::{Durability, Pool, Runtime, RuntimeChoice, Sandbox, State};
pub use fault::{ConfigError, Fault};
pub use listeners::{Admin, Server};
pub use load::{Overrides, Sources, load};
pub use model_api::{ApiForm, ModelApi};
pub use permissions::{PermissionPolicy, ToolKind, Verdict};
pub use reload::{Changes, Reloader};
pub use template::{Protocol, Template};
pub use tiers::{Budget, Tier};
pub use users::{Limits, Model, Session};
pub use web::{WebHost, WebNameError, WebOrigin, usual_port};

/// All settings.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
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
    /// What model calls may cost.
    pub budget: Budget,
    /// What users of a tier have in place of `limits` and `budget`.
    pub tiers: BTreeMap<String, Tier>,
    /// The model API's key when the caller brings none.
    pub model: Model,
    /// Users' named keys for model APIs.
    pub credentials: Credentials,
    /// Who did what.
    pub audit: Audit,
    /// What agents' tools may reach beside the model, as far as it is the same for all templates.
    pub egress: Egress,
    /// Logs, traces, metrics.
    pub telemetry: Telemetry,
    /// What can be leased. Empty: one template `gemini`.
    pub templates: BTreeMap<String, Template>,
}

/// Logs, traces, metrics.
#[derive(Debug, Clone, Deserialize, Serialize)]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}
