//! A server of ours in a process of its own. Its sandboxes are plain processes, and none is ever opened: what is measured is refused or answered
//! before anything of the kind.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context as _, bail};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::Instant;

use super::program::Program;

/// The token of the user who floods, and has the usual limits.
pub const FLOOD: &str = "a-token-of-the-user-who-floods";
/// The token of the neighbour, who has a tier that asks as often as is measured.
pub const NEIGHBOUR: &str = "a-token-of-the-neighbour-of-all";

/// The proof at start.
const UP: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(50);

/// A server that runs.
pub struct Server {
    pub program: Program,
    pub address: SocketAddr,
    _state: TempDir,
}

impl Server {
    /// Starts one and waits until it serves.
    pub async fn start(program: &Path, target: &Path, folder: &Path) -> anyhow::Result<Self> {
        let state =
            tempfile::Builder::new().prefix("gr-").tempdir_in("/var/tmp").context("can't make a state folder")?;
        let supervisor = target.join("supervisor/greenroom-supervisor");
        if !supervisor.is_file() {
            bail!("{} is missing; build it with `make supervisor`", supervisor.display());
        }
        let file = state.path().join("settings.toml");
        let text = |path: &Path| json!(path.to_string_lossy()).to_string();
        let settings = format!(
            "server.address = \"127.0.0.1:0\"\nadmin.address = \"127.0.0.1:0\"\nstate.dir = {}\nruntime.kind = \"process\"\n\
             sandbox.supervisor = {}\npool.size = 0\n\
             auth.tokens = [{{ user = \"flood\", token = \"{FLOOD}\" }}, {{ user = \"neighbour\", token = \"{NEIGHBOUR}\", tier = \"busy\" }}]\n\
             [tiers.busy.limits]\nreads_per_minute = 6000000\nreads_burst = 1000000\n\
             [templates.shell]\nimage = \"none\"\nprotocol = \"lines\"\ncommand = [\"sh\", \"-c\", \"cat\"]\n",
            text(state.path()),
            text(&supervisor),
        );
        std::fs::write(&file, settings).context("can't write the settings")?;
        let path = file.to_str().context("the state folder's path isn't UTF-8")?;
        let mut program = Program::start("limits", program, &["serve", "--drain", "--config", path], folder)?;
        let begun = Instant::now();
        loop {
            if let Some((address, _)) = program.addresses() {
                return Ok(Self { program, address, _state: state });
            }
            if let Some(status) = program.ended() {
                tokio::time::sleep(POLL).await;
                bail!(program.failure(&format!("ended with {status}")));
            }
            if begun.elapsed() > UP {
                bail!(program.failure("does not serve"));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// What it has in memory, in bytes.
    pub fn resident(&self) -> anyhow::Result<u64> {
        resident(&self.program.pid().context("the server has ended")?.to_string())
    }

    pub async fn stop(self) -> anyhow::Result<()> {
        self.program.stop().await
    }
}

/// The resident set of a process, in bytes.
pub fn resident(process: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).context("there is no such process")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no resident set")?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().context("no number")?;
    Ok(kibibytes * 1024)
}
