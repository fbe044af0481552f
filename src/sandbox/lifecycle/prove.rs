//! The start-up proof: one throw-away sandbox that shows that engine, mounts and link work as we assume.
//!
//! Its agent is the supervisor itself in `probe` mode, which looks around and says what it sees. Used before serving and by
//! `greenroom check`.

use std::time::Duration;

use tokio::time::timeout;

use super::{Recipe, StartFailure, Starter};
use crate::{
    ids::SlotId,
    runtime::{EngineFacts, RuntimeError, RuntimeKind},
    sandbox::{
        census::Entry,
        pipes::{FromAgent, Stream},
        spec::inside,
    },
    supervisor::probe::ProbeReport,
};

/// Deadline for the report, from the first call of the supervisor.
const REPORT_DEADLINE: Duration = Duration::from_secs(10);
/// A longer report is none.
const REPORT_MAX: usize = 256 * 1024;

/// What the throw-away sandbox showed.
#[derive(Debug)]
pub struct Proof {
    /// Who the engine is.
    pub engine: EngineFacts,
    /// Where what the engine applied differs from what was asked.
    pub differences: Vec<String>,
    /// What the probe saw from inside.
    pub report: ProbeReport,
}

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// The engine's trouble.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The sandbox could not be started or its supervisor didn't call.
    #[error(transparent)]
    Start(#[from] StartFailure),
    /// The probe said nothing we understand.
    #[error("the probe in the sandbox gave no report: {0}")]
    NoReport(String),
}

impl Starter {
    /// Starts a throw-away sandbox of this recipe and lets it report.
    ///
    /// # Errors
    /// What in the way of a sandbox doesn't work here.
    pub async fn prove(&self, recipe: &Recipe, slot: &SlotId, entry: Entry) -> Result<Proof, ProofError> {
        let engine = self.runtime.engine().await?;
        let program = match self.runtime.kind() {
            RuntimeKind::Docker => inside::SUPERVISOR.to_owned(),
            RuntimeKind::Process => self.supervisor().display().to_string(),
        };
        let command = vec![program, "probe".to_owned()];
        let mut linked = self.link_up(recipe, slot, entry, command).await?;
        let mut text = Vec::new();
        let reading = async {
            while let Some(said) = linked.pipes.output.recv().await {
                match said {
                    FromAgent::Chunk { bytes, stream: Stream::Stdout, .. } => text.extend_from_slice(&bytes),
                    FromAgent::Chunk { .. } => {}
                    FromAgent::Exited(exit) => return Err(ProofError::NoReport(format!("it ended with {exit:?}"))),
                    FromAgent::Lost(why) | FromAgent::Condemned(why) => return Err(ProofError::NoReport(why)),
                }
                if text.contains(&b'\n') || text.len() > REPORT_MAX {
                    break;
                }
            }
            serde_json::from_slice(&text).map_err(|error| ProofError::NoReport(error.to_string()))
        };
        let report = timeout(REPORT_DEADLINE, reading)
            .await
            .unwrap_or_else(|_| Err(ProofError::NoReport(format!("nothing within {} s", REPORT_DEADLINE.as_secs()))))?;
        let container = linked.remains.container().cloned().expect("a linked sandbox has a container");
        let differences = self.runtime.verify(&container, &linked.spec).await?;
        Ok(Proof { engine, differences, report })
    }
}
