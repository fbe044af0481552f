//! What there is, and what is left of it.

use poem_openapi::Object;

use super::{Usage, budget::Budget};
use crate::service::view::{MeView, Readiness, TemplateView};

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
    /// All tokens the caller ever used, over restarts too.
    pub usage: Usage,
    /// The caller's token budgets, by the hour and by the day of the clock (UTC), also those without a limit.
    pub budgets: Vec<Budget>,
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
