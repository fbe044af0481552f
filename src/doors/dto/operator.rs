//! What only operators see and say: sandboxes, sizes of pools, what a reload changed.

use poem_openapi::{Enum, Object, types::Example};

use crate::{
    config::Changes,
    service::view::{self, SandboxState, SandboxView},
};

/// How many warm sandboxes to keep. What is left out stays as it is.
#[derive(Debug, Clone, Default, Object)]
#[oai(deny_unknown_fields, example)]
pub struct ResizePool {
    /// However few are asked for.
    pub min_warm: Option<u32>,
    /// However many are asked for. Not less than `min_warm`; the same: the stock's size is fixed; both 0: every open is cold.
    pub max_warm: Option<u32>,
}

impl Example for ResizePool {
    fn example() -> Self {
        Self { min_warm: Some(2), max_warm: Some(6) }
    }
}

impl From<ResizePool> for view::ResizePool {
    fn from(asked: ResizePool) -> Self {
        let count = |count: Option<u32>| count.map(|count| usize::try_from(count).unwrap_or(usize::MAX));
        Self { min: count(asked.min_warm), max: count(asked.max_warm) }
    }
}

/// What a sandbox is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "SandboxState", rename_all = "snake_case")]
pub enum State {
    /// Being made; its agent boots.
    Starting,
    /// In stock, its agent waits for a prompt.
    Ready,
    /// A session's.
    Leased,
    /// Being destroyed.
    Ending,
}

impl From<SandboxState> for State {
    fn from(state: SandboxState) -> Self {
        match state {
            SandboxState::Starting => Self::Starting,
            SandboxState::Ready => Self::Ready,
            SandboxState::Leased => Self::Leased,
            SandboxState::Ending => Self::Ending,
        }
    }
}

/// One container and the agent in it.
#[derive(Debug, Clone, Object)]
pub struct Sandbox {
    /// Its id; its folder below `slots/` has the same name.
    pub id: String,
    /// What it was made from.
    pub template: String,
    /// What it is doing.
    pub state: State,
    /// Seconds since its start began.
    pub age_s: u64,
    /// Whether it was made before its template changed.
    pub stale: bool,
    /// The memory it used when it was last looked at, in bytes; null: it wasn't yet.
    #[oai(nullable)]
    pub memory_bytes: Option<u64>,
}

impl From<SandboxView> for Sandbox {
    fn from(sandbox: SandboxView) -> Self {
        let SandboxView { id, template, state, age, stale, memory_bytes } = sandbox;
        let (id, template) = (id.to_string(), template.to_string());
        Self { id, template, state: state.into(), age_s: age.as_secs(), stale, memory_bytes }
    }
}

/// The sandboxes.
#[derive(Debug, Clone, Object)]
pub struct SandboxList {
    /// The sandboxes, oldest first.
    pub items: Vec<Sandbox>,
}

/// What is different after the settings were read again.
#[derive(Debug, Clone, Object)]
pub struct Reloaded {
    /// Templates that are new.
    pub added: Vec<String>,
    /// Templates whose sandboxes are made differently now: their stock is replaced, a fresh one for each old one.
    pub changed: Vec<String>,
    /// Templates that are only kept warm in other numbers.
    pub resized: Vec<String>,
    /// Templates whose permissions are different, for sessions that open from now on.
    pub permissions: Vec<String>,
    /// Templates whose agents' tools may reach other hosts, for open sessions too.
    pub egress: Vec<String>,
    /// Templates that are gone: their stock goes, their sessions go on.
    pub removed: Vec<String>,
    /// Settings of `pool` that apply at once.
    pub pool: Vec<String>,
    /// Settings of `auth` that apply at once: what was opened with a token that is gone ends.
    pub auth: Vec<String>,
    /// Settings of budgets that are different: for all sessions from their next model call on.
    pub budgets: Vec<String>,
    /// Settings that changed and stay without effect until a restart.
    pub restart_needed: Vec<String>,
}

impl From<Changes> for Reloaded {
    fn from(changes: Changes) -> Self {
        let Changes { added, changed, resized, permissions, egress, removed, pool, auth, budgets, restart_needed } =
            changes;
        Self { added, changed, resized, permissions, egress, removed, pool, auth, budgets, restart_needed }
    }
}
