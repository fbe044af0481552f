//! Takes up what a former server left: sessions that live go on in their sandboxes, those that are over can be read.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

use super::{Service, credentials::KeysAtHand};
use crate::{
    agent::{ResumePlan, RunningTurn},
    gateway::{Binding, REPORTS_CAPACITY},
    pool::PendingAdoption,
    session::{
        SessionHandle,
        recover::{Alive, Found, TakenUp, find},
        status::{Status, TurnState},
    },
    store::StoredSession,
};

/// What a user reads whose sandbox can't be taken up.
const LOST: &str = "the server was restarted and the session's sandbox could not be taken up again";

/// A session that a former server left, and its sandbox, if there still is one.
#[derive(Debug)]
pub struct Left {
    /// What the store has of it.
    pub stored: StoredSession,
    /// Its sandbox. None: it is gone, or the session is over.
    pub sandbox: Option<PendingAdoption>,
}

impl Service {
    /// Puts back all sessions that were left. When this returns each can be found; those that live go on as soon as their sandboxes are
    /// taken up, and end truthfully if they can't be.
    pub async fn recover(&self, left: Vec<Left>) {
        let mut alive = Vec::new();
        for Left { stored, sandbox } in left {
            match find(&stored, &self.store, self.settings.log_bytes, &self.around) {
                Ok(Found::Over) => {}
                Ok(Found::Alive(found)) => alive.push((*found, sandbox)),
                // The sandbox is dropped, and so ended; its workspace goes home.
                Err(error) => {
                    error!(session.id = %stored.row.session, %error, "a stored session can't be taken up");
                }
            }
        }
        // An agent that is in the middle of something asks its model again at once.
        let keys = self.keys_at_hand().await;
        for (alive, sandbox) in alive {
            self.take_up(alive, sandbox, &keys).await;
        }
    }

    /// Nothing is left of its sandbox. A store that doesn't work must not hold up the start.
    fn lost(&self, alive: Alive) {
        let around = self.around.clone();
        self.around.tracker.spawn(async move { alive.end(LOST, &around).await });
    }

    async fn take_up(&self, alive: Alive, sandbox: Option<PendingAdoption>, keys: &KeysAtHand) {
        let Some(mut sandbox) = sandbox else { return self.lost(alive) };
        let session = Arc::clone(&alive.session);
        let identity = &session.identity;
        let gone = match self.workspaces.hold(&session.whose(), &identity.workspace) {
            Ok(mut hold) => {
                if !identity.named {
                    hold.forget_if_empty();
                }
                hold.is_in(sandbox.slot());
                let (gone_sender, gone) = oneshot::channel();
                sandbox.when_gone(super::settle::go_home(Arc::new(hold), gone_sender));
                gone
            }
            Err(error) => {
                warn!(session.id = %session.id, %error, "a session's workspace can't be held");
                return self.lost(alive);
            }
        };
        if identity.default {
            self.remember_default(&identity.user, &session.id).await;
        }
        let (report_sender, reports) = mpsc::channel(REPORTS_CAPACITY);
        let user = identity.user.clone();
        let credential = session.with_status(|status| status.preferences.credential.clone());
        let (key, key_missing) = match credential {
            // What isn't at hand yet is looked up again and again: see [`Service::keep_credentials`].
            Some(name) => {
                let key = keys.get(&(user.clone(), name)).cloned();
                (key.clone(), key.is_none())
            }
            // A key of the user's own was never written down.
            None if session.with_status(|status| status.needs_credential) => (None, true),
            None => (self.model_key.clone(), false),
        };
        let (tier, spent) = (identity.tier.clone(), session.with_status(|status| status.tokens));
        let account = match self.account(&user, tier, &session.id, spent).await {
            Ok(account) => account,
            Err(error) => {
                warn!(session.id = %session.id, %error, "what a session's user has spent can't be read");
                return self.lost(alive);
            }
        };
        let egress = alive.egress(sandbox.pool().egress());
        let (id, audit) = (session.id.clone(), session.audit.clone());
        let binding = Binding { user, session: id, key, key_missing, account, egress, audit, reports: report_sender };
        sandbox.bind(binding.clone());
        let permit = Box::new((self.limits.keep_session(&identity.user), self.metrics.session()));
        let turn = alive.running_turn().await;
        let mark = alive.mark;
        let taking_up = async move {
            let (agent, early, lease) = adopt(sandbox, &session, mark, turn).await.map_err(|error| {
                warn!(session.id = %session.id, error = %error, "a session's sandbox could not be taken up");
                LOST.to_owned()
            })?;
            drop(early);
            Ok(TakenUp { agent, lease, gone, binding, reports })
        };
        alive.go_on(taking_up, self.times(), permit, &self.around);
    }
}

async fn adopt(
    sandbox: PendingAdoption,
    session: &SessionHandle,
    mark: crate::agent::Mark,
    turn: Option<RunningTurn>,
) -> Result<
    (crate::agent::Agent, crate::agent::EarlyEvents, crate::pool::Lease),
    Box<dyn std::error::Error + Send + Sync>,
> {
    let pool = sandbox.pool();
    let adopted = sandbox.adopt().await?;
    let plan = ResumePlan {
        memory: session.identity.memory.clone(),
        mark,
        input_received: adopted.input_received(),
        after_cancel: session.with_status(after_cancel),
        turn,
        answer_deadline: adopted.answer_deadline(),
    };
    let mut lease = pool.adopt(adopted.resume(plan)?).await?;
    let (agent, early) = lease.take_agent().ok_or("a sandbox was taken up without its agent")?;
    Ok((agent, early, lease))
}

/// Whether the turn before the one that runs, or the last one, was cancelled.
fn after_cancel(status: &Status) -> bool {
    let over = status.turns.iter().rev().find(|turn| turn.state != TurnState::Running);
    over.is_some_and(|turn| matches!(&turn.state, TurnState::Ended(reason) if reason == "cancelled"))
}
