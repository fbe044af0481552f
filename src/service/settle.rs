//! Makes a leased sandbox its user's: workspace in, agent tuned.

use std::sync::Arc;

use tokio::sync::oneshot;
use tracing::error;

use super::problems::unfit;
use crate::{
    agent::{Agent, AgentCommand, AgentError, EarlyEvents},
    pool::Lease,
    problem::Problem,
    sandbox::slot::Slot,
    workspace::WorkspaceHold,
};

/// Moves the workspace in, and sees to it that it goes home at the sandbox's end, whatever happens from here on. Says whether there was
/// something to move, and what fires when it is at home again.
pub(super) fn settle_in(lease: &mut Lease, hold: WorkspaceHold) -> Result<(bool, oneshot::Receiver<()>), Problem> {
    let exists = hold.exists();
    let hold = Arc::new(hold);
    let (gone_sender, gone) = oneshot::channel();
    lease.when_gone(go_home(Arc::clone(&hold), gone_sender));
    hold.move_in(lease.slot())?;
    Ok((exists, gone))
}

/// What happens to a held workspace when its sandbox is gone: it goes home, and whoever waits at `gone` learns it.
pub(super) fn go_home(
    hold: Arc<WorkspaceHold>,
    gone: oneshot::Sender<()>,
) -> impl FnOnce(&Slot) + Send + Sync + 'static {
    move |slot| {
        if let Err(problem) = hold.move_back(slot) {
            let cause = std::error::Error::source(&problem);
            error!(error = %problem, ?cause, slot = %slot.id(), "a workspace could not be moved home");
            hold.keep_for_ever();
        }
        drop(hold);
        let _session_may_be_over = gone.send(());
    }
}

/// Makes the warm agent the user's: a session in a workspace that was moved in, the mode and the model that were asked for.
pub(super) async fn tune(
    lease: &mut Lease,
    exists: bool,
    mode: Option<&String>,
    model: Option<&String>,
) -> Result<(Agent, EarlyEvents), Problem> {
    let workspace = lease.workspace_inside().to_owned();
    let (mut agent, mut early) =
        lease.take_agent().ok_or_else(|| Problem::internal("a sandbox came from stock without its agent"))?;
    if exists {
        agent.memory = ask(&mut agent, &mut early, |reply| AgentCommand::OpenSession { workspace, reply }).await?;
    }
    if let Some(mode) = mode.cloned() {
        let told = ask(&mut agent, &mut early, |reply| AgentCommand::SetMode { mode, reply }).await;
        told.map_err(|error| unfit("mode", error))?;
    }
    if let Some(model) = model.cloned() {
        let told = ask(&mut agent, &mut early, |reply| AgentCommand::SetModel { model, reply }).await;
        told.map_err(|error| unfit("model", error))?;
    }
    Ok((agent, early))
}

/// Asks a booted agent for something and waits for the answer, for which the agent's task has a deadline of its own. The answer is behind
/// whatever the agent says before it, so that is taken meanwhile and kept for the session.
async fn ask<T>(
    agent: &mut Agent,
    early: &mut EarlyEvents,
    command: impl FnOnce(oneshot::Sender<Result<T, AgentError>>) -> AgentCommand,
) -> Result<T, AgentError> {
    let (reply, mut answer) = oneshot::channel();
    let lost = || AgentError::Lost("the agent's task ended".to_owned());
    agent.commands.send(command(reply)).await.map_err(|_| lost())?;
    loop {
        tokio::select! {
            biased;
            answer = &mut answer => return answer.map_err(|_| lost())?,
            Some(said) = agent.events.recv() => {
                early.keep(said);
                if let Some(chunk) = early.forgettable() {
                    agent.done_with.send_replace(chunk);
                }
            }
        }
    }
}
