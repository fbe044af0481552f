//! A server of ours in a process of its own, with a state folder and a name of its own.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use greenroom::{
    config,
    runtime::{Runtime as _, docker::Docker},
};
use serde_json::json;
use tempfile::TempDir;

use super::{
    client::{Client, Pool},
    program::Program,
};

/// For a warm server's stock.
const UP: Duration = Duration::from_secs(60);
/// Where state folders are made.
const STATES: &str = "/var/tmp";
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(50);
/// Whom the benchmarks speak for.
pub const TOKEN: &str = "a-token-for-the-benchmark";

/// What is particular to a server.
#[derive(Debug)]
pub struct Plan {
    /// Names it in messages, its log's file and on the engine.
    pub name: &'static str,
    /// Settings beside those that all have, as TOML.
    pub settings: String,
}

/// What every server needs that is there already.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The server's program.
    pub program: &'a Path,
    /// The model.
    pub stub: &'a Program,
    /// Cargo's target folder.
    pub target: &'a Path,
    /// Where logs and results go.
    pub folder: &'a Path,
}

/// A server that runs.
pub struct Server {
    pub program: Program,
    /// A user's way in.
    pub client: Client,
    /// An operator's.
    pub operator: Client,
    /// Its name on the engine.
    pub instance: String,
    _state: TempDir,
}

impl Server {
    /// Starts one and waits until it serves and its stock is full.
    pub async fn start(plan: Plan, context: Context<'_>) -> anyhow::Result<Self> {
        let Context { program, stub, target, folder } = context;
        // On a disk, not in a tmpfs, and with a short name: socket paths may have 107 bytes.
        let state = tempfile::Builder::new().prefix("gr-").tempdir_in(STATES).context("can't make a state folder")?;
        let instance = format!("bench-{}-{}", plan.name, std::process::id());
        let file = state.path().join("settings.toml");
        let settings = Settings { instance: &instance, plan: &plan.settings, state: state.path() };
        std::fs::write(&file, settings.to_toml(&supervisor(target)?, address_of(stub)?))
            .context("can't write the settings")?;

        eprintln!("starting {} …", plan.name);
        let begun = Instant::now();
        let path = file.to_str().context("the state folder's path isn't UTF-8")?;
        let mut program = Program::start(plan.name, program, &["serve", "--drain", "--config", path], folder)?;
        let (users, operators) = match program.wait_up().await {
            Ok(addresses) => addresses,
            Err(error) => {
                // What it died of says more than what follows from that.
                let _a_consequence = end(program, &instance).await;
                return Err(error);
            }
        };
        let (client, operator) = (Client::new(users, TOKEN)?, Client::new(operators, TOKEN)?);
        let server = Self { program, client, operator, instance, _state: state };
        if let Err(error) = server.wait_full().await {
            let _a_consequence = server.stop().await;
            return Err(error);
        }
        eprintln!("{} is up, its stock full ({:.1} s)", plan.name, begun.elapsed().as_secs_f64());
        Ok(server)
    }

    /// Waits until all stock is there and nothing is being started, used or destroyed.
    pub async fn wait_full(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let pools = self.client.pools().await?;
            let rests = |pool: &Pool| pool.warm == pool.target && pool.starting + pool.leased + pool.ending == 0;
            if pools.iter().all(rests) {
                return Ok(());
            }
            if begun.elapsed() > UP {
                let told = serde_json::to_string(&pools)?;
                bail!(self.program.failure(&format!("has no full stock: {told}")));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Start to ready of every sandbox so far, in milliseconds.
    pub fn ready_times(&self) -> Vec<f64> {
        self.program.ready_times()
    }

    /// The mean time of each phase of a start, in milliseconds; empty if the server doesn't tell.
    pub async fn start_phases(&self) -> BTreeMap<String, f64> {
        self.operator.text("/metrics").await.map(|text| phase_means(&text)).unwrap_or_default()
    }

    /// Which engine it works with.
    pub async fn engine(&self) -> anyhow::Result<String> {
        Ok(docker(&self.instance)?.engine().await?.version)
    }

    /// Stops it in order; it's an error if anything is left on the engine, which is then destroyed.
    pub async fn stop(self) -> anyhow::Result<()> {
        end(self.program, &self.instance).await
    }
}

async fn end(program: Program, instance: &str) -> anyhow::Result<()> {
    let stopped = program.stop().await;
    let docker = docker(instance)?;
    let left = docker.list().await.context("can't ask the engine what is left")?;
    for found in &left {
        docker.remove(&found.container).await.context("can't destroy what is left")?;
    }
    stopped?;
    if left.is_empty() { Ok(()) } else { bail!("{} containers of {instance} were left", left.len()) }
}

/// The engine, as this instance sees it.
fn docker(instance: &str) -> anyhow::Result<Docker> {
    let settings = config::Runtime { host: env::var("DOCKER_HOST").ok(), ..config::Runtime::default() };
    Ok(Docker::connect(&settings, instance.to_owned())?)
}

/// What a server of ours needs to be told.
struct Settings<'a> {
    instance: &'a str,
    plan: &'a str,
    state: &'a Path,
}

impl Settings<'_> {
    fn to_toml(&self, supervisor: &Path, stub: &str) -> String {
        let Self { instance, plan, state } = self;
        // A JSON string is a TOML string.
        let text = |path: &Path| json!(path.to_string_lossy()).to_string();
        let (state, supervisor) = (text(state), text(supervisor));
        format!(
            "server.address = \"127.0.0.1:0\"\n\
             admin.address = \"127.0.0.1:0\"\n\
             state.dir = {state}\n\
             runtime.instance = \"{instance}\"\n\
             sandbox.supervisor = {supervisor}\n\
             # Should the benchmark be killed, its sandboxes end soon.\n\
             sandbox.orphan_grace = \"10s\"\n\
             auth.tokens = [{{ user = \"bench\", token = \"{TOKEN}\" }}]\n\
             limits = {{ opens_per_minute = 60000, opens_burst = 10000, prompts_per_minute = 60000, prompts_burst = 10000, reads_per_minute = 6000000, reads_burst = 1000000, sessions = 1000, streams = 1000, waiting = 1000 }}\n\
             model = {{ base_url = \"{stub}\", api_key = \"the-stub-needs-no-key\" }}\n\
             {plan}\n"
        )
    }
}

/// The static supervisor: as for the server itself, or where the build puts it.
fn supervisor(target: &Path) -> anyhow::Result<PathBuf> {
    let set = env::var_os("GREENROOM__SANDBOX__SUPERVISOR").filter(|path: &OsString| !path.is_empty());
    let path = set.map_or_else(|| target.join("supervisor/greenroom-supervisor"), PathBuf::from);
    path.canonicalize().with_context(|| format!("{} is missing; build it with `make supervisor`", path.display()))
}

fn address_of(stub: &Program) -> anyhow::Result<&str> {
    stub.greeting.split_whitespace().last().context("the stub doesn't say where it listens")
}

/// Mean milliseconds per phase: the histogram's sum over its count, exact for a mean.
fn phase_means(metrics: &str) -> BTreeMap<String, f64> {
    const NAME: &str = "greenroom_sandbox_start_duration_seconds";
    let of = |kind: &str| -> BTreeMap<String, f64> {
        metrics
            .lines()
            .filter_map(|line| {
                let (series, value) = line.strip_prefix(NAME)?.strip_prefix(kind)?.rsplit_once(' ')?;
                let (_, phase) = series.split_once("phase=\"")?;
                Some((phase.split_once('"')?.0.to_owned(), value.parse().ok()?))
            })
            .collect()
    };
    let counts = of("_count");
    of("_sum")
        .into_iter()
        .filter_map(|(phase, sum)| {
            let count = *counts.get(&phase).filter(|count| **count > 0.0)?;
            Some((phase, (sum / count * 1e4).round() / 10.0))
        })
        .collect()
}
