//! Settings read again while the server runs: what is different, what of it applies at once, and what needs a restart.
//!
//! At once apply all of `[templates]`, all of `[pool]` but `pool.sweep`, `auth.tokens`, and all budgets. The sources are those of the start: the file is read anew,
//! variables and flags are as they were and win over it. Nothing is applied here: the pools do that. Only names are told, never values.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Auth, Config, ConfigError, Pool, Sources, Tier, load};

/// What is different, as names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Templates that are new.
    pub added: Vec<String>,
    /// Templates whose sandboxes are made differently now: what is in stock is of the old kind.
    pub changed: Vec<String>,
    /// Templates that are only kept warm in other numbers, of their own or by `pool.size`.
    pub resized: Vec<String>,
    /// Templates whose permissions are different: for sessions that open from now on.
    pub permissions: Vec<String>,
    /// Templates whose agents' tools may reach other hosts: for open sessions too.
    pub egress: Vec<String>,
    /// Templates that are gone.
    pub removed: Vec<String>,
    /// Keys of `[pool]` that apply at once.
    pub pool: Vec<String>,
    /// Keys of `[auth]` that apply at once.
    pub auth: Vec<String>,
    /// Keys of `[budget]`, and of tiers' budgets: for all sessions from their next model call on.
    pub budgets: Vec<String>,
    /// Keys that are different from what the server was started with, and stay without effect until it is restarted.
    pub restart_needed: Vec<String>,
}

impl Changes {
    /// Compares settings in effect with settings that were read later.
    #[must_use]
    pub fn between(running: &Config, read: &Config) -> Self {
        let after = adopted(running, read);
        let (pool, others) = differences(running, &after).into_iter().partition(|key| key.starts_with("pool."));
        let (auth, budgets) = Vec::into_iter(others).partition(|key: &String| key.starts_with("auth."));
        let mut changes = Self { pool, auth, budgets, restart_needed: differences(&after, read), ..Self::default() };
        for (name, old) in &running.templates {
            if read.templates.get(name).is_some_and(|new| new.permissions != old.permissions) {
                changes.permissions.push(name.clone());
            }
            if read.templates.get(name).is_some_and(|new| new.egress != old.egress) {
                changes.egress.push(name.clone());
            }
            match read.templates.get(name) {
                None => changes.removed.push(name.clone()),
                Some(new) if !old.same_recipe(new) => changes.changed.push(name.clone()),
                Some(new) => {
                    let before = (old.min_warm(&running.pool), old.max_warm(&running.pool));
                    if before != (new.min_warm(&read.pool), new.max_warm(&read.pool)) {
                        changes.resized.push(name.clone());
                    }
                }
            }
        }
        changes.added = read.templates.keys().filter(|name| !running.templates.contains_key(*name)).cloned().collect();
        changes
    }

    /// Whether nothing is different.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Settings that were read again and are good, but not in effect yet.
#[derive(Debug, Clone)]
pub struct Reread {
    /// The settings in effect, with `templates`, `pool`, `auth.tokens` and budgets as they were read now.
    pub config: Config,
    /// What that changes.
    pub changes: Changes,
}

/// Where settings are read again, and which ones are in effect.
#[derive(Debug, Clone)]
pub struct Reloader {
    sources: Sources,
    running: Config,
}

impl Reloader {
    /// Reads the settings for the first time.
    ///
    /// # Errors
    /// All faults of the settings.
    pub fn load(sources: Sources) -> Result<Self, ConfigError> {
        let running = load(&sources)?;
        Ok(Self { sources, running })
    }

    /// The settings in effect, as they were read: not as the program completed them.
    #[must_use]
    pub const fn running(&self) -> &Config {
        &self.running
    }

    /// Reads the settings again. Reads a file: not for a thread that serves others.
    ///
    /// # Errors
    /// All faults of the settings; those in effect stay so.
    pub fn read(&self) -> Result<Reread, ConfigError> {
        let read = load(&self.sources)?;
        Ok(Reread { config: adopted(&self.running, &read), changes: Changes::between(&self.running, &read) })
    }

    /// What was read is in effect now.
    pub fn adopt(&mut self, reread: Reread) {
        self.running = reread.config;
    }
}

/// What is in effect after a reload: only what applies at once is taken over.
fn adopted(running: &Config, read: &Config) -> Config {
    // The sweep's clock is set at the start.
    let pool = Pool { sweep: running.pool.sweep, ..read.pool.clone() };
    let auth = Auth { tokens: read.auth.tokens.clone(), ..running.auth.clone() };
    let tiers = running.tiers.keys().chain(read.tiers.keys()).map(|name| {
        let limits = running.tiers.get(name).map(|tier| tier.limits.clone()).unwrap_or_default();
        let budget = read.tiers.get(name).map_or_else(|| read.budget.clone(), |tier| tier.budget.clone());
        (name.clone(), Tier { limits, budget })
    });
    Config {
        auth,
        pool,
        templates: read.templates.clone(),
        budget: read.budget.clone(),
        tiers: tiers.collect(),
        ..running.clone()
    }
}

/// The keys of settings that aren't equal, but for templates, which are compared by name.
fn differences(one: &Config, other: &Config) -> Vec<String> {
    let (one, other) = (settings(one), settings(other));
    one.into_iter().filter(|(key, value)| other.get(key) != Some(value)).map(|(key, _)| key).collect()
}

/// Every setting by its key, secrets as digests. Lists count as one setting.
fn settings(config: &Config) -> BTreeMap<String, Value> {
    fn collect(key: String, value: Value, found: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(section) => {
                for (name, value) in section {
                    collect(if key.is_empty() { name } else { format!("{key}.{name}") }, value, found);
                }
            }
            value => drop(found.insert(key, value)),
        }
    }
    let rest = Config { templates: BTreeMap::new(), ..config.clone() };
    let tree = serde_json::to_value(rest).expect("settings are texts, numbers and switches, and paths are UTF-8");
    let mut found = BTreeMap::new();
    collect(String::new(), tree, &mut found);
    found
}

#[cfg(test)]
mod tests;
