//! `greenroom check`: what this engine really enforces, and whether a server could serve here.
//!
//! Runs one throw-away sandbox under a name and in a folder of its own, so that it can be asked beside a running server and touches
//! none of that server's sandboxes. Ends with 1 when something failed.

mod report;

use std::path::Path;

use anyhow::{Context as _, bail};
use clap::Args;

use self::report::Report;
use super::settings::SettingsArgs;
use crate::{
    app::Engine,
    config::Config,
    ids::Epoch,
    runtime::{BoxState, Runtime, RuntimeKind},
    sandbox::verdict::{self, Row, Verdict},
    telemetry::Metrics,
};

/// The label of checks' own containers.
const INSTANCE: &str = "check";

/// Arguments of `greenroom check`.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// Checks and prints.
pub(super) async fn run(args: CheckArgs) -> anyhow::Result<()> {
    let config = args.settings.load()?;
    let folder = Folder::make(&config.state.dir)?;
    let report = check(own(config, &folder.0)).await?;
    print!("{}", if args.json { report.json() } else { report.table() });
    let failed = report.failed();
    if failed > 0 {
        bail!("{failed} of {} checks failed", report.rows.len());
    }
    Ok(())
}

async fn check(config: Config) -> anyhow::Result<Report> {
    let engine = Engine::open(&config, &Metrics::default())?;
    let facts = engine.facts(&config).await?;
    clear_former(&*engine.runtime).await;
    let mut rows = images(&*engine.runtime, &config).await;
    let proven = engine.prove().await;
    engine.close().await;
    match proven {
        Ok(proven) => {
            rows.push(passed("supervisor", "calls back"));
            if proven.expected.kind == RuntimeKind::Docker {
                rows.push(passed("state folder", "the engine sees it under the same path"));
            }
            rows.extend(proven.verdicts());
        }
        Err(reason) => {
            rows.push(Row {
                about: "throw-away sandbox".to_owned(),
                asked: "starts and calls back".to_owned(),
                engine: reason.to_string(),
                inside: String::new(),
                verdict: Verdict::Failed,
            });
            rows.extend(verdict::notes(&facts));
        }
    }
    Ok(Report { engine: facts.version, rows })
}

async fn images(runtime: &dyn Runtime, config: &Config) -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, template) in &config.templates {
        let (engine, verdict) = match runtime.resolve_image(&template.image).await {
            Ok(id) => (id, Verdict::Ok),
            Err(error) => (error.to_string(), Verdict::Failed),
        };
        rows.push(Row {
            about: format!("image of {name}"),
            asked: template.image.clone(),
            engine,
            inside: String::new(),
            verdict,
        });
    }
    rows
}

fn passed(about: &str, inside: &str) -> Row {
    Row {
        about: about.to_owned(),
        asked: String::new(),
        engine: String::new(),
        inside: inside.to_owned(),
        verdict: Verdict::Ok,
    }
}

/// The settings with a name and a folder of our own: a server's sweep would take our sandbox for a stray of its own.
fn own(mut config: Config, folder: &Path) -> Config {
    folder.clone_into(&mut config.state.dir);
    config.runtime.instance = Some(INSTANCE.to_owned());
    config
}

/// Destroys what a killed check left behind. One that still runs may belong to a check beside us; it ends by itself.
async fn clear_former(runtime: &dyn Runtime) {
    if runtime.kind() == RuntimeKind::Process {
        return;
    }
    for found in runtime.list().await.unwrap_or_default().into_iter().filter(|found| found.state != BoxState::Running) {
        let _left_for_the_next_check = runtime.remove(&found.container).await;
    }
}

/// A state folder that goes when the check does. On the server's own file system: whether the engine sees that is a part of the check.
struct Folder(std::path::PathBuf);

impl Folder {
    fn make(state: &Path) -> anyhow::Result<Self> {
        let path = state.join(format!("check-{}", &Epoch::random().as_str()[..12]));
        std::fs::create_dir_all(&path).with_context(|| format!("state.dir: can't make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _left_behind = std::fs::remove_dir_all(&self.0);
    }
}
