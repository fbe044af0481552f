//! Settings read again while the app runs, asked for by SIGHUP or by an operator.

use std::sync::Arc;

use tokio::sync::Mutex;
use tracing::{info, warn};

use super::{
    budgets_of_tiers, capacity,
    engine::{compile, identified},
};
use crate::{
    config::{Changes, Config, ConfigError, reload::Reloader},
    gateway::Budgets,
    identity::Authenticator,
    pool::{Applied, Pools},
    problem::{Code, Problem},
    runtime::{Runtime, RuntimeError},
    sandbox::lifecycle::Recipe,
    telemetry::Metrics,
};

/// Why settings were not reloaded; those in effect stay so.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// They are faulty.
    #[error(transparent)]
    Faulty(#[from] ConfigError),
    /// A template can't be made a recipe of, or asks for an image that isn't there.
    #[error("{0}")]
    Template(String),
    /// A token can't be used.
    #[error("{0}")]
    Tokens(String),
    /// They were given by a program, which has to be asked.
    #[error("settings that came from no file can't be read again")]
    NoSource,
    /// The reading panicked or was cut short by the end of the program.
    #[error("the settings could not be read: {0}")]
    Unread(#[from] tokio::task::JoinError),
}

impl ReloadError {
    /// What an operator is told.
    pub(super) const fn code(&self) -> Code {
        match self {
            Self::Faulty(_) | Self::Template(_) | Self::Tokens(_) => Code::InvalidRequest,
            Self::NoSource => Code::Conflict,
            Self::Unread(_) => Code::Internal,
        }
    }
}

impl From<ReloadError> for Problem {
    fn from(error: ReloadError) -> Self {
        match error.code() {
            Code::Internal => Self::internal(error),
            code => Self::new(code, error.to_string()),
        }
    }
}

/// Reads settings again and puts them into effect.
pub(super) struct Reload {
    /// One at a time: held while the file is read and until what it says is in effect. None: there is nothing to read.
    pub(super) source: Mutex<Option<Reloader>>,
    /// What the app was built with, as the program completed it.
    pub(super) config: Arc<Config>,
    pub(super) authenticator: Arc<Authenticator>,
    pub(super) pools: Arc<Pools>,
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) metrics: Metrics,
    pub(super) budgets: Budgets,
    /// The memory of the engine's machine.
    pub(super) machine_bytes: Option<u64>,
}

impl Reload {
    /// Reads the settings again, applies what can be applied at once, and says what is different. Dropping the future leaves everything as
    /// it was, or as it is to be.
    ///
    /// # Errors
    /// [`ReloadError`]; nothing is applied.
    pub(super) async fn reload(&self) -> Result<Changes, ReloadError> {
        let mut source = self.source.lock().await;
        let reloader = source.as_mut().ok_or(ReloadError::NoSource)?;
        let reader = reloader.clone();
        let reread = tokio::task::spawn_blocking(move || reader.read()).await??;
        let mut changes = reread.changes.clone();
        let Config { templates, pool, auth, .. } = reread.config.clone();
        let config = Config { templates, pool, ..Config::clone(&self.config) };
        let recipes = compile(&config, &self.metrics).map_err(|error| ReloadError::Template(error.to_string()))?;
        let recipes = identified(&*self.runtime, recipes).await;
        self.check_images(&recipes, &changes).await?;

        // From here on there is no await.
        self.authenticator.replace_tokens(&auth).map_err(|error| ReloadError::Tokens(error.to_string()))?;
        let capacity = capacity::of(&config, self.machine_bytes);
        if config.pool.cap > self.config.pool.cap {
            warn!(
                before = self.config.pool.cap,
                now = config.pool.cap,
                "open files were shared out for fewer sandboxes: restart before users' connections and sandboxes need them all"
            );
        }
        self.budgets.replace(&reread.config.budget, &budgets_of_tiers(&reread.config));
        capacity::bound(&*self.runtime, capacity);
        capacity::warn_of_too_little(&config, capacity);
        let Applied { added, changed, removed } = self.pools.apply(recipes, &config.pool, capacity);
        let names = |templates: Vec<crate::ids::TemplateName>| templates.iter().map(ToString::to_string).collect();
        // An image that was built anew under its old name changes a template too.
        (changes.added, changes.changed, changes.removed) = (names(added), names(changed), names(removed));
        reloader.adopt(reread);
        info!(
            added = ?changes.added, changed = ?changes.changed, resized = ?changes.resized, permissions = ?changes.permissions, egress = ?changes.egress, removed = ?changes.removed,
            pool = ?changes.pool, auth = ?changes.auth, budgets = ?changes.budgets, "settings reloaded"
        );
        if !changes.restart_needed.is_empty() {
            warn!(settings = ?changes.restart_needed, "changed settings that stay without effect until a restart");
        }
        Ok(changes)
    }

    /// A template that is new or changed must have its image: else it would only fail, later and where nobody looks.
    async fn check_images(&self, recipes: &[Recipe], changes: &Changes) -> Result<(), ReloadError> {
        let new =
            |recipe: &&Recipe| changes.added.iter().chain(&changes.changed).any(|name| name == recipe.name.as_str());
        for recipe in recipes.iter().filter(new).filter(|recipe| recipe.image_id.is_none()) {
            if let Err(error @ RuntimeError::NoImage { .. }) = self.runtime.resolve_image(&recipe.template.image).await
            {
                return Err(ReloadError::Template(format!("templates.{}: {error}", recipe.name)));
            }
        }
        Ok(())
    }
}
