//! What there is, and what is left of it.

use poem_openapi::Object;

use super::{Time, Usage};
use crate::service::view::{MeView, PoolFailure, PoolView, Readiness, TemplateView};

/// A recipe of sandboxes.
#[derive(Debug, Clone, Object)]
pub struct Template {
    /// Its name, for opening a session.
    pub name: String,
    /// How its agent talks: `acp` (the Agent Client Protocol) or `lines`.
    pub protocol: String,
    /// Whether it is the one that is taken when a request names none.
    pub default: bool,
}

impl From<TemplateView> for Template {
    fn from(template: TemplateView) -> Self {
        Self { name: template.name.to_string(), protocol: template.protocol.to_owned(), default: template.default }
    }
}

/// The templates.
#[derive(Debug, Clone, Object)]
pub struct TemplateList {
    /// The templates, by name.
    pub items: Vec<Template>,
}

/// Why a sandbox could not be made ready.
#[derive(Debug, Clone, Object)]
pub struct StartFailure {
    /// When.
    pub time: Time,
    /// In which phase: `create`, `start`, `link`, `initialize` or `session`.
    pub phase: String,
    /// A sentence for people.
    pub detail: String,
}

impl From<PoolFailure> for StartFailure {
    fn from(failure: PoolFailure) -> Self {
        Self { time: Time(failure.time), phase: failure.phase.to_owned(), detail: failure.detail }
    }
}

/// The sandboxes of one template.
#[derive(Debug, Clone, Object)]
pub struct Pool {
    /// The template.
    pub template: String,
    /// Ready and waiting.
    pub warm: u64,
    /// Being started.
    pub starting: u64,
    /// Leased.
    pub leased: u64,
    /// Being destroyed.
    pub ending: u64,
    /// Opens that wait for a sandbox.
    pub waiting: u64,
    /// Warm sandboxes it keeps.
    pub target: u64,
    /// Sandboxes in all, at most; shared by all pools.
    pub cap: u64,
    /// The share of opens that were served from stock at once, 0 to 1; null: there was none yet.
    #[oai(nullable)]
    pub hit_rate: Option<f64>,
    /// The last failures, newest first.
    pub last_failures: Vec<StartFailure>,
}

impl From<PoolView> for Pool {
    #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
    fn from(pool: PoolView) -> Self {
        Self {
            template: pool.template.to_string(),
            warm: pool.warm as u64,
            starting: pool.starting as u64,
            leased: pool.leased as u64,
            ending: pool.ending as u64,
            waiting: pool.waiting as u64,
            target: pool.target as u64,
            cap: pool.cap as u64,
            hit_rate: (pool.opens > 0).then(|| pool.hits as f64 / pool.opens as f64),
            last_failures: pool.last_failures.into_iter().map(Into::into).collect(),
        }
    }
}

/// The pools.
#[derive(Debug, Clone, Object)]
pub struct PoolList {
    /// The pools, by template.
    pub items: Vec<Pool>,
}

/// A limit on how many there may be at the same time.
#[derive(Debug, Clone, Object)]
pub struct Held {
    /// How many there are.
    pub held: u64,
    /// How many there may be.
    pub limit: u64,
}

/// A limit on how fast.
#[derive(Debug, Clone, Object)]
pub struct Pace {
    /// How many may be made at once now.
    pub remaining: u32,
    /// How many may be made in one burst.
    pub burst: u32,
}

impl From<(u32, u32)> for Pace {
    fn from((remaining, burst): (u32, u32)) -> Self {
        Self { remaining, burst }
    }
}

/// The caller, and what is left to them.
#[derive(Debug, Clone, Object)]
pub struct Me {
    /// Who the token names.
    pub user: String,
    /// Sessions.
    pub sessions: Held,
    /// Opening sessions.
    pub opens: Pace,
    /// Sending prompts.
    pub prompts: Pace,
    /// Tokens since the server started.
    pub usage: Usage,
}

impl From<MeView> for Me {
    fn from(me: MeView) -> Self {
        let (held, limit) = me.sessions;
        Self {
            user: me.user,
            sessions: Held { held: held as u64, limit: limit as u64 },
            opens: me.opens.into(),
            prompts: me.prompts.into(),
            usage: me.usage.into(),
        }
    }
}

/// Whether the server can serve.
#[derive(Debug, Clone, Object)]
pub struct Ready {
    /// All is well.
    pub ready: bool,
    /// What isn't, a sentence each.
    pub reasons: Vec<String>,
}

impl From<Readiness> for Ready {
    fn from(readiness: Readiness) -> Self {
        Self { ready: readiness.ready, reasons: readiness.reasons }
    }
}
