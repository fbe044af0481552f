//! Prompts, cancels, and answers to permissions.

use std::{
    collections::BTreeMap,
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Mutex, oneshot},
    time::timeout,
};
use tracing::{Instrument as _, field, info_span};

use super::{
    Service, budgets,
    idempotency::{Created, Ticket},
    view::{OpenSession, PermissionAnswer, Prompt, TurnView},
};
use crate::{
    identity::Actor,
    ids::{PermissionId, SessionId, TurnId, UserId},
    problem::{Code, Problem},
    session::{Command, SessionHandle, policy::Refusal},
};

/// How long a call waits while another opens the user's default session: as long as an open may wait unless configured otherwise.
const DEFAULT_SESSION_PATIENCE: Duration = Duration::from_secs(30);

/// How long a session may take to answer: it writes down first what it does.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// A user's session for the simple door. Locked for as long as it is being opened, so that it is opened once.
pub(super) type DefaultSession = Mutex<Option<SessionId>>;

impl Service {
    /// Starts a turn. The answer is known as soon as the turn is in the log; its course is in the events.
    ///
    /// # Errors
    /// Not found, a turn in progress, the session over, the pace too fast, the workspace too large, the server stopping.
    pub async fn prompt(
        &self,
        caller: &Actor,
        id: &SessionId,
        prompt: Prompt,
        ticket: &Ticket,
    ) -> Result<TurnView, Problem> {
        let session = self.find(caller, id)?;
        self.check_new_work()?;
        self.check_room(caller, &session).await?;
        self.allowance(caller).check_prompt(&caller.user)?;
        budgets::check(&session)?;
        if prompt.content.is_empty() {
            return Err(Problem::new(Code::InvalidRequest, "prompt: must have at least one content block"));
        }
        let span = info_span!(
            "turn.prompt", session.id = %session.id, template = %session.identity.template,
            turn.id = field::Empty, turn.outcome = field::Empty
        );
        let content = prompt.content.to_vec();
        let turn = TurnId::random();
        caller.trail().turn(&turn);
        let also = ticket.created(Created::Turn(turn.clone()));
        let ticket = ticket.clone();
        let asking = async move {
            let outcome = session.ask(|reply| Command::Prompt { turn, content, span, also, reply }).await;
            // What it left unsaid may have come true.
            if outcome.as_ref().is_err_and(|refusal| *refusal != Refusal::Unheard) {
                ticket.nothing_created();
            }
            outcome.map(|turn| TurnView::of(&session, &turn))
        };
        // A task of its own: the caller may leave before the driver has said yes or no, and the ticket must learn which.
        let asking = self.around.tracker.spawn(asking.in_current_span());
        Ok(in_time(asking).await?.map_err(Problem::internal)??)
    }

    /// The user's default session, which is opened when there is none. Of calls at the same time the first opens it and the others wait
    /// for that: they take places in the queue for a sandbox, as if each waited for one.
    ///
    /// # Errors
    /// Those of [`Service::open`].
    pub async fn default_session(&self, caller: &Actor) -> Result<SessionId, Problem> {
        self.check_new_work()?;
        let default = Arc::clone(self.default_sessions().entry(caller.user.clone()).or_default());
        let mut known = match default.try_lock() {
            Ok(known) => known,
            Err(_being_opened) => {
                let _place = self.allowance(caller).hold_waiting(&caller.user)?;
                let opened = timeout(DEFAULT_SESSION_PATIENCE, default.lock()).await;
                opened.map_err(|_| Problem::new(Code::PoolExhausted, "the session is still being opened; try again"))?
            }
        };
        let alive = |id: &SessionId| {
            let session = self.around.registry.find(caller.reach(), id);
            session.is_some_and(|session| !session.is_over())
        };
        if let Some(id) = known.as_ref().filter(|id| alive(id)) {
            return Ok(id.clone());
        }
        let wish = OpenSession { default: true, ..OpenSession::default() };
        let opened = self.open_handle(caller, wish, &Ticket::default()).await?;
        Ok(known.insert(opened.id.clone()).clone())
    }

    /// Asks a running turn to end; it ends with stop reason `cancelled`.
    ///
    /// # Errors
    /// Not found, or the turn is over.
    pub async fn cancel(&self, caller: &Actor, id: &SessionId, turn: &TurnId) -> Result<TurnView, Problem> {
        let view = self.turn(caller, id, turn).await?;
        let session = self.find(caller, id)?;
        ask(&session, |reply| Command::Cancel { turn: turn.clone(), reply }).await?;
        Ok(view)
    }

    /// Answers an open permission.
    ///
    /// # Errors
    /// Not found, answered already, or an option that wasn't offered.
    pub async fn answer(
        &self,
        caller: &Actor,
        id: &SessionId,
        permission: &PermissionId,
        answer: PermissionAnswer,
    ) -> Result<(), Problem> {
        let session = self.find(caller, id)?;
        let option_id = match answer {
            PermissionAnswer::Option(option_id) => Some(option_id),
            PermissionAnswer::Cancelled => None,
        };
        let offered: Option<Vec<String>> = session.with_status(|status| {
            let open = status.permissions.get(permission)?;
            Some(open.options.iter().map(|option| option.option_id.clone()).collect())
        });
        match (offered, &option_id) {
            (Some(offered), Some(chosen)) if !offered.contains(chosen) => {
                let detail = format!("option_id: must be one of those offered: {}", offered.join(", "));
                return Err(Problem::new(Code::InvalidRequest, detail));
            }
            (None, _) if !session.with_status(|status| status.answered.contains(permission)) => {
                return Err(Problem::not_found());
            }
            _ => {}
        }
        ask(&session, |reply| Command::Answer { permission: permission.clone(), option_id, reply }).await
    }

    /// Notes the default session a former server opened.
    pub(super) async fn remember_default(&self, user: &UserId, id: &SessionId) {
        let default = Arc::clone(self.default_sessions().entry(user.clone()).or_default());
        *default.lock().await = Some(id.clone());
    }

    fn default_sessions(&self) -> MutexGuard<'_, BTreeMap<UserId, Arc<DefaultSession>>> {
        self.default_sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts a request in the driver's queue and waits for its answer; the driver answers everything, also at its end.
async fn ask<T>(
    session: &SessionHandle,
    command: impl FnOnce(oneshot::Sender<Result<T, Refusal>>) -> Command,
) -> Result<T, Problem> {
    Ok(in_time(session.ask(command)).await??)
}

/// A session that doesn't answer waits for the store, or for its sandbox to be taken up.
pub(super) async fn in_time<T>(asking: impl Future<Output = T>) -> Result<T, Problem> {
    let late = |_| Problem::new(Code::StoreUnavailable, "the session does not answer at the moment; try again shortly");
    timeout(ANSWER_PATIENCE, asking).await.map_err(late)
}
