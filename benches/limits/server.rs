//! A server of ours in a process of its own. Its sandboxes are plain processes, and none is ever opened: what is measured is refused or answered
//! before anything of the kind.

use std::{net::SocketAddr, path::Path};

use anyhow::{Context as _, bail};
use serde_json::json;
use tempfile::TempDir;

use super::program::Program;

/// The token of the user who floods, and has the usual limits.
pub const FLOOD: &str = "a-token-of-the-user-who-floods";
/// The token of the neighbour, who has a tier that asks as often as is measured.
pub const NEIGHBOUR: &str = "a-token-of-the-neighbour-of-all";

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
        let (address, _) = program.wait_up().await?;
        Ok(Self { program, address, _state: state })
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
