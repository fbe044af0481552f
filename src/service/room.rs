//! Room on the disk: what becomes of a workspace that takes more of it than its user may.
//!
//! | who | what then |
//! |---|---|
//! | its user writes a file or unpacks an archive | refused as soon as there is no more room: `PAYLOAD_TOO_LARGE`. Counted byte by byte |
//! | its agent writes during a turn | the workspace is weighed every [`ROUND`]; one that is too heavy ends its turn, which fails with `RESOURCE_LIMIT` |
//! | its user begins a turn | refused while it is too heavy: `RESOURCE_LIMIT` |
//! | its user opens it, reads it, takes files out or away | always: or else nobody could make it lighter |
//!
//! Weighing goes on behind calls, [`WEIGHINGS`] workspaces at a time. A call waits for it only where nothing is known yet, or where it would be refused for what
//! may not be so any more, and only for a moment: a turn too many is better than a disk that is too slow for everybody.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Semaphore,
    time::{MissedTickBehavior, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::Service;
use crate::{
    identity::Caller,
    problem::{Code, Problem},
    session::{Command, SessionHandle, policy::Refusal},
    workspace::{Charge, LiveWorkspace, Used},
};

/// Workspaces that are weighed at the same time.
const WEIGHINGS: usize = 2;
/// How often those are weighed whose agents are at work.
const ROUND: Duration = Duration::from_secs(10);
/// How long it is believed that a workspace is light enough.
const BELIEVED: Duration = Duration::from_secs(30);
/// How long it is believed that it is too heavy, unless something was removed.
const HELD_AGAINST: Duration = Duration::from_secs(2);
/// How long a call waits for the first weighing.
const FIRST_PATIENCE: Duration = Duration::from_secs(1);
/// How long it waits rather than be refused for what may not be so any more.
const PATIENCE: Duration = Duration::from_secs(10);

/// Weighs workspaces.
#[derive(Debug, Clone)]
pub(super) struct Scales(Arc<Semaphore>);

impl Default for Scales {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(WEIGHINGS)))
    }
}

impl Service {
    /// Whether a turn may begin: there is still room for what its agent writes.
    ///
    /// # Errors
    /// `RESOURCE_LIMIT`.
    pub(super) async fn check_room(&self, caller: &Caller, session: &SessionHandle) -> Result<(), Problem> {
        // Without it the session is over, and says so itself.
        let Some(workspace) = self.workspaces.live(&session.whose(), &session.identity.workspace) else {
            return Ok(());
        };
        let limit = self.allowance(caller).files().workspace_bytes;
        workspace.may_take(limit);
        if let Some(used) = self.used(&workspace, limit).await.filter(|used| used.exceeds(limit)) {
            return Err(Problem::new(Code::ResourceLimit, too_heavy(used, limit)));
        }
        workspace.has_changed();
        Ok(())
    }

    /// Counts what is going to be written to a workspace. `announced`: how many bytes will come, as far as is known.
    ///
    /// # Errors
    /// `PAYLOAD_TOO_LARGE`: there is no room for it.
    pub(super) async fn charge(
        &self,
        caller: &Caller,
        workspace: &LiveWorkspace,
        announced: Option<u64>,
    ) -> Result<Charge, Problem> {
        let limit = self.allowance(caller).files().workspace_bytes;
        workspace.may_take(limit);
        let left = limit.saturating_sub(announced.unwrap_or(0));
        if workspace.used().is_some_and(|used| used.outdated) {
            self.weighed(workspace, FIRST_PATIENCE).await;
        }
        match self.used(workspace, left).await {
            Some(used) if used.exceeds(left) => Err(Problem::new(Code::PayloadTooLarge, too_heavy(used, limit))),
            _ => Ok(workspace.charge(limit)),
        }
    }

    /// What a workspace takes, as exactly as a call with this limit has to know it. None: it could not be found out in time.
    pub(super) async fn used(&self, workspace: &LiveWorkspace, limit: u64) -> Option<Used> {
        match workspace.used() {
            None => self.weighed(workspace, FIRST_PATIENCE).await,
            Some(used) if used.exceeds(limit) && (used.outdated || used.age > HELD_AGAINST) => {
                self.weighed(workspace, PATIENCE).await
            }
            Some(used) => {
                if used.age > BELIEVED {
                    self.weigh_soon(workspace);
                }
                Some(used)
            }
        }
    }

    /// Weighs the workspaces whose agents are at work, again and again, until the token is cancelled; a turn that makes its workspace too heavy ends.
    pub async fn watch_room(self: Arc<Self>, token: CancellationToken) {
        let mut ticks = tokio::time::interval(ROUND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while token.run_until_cancelled(ticks.tick()).await.is_some() {
            for session in self.around.registry.live() {
                if token.run_until_cancelled(self.watch_one(&session)).await.is_none() {
                    return;
                }
            }
        }
    }

    async fn watch_one(&self, session: &SessionHandle) {
        let Some(turn) = session.with_status(|status| status.running().map(|turn| turn.id.clone())) else { return };
        let Some(workspace) = self.workspaces.live(&session.whose(), &session.identity.workspace) else { return };
        // After a restart it is known again when its user comes.
        let Some(limit) = workspace.limit() else { return };
        let Some(used) = self.weighed(&workspace, PATIENCE).await.filter(|used| used.exceeds(limit)) else { return };
        let why = too_heavy(used, limit);
        let ended: Result<(), Refusal> = session.ask(|reply| Command::Overrun { turn, why, reply }).await;
        if ended.is_ok() {
            info!(session.id = %session.id, bytes = used.bytes, limit, "a workspace became too large, and its turn ends");
        }
    }

    /// Weighs a workspace and waits for it; for long, and what was known before is all there is.
    async fn weighed(&self, workspace: &LiveWorkspace, patience: Duration) -> Option<Used> {
        let mut weighings = workspace.weighings();
        self.weigh_soon(workspace);
        let _late_or_over = timeout(patience, weighings.changed()).await;
        workspace.used()
    }

    /// Has a workspace weighed, unless it is being weighed.
    pub(super) fn weigh_soon(&self, workspace: &LiveWorkspace) {
        let Some(mut weigher) = workspace.weigh() else { return };
        let (desk, scales, stop) = (self.desk.clone(), self.scales.clone(), self.around.stop.clone());
        self.around.tracker.spawn(async move {
            let weighing = async {
                let _turn = scales.0.acquire().await.map_err(Problem::internal)?;
                let mut all = false;
                while !all && !stop.has_come() {
                    let piece = desk.run(move || weigher.step().map(|all| (weigher, all)));
                    (weigher, all) = piece.await?;
                }
                Ok::<_, Problem>(())
            };
            if let Err(problem) = weighing.await {
                debug!(code = problem.code.as_str(), "a workspace could not be weighed");
            }
        });
    }
}

fn too_heavy(used: Used, limit: u64) -> String {
    let much = if used.countless {
        "has more files, or folders deeper in one another, than can be counted".to_owned()
    } else {
        format!("takes {} bytes on the disk, and may take {limit}", used.bytes)
    };
    format!("the workspace {much}; make room by removing files or folders")
}
