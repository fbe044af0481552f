//! What there is, and what is left of it.

use poem_openapi::Object;

use super::{Usage, budget::Budget, key::Scope};
use crate::service::view::{FileLimits, MeView, Readiness, TemplateView};

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

impl From<(usize, usize)> for Held {
    fn from((held, limit): (usize, usize)) -> Self {
        Self { held: held as u64, limit: limit as u64 }
    }
}

/// How large things may be, in bytes.
#[derive(Debug, Clone, Object)]
pub struct Sizes {
    /// A file that is written.
    pub file_bytes: u64,
    /// An archive, either way.
    pub archive_bytes: u64,
    /// A workspace on the disk.
    pub workspace_bytes: u64,
}

/// The caller, and what is left to them.
#[derive(Debug, Clone, Object)]
pub struct Me {
    /// Who the token names.
    pub user: String,
    /// What the token allows, also what its scopes include.
    pub scopes: Vec<Scope>,
    /// The tier the limits are of; null: the usual ones.
    pub tier: Option<String>,
    /// Sessions.
    pub sessions: Held,
    /// Event streams, and files and archives under way.
    pub streams: Held,
    /// Opening sessions.
    pub opens: Pace,
    /// Sending prompts.
    pub prompts: Pace,
    /// All other calls.
    pub reads: Pace,
    /// Sizes.
    pub sizes: Sizes,
    /// All tokens the caller ever used, over restarts too.
    pub usage: Usage,
    /// The caller's token budgets, by the hour and by the day of the clock (UTC), also those without a limit.
    pub budgets: Vec<Budget>,
}

impl From<MeView> for Me {
    fn from(me: MeView) -> Self {
        let FileLimits { file_bytes, archive_bytes, workspace_bytes, .. } = me.files;
        Self {
            user: me.user,
            scopes: me.scopes.into_iter().map(Into::into).collect(),
            tier: me.tier.map(String::from),
            sessions: me.sessions.into(),
            streams: me.streams.into(),
            opens: me.opens.into(),
            prompts: me.prompts.into(),
            reads: me.reads.into(),
            sizes: Sizes { file_bytes, archive_bytes, workspace_bytes },
            usage: me.usage.into(),
            budgets: me.budgets.into_iter().map(Into::into).collect(),
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
