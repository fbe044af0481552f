//! Arguments that say where settings come from; shared by the commands that need them.

use std::{collections::BTreeMap, path::PathBuf};

use clap::Args;

use crate::config::{self, Config, ConfigError, Overrides, Sources};

/// Where settings come from. Global, so that they may also stand after the word that says what to do.
#[derive(Debug, Clone, Default, Args)]
pub struct SettingsArgs {
    /// The settings file (TOML). Without one, defaults and GREENROOM__SECTION__KEY variables count.
    #[arg(long, value_name = "FILE", env = "GREENROOM_CONFIG", global = true)]
    pub config: Option<PathBuf>,
    /// The state folder: slots, workspaces, keys [default: /var/lib/greenroom]
    #[arg(long, value_name = "DIR", global = true)]
    pub state_dir: Option<PathBuf>,
}

impl SettingsArgs {
    /// Reads the settings without further flags.
    ///
    /// # Errors
    /// All faults of the settings.
    pub fn load(self) -> Result<Config, ConfigError> {
        config::load(&self.sources())
    }

    /// The sources these arguments name.
    #[must_use]
    pub fn sources(self) -> Sources {
        let overrides = Overrides { state_dir: self.state_dir, ..Overrides::default() };
        Sources { presets: Vec::new(), file: self.config, env: environment(), overrides }
    }
}

/// The environment, without what isn't UTF-8: none of our variables can be that.
#[must_use]
pub fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
