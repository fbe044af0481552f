//! Takes sessions up where a former server left them.
//!
//! A session that is over is put back for reading. One that lives is in the registry at once, as its documents say; what is asked of it waits while
//! its sandbox is taken up. Then its driver goes on where the log ends: the turn that ran still runs, what was open is open. A session whose
//! sandbox can't be taken up ends, and says so: `turn.failed` if a turn ran, then `session.ended` with `sandbox_lost`.

use std::{any::Any, sync::Arc};

use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{Instrument as _, debug, info, info_span, warn};

use super::{
    Command, Settings, Surroundings,
    driver::{COMMAND_CAPACITY, drive},
    ending,
    event::Event,
    given::Driven,
    record::{self, Restored, Unreadable},
    registry::SessionHandle,
    status::EndReason,
};
use crate::{
    agent::{Agent, EarlyEvents, Mark, RunningTurn},
    config::TemplateEgress,
    gateway::{Binding, Egress, Report},
    log::{EventLog, READ_MAX},
    pool::Lease,
    problem::Code,
    store::{AnyStore, StoredSession},
};

/// What a former server left of a session.
#[derive(Debug)]
pub enum Found {
    /// It is over; it can be read.
    Over,
    /// It lives.
    Alive(Box<Alive>),
}

/// A session that lives and has no driver yet. Dropping it leaves it without one: always end it or let it go on.
#[derive(Debug)]
pub struct Alive {
    /// The session, already in the registry.
    pub session: Arc<SessionHandle>,
    /// How far its agent was heard.
    pub mark: Mark,
    answers: Vec<(Value, Option<String>)>,
    commands: mpsc::Receiver<Command>,
}

/// A sandbox that was taken up for a session.
#[derive(Debug)]
pub struct TakenUp {
    /// Its agent.
    pub agent: Agent,
    /// The sandbox.
    pub lease: Lease,
    /// Fires when the sandbox is gone and the workspace at home.
    pub gone: oneshot::Receiver<()>,
    /// What its gateway is bound to.
    pub binding: Binding,
    /// What the gateway says of its calls.
    pub reports: mpsc::Receiver<Report>,
}

/// Puts a stored session back.
///
/// # Errors
/// Its documents can't be read.
pub fn find(
    stored: &StoredSession,
    store: &AnyStore,
    log_bytes: usize,
    around: &Surroundings,
) -> Result<Found, Unreadable> {
    let Restored { identity, mut status, mark, answers, ended_at, log_bytes: ended_bytes } = record::read(stored)?;
    status.needs_credential = status.preferences.own_key && ended_at.is_none();
    let log = EventLog::restored(stored, Arc::clone(store), log_bytes);
    let audit = around.audit.of_session(&identity.user, &stored.row.session, &identity.template, &identity.workspace);
    let (sender, commands) = mpsc::channel(COMMAND_CAPACITY);
    let session = Arc::new(SessionHandle::new(stored.row.session.clone(), identity, status, log, audit, sender));
    if let Some(ended_at) = ended_at {
        around.registry.ended_before(&session, ended_at, ended_bytes);
        return Ok(Found::Over);
    }
    around.registry.add(&session);
    Ok(Found::Alive(Box::new(Alive { session, mark, answers, commands })))
}

impl Alive {
    /// What its agent's protocol must know of the turn that runs, if one does.
    pub async fn running_turn(&self) -> Option<RunningTurn> {
        let (turn, open) = self.session.with_status(|status| {
            let open = status.permissions.values().map(|open| (open.request, open.agent_id.clone())).collect();
            Some((status.running()?.clone(), open))
        })?;
        // So old that it is no longer kept? Then the agent has had it for long, and spoken.
        let begun = self.session.log.read(turn.first_seq - 1, READ_MAX).await.unwrap_or_default();
        let prompt = |event: &Arc<Event>| {
            let mut event: Value = serde_json::from_slice(&event.json).ok()?;
            serde_json::from_value(event["content"]["prompt"].take()).ok()
        };
        let content: Option<Vec<Value>> = begun.first().and_then(prompt);
        let spoken = content.is_none() || begun.iter().any(|event| event.kind.is_of_the_agent());
        Some(RunningTurn {
            request: turn.number,
            pieces: turn.pieces,
            content: content.unwrap_or_default(),
            spoken,
            cancelling: turn.cancelling,
            open,
            answers: self.answers.clone(),
        })
    }

    /// What its tools may reach from here on: counted on from what they used before.
    #[must_use]
    pub fn egress(&self, template: watch::Receiver<Arc<TemplateEgress>>) -> Egress {
        let mut status = self.session.locked();
        status.egress = Egress::new(template, &status.preferences.egress, status.egress.traffic());
        status.egress.clone()
    }

    /// Lets it go on, once its sandbox is taken up, or ends it with a public sentence if it can't be. `permit` is held for as long as the
    /// session takes up room.
    pub fn go_on(
        self,
        taking_up: impl Future<Output = Result<TakenUp, String>> + Send + 'static,
        settings: Settings,
        permit: Box<dyn Any + Send>,
        around: &Surroundings,
    ) {
        let span = info_span!(parent: None, "session", session.id = %self.session.id);
        let around = around.clone();
        let tracker = around.tracker.clone();
        let task = async move {
            // A hand-over waits for it: what is half taken up can't be left as it is.
            let taken_up = tokio::select! {
                taken_up = taking_up => taken_up,
                () = around.stop.end.cancelled() => Err("the server is shutting down".to_owned()),
            };
            match taken_up {
                Ok(TakenUp { agent, lease, gone, binding, reports }) => {
                    info!("a session is taken up");
                    let Self { session, mark, commands, .. } = self;
                    let early = EarlyEvents::default();
                    let driven = Driven { agent, early, lease, gone, binding, reports, mark, settings };
                    drive(session, driven, commands, around, permit).await;
                }
                // It was let go of, and goes on with the next server, which knows better.
                Err(why) if around.stop.hand_over.is_cancelled() => debug!(why, "a session is left as it was found"),
                Err(why) => self.end(&why, &around).await,
            }
        };
        tracker.spawn(task.instrument(span));
    }

    /// Ends it: it can't be taken up.
    pub async fn end(self, why: &str, around: &Surroundings) {
        let Self { session, mut commands, .. } = self;
        warn!(session.id = %session.id, why, "a session could not be taken up");
        let mut batch = session.log.batch();
        ending::fail_turn(&session, &mut batch, Code::AgentFailed, why);
        ending::end(&session, &mut batch, EndReason::SandboxLost, why.to_owned());
        session.log.write(&mut batch);
        if let Err(error) = session.log.settled(ending::END_PATIENCE).await {
            warn!(%error, "the end of a session is not written down yet");
        }
        around.registry.ended(&session);
        commands.close();
        while let Some(command) = commands.recv().await {
            if let Some(closer) = command.refuse() {
                let _caller_may_have_left = closer.send(());
            }
        }
    }
}
