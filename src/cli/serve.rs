//! `greenroom serve`: settings, telemetry, the app, signals.
//!
//! The first SIGTERM hands sessions and warm agents over to the next run of the server, or ends them with `--drain`; the first SIGINT ends them.
//! Both let the app finish what is under way, within its deadlines; the second ends the process at once (what it leaves on the engine is taken
//! up or destroyed at the next start). SIGHUP reads the settings again, but under `--dev`: there it means that the
//! terminal is gone, and stops the app.

mod dev;
mod signals;

use std::{collections::BTreeMap, path::PathBuf};

use clap::Args;
use tokio::pin;

use self::signals::Signals;
use super::{
    block_on, core_dumps,
    settings::{SettingsArgs, environment},
};
use crate::{
    app::{App, Extras},
    config::{Overrides, Reloader, Sources},
    telemetry::{self, Metrics},
};

/// Arguments of `greenroom serve`.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The port to listen on [default: 8080]
    #[arg(long)]
    port: Option<u16>,
    /// The image of the template `gemini` [default: greenroom/gemini:latest] [env: GEMINI_IMAGE]
    #[arg(long)]
    image: Option<String>,
    /// Warm sandboxes to keep [default: 4] [env: POOL_SIZE]
    #[arg(long, value_name = "COUNT")]
    pool_size: Option<usize>,
    /// For trying out: a token for this run, a model stub when there is no key, logs for people, a state folder of your own.
    #[arg(long)]
    dev: bool,
    /// End all sessions at SIGTERM too, instead of leaving them to the next run of the server
    #[arg(long)]
    drain: bool,
}

/// Serves until told to stop.
pub(super) fn run(args: ServeArgs) -> anyhow::Result<()> {
    core_dumps::forbid()?;
    let env = environment();
    let (dev, drain) = (args.dev, args.drain);
    let settings = Reloader::load(args.sources(env.clone()))?;
    block_on(serve(settings, env, dev, drain))
}

impl ServeArgs {
    fn sources(self, env: BTreeMap<String, String>) -> Sources {
        let presets = if self.dev { dev::presets(&env) } else { Vec::new() };
        let overrides = Overrides {
            port: self.port,
            image: self.image,
            pool_size: self.pool_size,
            state_dir: self.settings.state_dir,
        };
        Sources { presets, file: self.settings.config, env, overrides }
    }
}

async fn serve(settings: Reloader, env: BTreeMap<String, String>, dev: bool, drain: bool) -> anyhow::Result<()> {
    let mut config = settings.running().clone();
    let telemetry = telemetry::init(&config.telemetry, &env)?;
    let result = async {
        let mut signals = signals::listen(dev, drain || dev)?;
        let dev = if dev { Some(dev::Dev::prepare(&mut config).await?) } else { None };
        let extras = Extras { dev_token: dev.as_ref().map(dev::Dev::token), settings: Some(settings) };
        let app = App::build(config, Metrics::default(), extras).await?;

        let serving = app.run(signals.stop());
        pin!(serving);
        let result = match &dev {
            None => tokio::select! {
                result = &mut serving => result,
                () = reload_on(&mut signals, &app) => serving.await,
            },
            Some(dev) => tokio::select! {
                result = &mut serving => result,
                () = dev.invite(&app) => serving.await,
            },
        };
        if let Some(dev) = dev {
            dev.end().await;
        }
        result.map_err(anyhow::Error::from)
    }
    .await;
    telemetry.shutdown().await;
    result
}

/// Reads the settings again at each SIGHUP. What comes of it is in the log: nobody waits for an answer.
async fn reload_on(signals: &mut Signals, app: &App) {
    while signals.hung_up().await {
        if let Err(error) = app.reload().await {
            tracing::error!(%error, "settings are not reloaded; those in effect stay so");
        }
    }
}

/// The state folder of somebody who tries it out.
fn own_state_folder(env: &BTreeMap<String, String>) -> Option<PathBuf> {
    let set = |name: &str| env.get(name).filter(|value| value.starts_with('/')).map(PathBuf::from);
    set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state"))).map(|folder| folder.join("greenroom"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, LogFormat};

    fn load(sources: Sources) -> Config {
        crate::config::load(&sources).expect("good settings")
    }

    fn args(dev: bool) -> ServeArgs {
        let settings = SettingsArgs { config: None, state_dir: None };
        ServeArgs { settings, port: Some(1), image: None, pool_size: Some(2), dev, drain: false }
    }

    fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn trying_out_uses_a_state_folder_of_ones_own_and_logs_for_people() {
        let config = load(args(true).sources(env(&[("HOME", "/home/ada")])));
        assert_eq!(config.state.dir, PathBuf::from("/home/ada/.local/state/greenroom"));
        assert_eq!(config.telemetry.format, LogFormat::Text);
        assert_eq!((config.server.address.port(), config.pool.size), (1, 2));
        let xdg = env(&[("HOME", "/home/ada"), ("XDG_STATE_HOME", "/s"), ("GREENROOM__TELEMETRY__FORMAT", "json")]);
        let config = load(args(true).sources(xdg));
        assert_eq!(config.state.dir, PathBuf::from("/s/greenroom"));
        assert_eq!(config.telemetry.format, LogFormat::Json);
    }

    #[test]
    fn a_server_to_keep_has_none_of_it() {
        let config = load(args(false).sources(env(&[("HOME", "/home/ada")])));
        assert_eq!(config.state.dir, PathBuf::from("/var/lib/greenroom"));
        assert_eq!(config.telemetry.format, LogFormat::Json);
    }
}
