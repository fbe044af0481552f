//! The host side of all traffic out of a sandbox.
//!
//! Each slot has two unix sockets, and a socket *is* the identity: whoever speaks on it is the agent of that slot, so the lease
//! bound to the slot says whose key is used. Without a lease every request is refused. On one socket only the model endpoint's host and paths
//! can be reached; the key is put in on this side and never enters the sandbox. On the other one is a proxy for the agent's tools ([`egress`]), which lets
//! nothing through unless template and session say so. Bodies are streamed both ways; token counts
//! are read from the answers as they pass, and the key is taken out should a model repeat it. Gathered first are only a model's errors, and the
//! requests of users who have a budget: what they may cost is reserved before they go out.
//!
//! | file | noun |
//! |---|---|
//! | `endpoint` | what may be reached |
//! | `form` | what the model APIs do differently |
//! | `slot`, `socket` | a slot's sockets, its binding, its connections |
//! | `proxy` | one request, start to answer |
//! | `headers`, `body` | what crosses, and at what pace |
//! | `redaction` | the key out of what a model says about it |
//! | `metering`, `lease`, `report` | counts in an answer; reports to the session |
//! | `budget` | what may be spent, and what is |
//! | `asked`, `charge` | what a call may cost; what it did |
//! | `tally` | what became of a request, counted |
//! | `refusal` | the answers that are ours |
//! | `upstream` | connections to the model |
//! | `egress` | all else that tools may reach |

mod asked;
mod body;
mod budget;
mod charge;
#[cfg(test)]
mod documents;
mod egress;
mod endpoint;
mod form;
mod headers;
mod lease;
mod metering;
mod proxy;
mod redaction;
mod refusal;
mod report;
mod slot;
mod socket;
mod tally;
mod upstream;

use std::{path::Path, path::PathBuf, sync::Arc, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::mpsc;

use crate::{
    config,
    ids::{SessionId, UserId},
    telemetry::{Metrics, SessionAudit},
};

pub use budget::{Account, AccountLook, Budgets, Cost, Exhausted, HourSpent, Standing, Window};
pub(crate) use egress::CONNECTIONS as EGRESS_CONNECTIONS_PER_SLOT;
pub use egress::{Egress, Traffic};
pub use endpoint::{Endpoint, EndpointError};
pub use report::{CallRefused, Report, Usage};
pub(crate) use slot::CONNECTIONS as CONNECTIONS_PER_SLOT;
pub use slot::SlotGateway;

/// Reports that may wait for a session's driver; past that they are summed up, never lost.
pub const REPORTS_CAPACITY: usize = 64;

/// A user's key for the model API. Can't be printed.
#[derive(Clone)]
pub struct ModelKey(pub Arc<SecretString>);

impl ModelKey {
    /// Whether it is the same key.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}

impl std::fmt::Debug for ModelKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("ModelKey(hidden)")
    }
}

/// What a slot's socket is bound to while its sandbox is leased.
#[derive(Debug, Clone)]
pub struct Binding {
    /// Whose traffic it is.
    pub user: UserId,
    /// For which session.
    pub session: SessionId,
    /// The key to put in; none if neither the request nor the server has one (the model API will say so).
    pub key: Option<ModelKey>,
    /// The session's own key isn't known any more: until it is, nothing is let out.
    pub key_missing: bool,
    /// Who pays.
    pub account: Account,
    /// What else may be reached.
    pub egress: Egress,
    /// Takes what is to be in the audit log.
    pub audit: SessionAudit,
    /// Where the session hears of its calls.
    pub reports: mpsc::Sender<Report>,
}

/// Why a gateway could not be made.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// TLS can't be set up at all.
    #[error("the TLS client could not be set up")]
    Tls {
        /// What rustls said.
        #[source]
        source: std::io::Error,
    },
    /// A slot's socket can't be listened on.
    #[error("can't listen on {}", socket.display())]
    Listen {
        /// Where.
        socket: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// How long the gateway waits for the other side.
#[derive(Debug, Clone, Copy)]
struct Deadlines {
    /// For the head of an answer, counted from the request's arrival.
    head: Duration,
    /// For the next piece of a body.
    idle: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { head: Duration::from_secs(120), idle: Duration::from_secs(120) }
    }
}

/// Connections to the models, shared by all slots. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gateway {
    upstream: upstream::Upstream,
    names: Arc<egress::Names>,
    deadlines: Deadlines,
    metrics: Metrics,
}

impl Gateway {
    /// Reads the machine's root certificates; connects to nothing yet. Without any certificate plain http still works. Every call is
    /// counted in `metrics`.
    ///
    /// # Errors
    /// [`GatewayError::Tls`].
    pub fn new(metrics: Metrics) -> Result<Self, GatewayError> {
        let upstream = upstream::connect().map_err(|source| GatewayError::Tls { source })?;
        let names = Arc::new(egress::Names::new(&config::Egress::default()));
        Ok(Self { upstream, names, deadlines: Deadlines::default(), metrics })
    }

    /// With the names of the settings.
    #[must_use]
    pub fn with_names(self, settings: &config::Egress) -> Self {
        Self { names: Arc::new(egress::Names::new(settings)), ..self }
    }

    /// Listens on a slot's socket and on `egress.sock` beside it, which everyone may write to: their folder has to be private. Every request is refused until
    /// the slot is bound. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`GatewayError::Listen`].
    pub fn open_slot(&self, socket: &Path, endpoint: Arc<Endpoint>) -> Result<SlotGateway, GatewayError> {
        let listening = SlotGateway::open(self.clone(), socket, endpoint);
        listening.map_err(|source| GatewayError::Listen { socket: socket.to_owned(), source })
    }
}
