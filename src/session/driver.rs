//! The driver: the one task that owns a session.
//!
//! It takes commands, the agent's sayings, token counts and its own deadlines, one at a time, and turns them into events. What one step comes to is
//! written as one, and nobody learns of it, the agent included, before it is durable ([`journal`]). The driver ends with `session.ended`,
//! whatever the cause; the lease goes to the reaper then and the workspace goes home. A command that arrives after that comes back to its sender.
//!
//! Only when the server hands over to a successor it ends without a word: the sandbox stays as it is, and the successor takes the session up where
//! the log ends ([`super::recover`]).
//!
//! If the task itself were to panic, dropping its parts still ends the sandbox, brings the workspace home and says that the session is over.

mod changes;
mod clock;
mod epilogue;
mod journal;
mod keys;
mod permissions;
mod reports;
mod turn;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tracing::{Instrument as _, debug, info, info_span, warn};

use self::{
    changes::Changing,
    clock::Clock,
    epilogue::Epilogue,
    journal::{Journal, Then},
    turn::{Planned, RunningTurn},
};
use super::{
    Command, Opened, Surroundings, ending,
    event::EventType,
    given::{ChangeError, Driven, Stop},
    policy::{self, Refusal, Request},
    record,
    registry::SessionHandle,
    status::{EndReason, Status},
    translate,
};
use crate::{
    agent::{Agent, AgentCommand, AgentError, AgentEvent, EarlyEvents, Mark, Said},
    gateway::{Binding, Report},
    pool::Lease,
    problem::Code,
    telemetry::Metrics,
};

/// Requests that may wait for the driver; further senders wait.
pub(super) const COMMAND_CAPACITY: usize = 16;
/// Sayings of the agent that are taken in one step.
const SAID_AT_ONCE: usize = 128;
/// How long a close waits for the sandbox's end before it answers all the same; the reaper goes on.
const CLOSE_PATIENCE: Duration = Duration::from_secs(15);
/// How long the engine may take to say how a container died.
const POST_MORTEM_PATIENCE: Duration = Duration::from_secs(2);

/// Starts the driver of a session that was just opened; the session is in the registry when this returns.
pub fn spawn(opened: Opened, around: &Surroundings) -> Arc<SessionHandle> {
    let Opened { id, identity, preferences, log, agent, early, lease, gone, binding, reports, permit, settings, also } =
        opened;
    let (sender, commands) = mpsc::channel(COMMAND_CAPACITY);
    let mut status = Status::new(preferences);
    status.egress = binding.egress.clone();
    let session = Arc::new(SessionHandle::new(id, identity, status, log, binding.audit.clone(), sender));
    around.registry.add(&session);
    let mark = early.mark();
    let driven = Driven { agent, early, lease, gone, binding, reports, mark, settings };
    let mut batch = session.log.batch();
    batch.change(record::mark(&session.id, &mark));
    batch.change(session.with_status(|status| record::session(&session.id, &session.identity, status, None, 0)));
    batch.event(&session.id, EventType::SessionReady, None, &translate::lease(&session.identity.lease));
    for change in also {
        batch.change(change);
    }
    session.log.write(&mut batch);
    // Not a child of the open: a session outlives the request that opened it.
    let span = info_span!(parent: None, "session", session.id = %session.id);
    let task = drive(Arc::clone(&session), driven, commands, around.clone(), permit);
    around.tracker.spawn(task.instrument(span));
    session
}

/// Drives a session to its end, or to a hand-over.
pub(super) async fn drive(
    session: Arc<SessionHandle>,
    driven: Driven,
    commands: mpsc::Receiver<Command>,
    around: Surroundings,
    permit: Box<dyn std::any::Any + Send>,
) {
    let epilogue = Epilogue::new(Arc::clone(&session), Arc::clone(&around.registry));
    let Driven { agent, early, lease, gone, binding, reports, mark, settings } = driven;
    let _set_once = session.account.set(binding.account.look());
    let journal = Journal::new(Arc::clone(&session), mark);
    // What is durable already was perhaps not acknowledged any more.
    let forgettable = mark.forgettable();
    agent
        .done_with
        .send_if_modified(|done_with| std::mem::replace(done_with, forgettable.max(*done_with)) < forgettable);
    let clock = session.with_status(|status| Clock::new(settings, status));
    let turn = session.with_status(|status| RunningTurn::taken_up(&session, status));
    let driver = Driver {
        session,
        agent,
        lease,
        binding,
        reports,
        clock,
        journal,
        turn,
        planned: None,
        changing: None,
        stuck: None,
        metrics: around.metrics.clone(),
    };
    let Some(closers) = driver.run(early, commands, &around.stop).await else {
        epilogue.handed_over();
        return;
    };
    drop(epilogue);
    let _answers_all_the_same = timeout(CLOSE_PATIENCE, gone).await;
    drop(permit);
    for closer in closers {
        let _caller_may_have_left = closer.send(());
    }
}

struct Driver {
    session: Arc<SessionHandle>,
    agent: Agent,
    lease: Lease,
    /// What the sandbox's gateway is bound to; bound anew when the user's key changes.
    binding: Binding,
    reports: mpsc::Receiver<Report>,
    clock: Clock,
    journal: Journal,
    turn: Option<RunningTurn>,
    /// A prompt the agent's task is preparing.
    planned: Option<Planned>,
    /// A change the agent is asked about.
    changing: Option<Changing>,
    /// Set when the agent could not be told something.
    stuck: Option<End>,
    metrics: Metrics,
}

/// Why the session is over.
struct End {
    reason: EndReason,
    detail: String,
    /// How the turn that was running came out of it.
    turn: Option<(Code, String)>,
    closer: Option<oneshot::Sender<()>>,
}

impl End {
    fn new(reason: EndReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), turn: None, closer: None }
    }
}

/// What a step of the driver came to.
enum Step {
    GoOn,
    End(End),
    HandOver,
}

impl From<Option<End>> for Step {
    fn from(end: Option<End>) -> Self {
        end.map_or(Self::GoOn, Self::End)
    }
}

impl Driver {
    /// Runs the session to its end; returns who waits for that. None: it was handed over.
    async fn run(
        mut self,
        early: EarlyEvents,
        mut commands: mpsc::Receiver<Command>,
        stop: &Stop,
    ) -> Option<Vec<oneshot::Sender<()>>> {
        let mut said = Vec::with_capacity(SAID_AT_ONCE);
        let mark = early.mark();
        for event in early {
            said.push(Said { event: Some(event), mark: Mark::default() });
        }
        // All of them are behind the last one's mark.
        if let Some(last) = said.last_mut() {
            last.mark = mark;
        }
        let mut step = self.hear_all(&mut said).await.into();
        let end = loop {
            self.journal.write();
            step = match (step, self.stuck.take()) {
                (Step::End(end), _) | (Step::GoOn, Some(end)) => break end,
                (Step::HandOver, _) => {
                    self.hand_over().await;
                    return None;
                }
                (Step::GoOn, None) => self.next(&mut said, &mut commands, stop).await,
            };
        };
        let mut closers: Vec<_> = self.finish(end).await.into_iter().collect();
        commands.close();
        while let Some(command) = commands.recv().await {
            closers.extend(command.refuse());
        }
        Some(closers)
    }

    /// Takes what happened, in no order of rank: neither a talkative agent nor a hasty user keeps the other waiting.
    async fn next(&mut self, said: &mut Vec<Said>, commands: &mut mpsc::Receiver<Command>, stop: &Stop) -> Step {
        // Looked at once: between two looks the store may have gone on.
        let has_room = self.journal.has_room();
        let waits = !has_room || self.journal.is_waiting();
        tokio::select! {
            Some(report) = self.reports.recv() => { self.take_report(&report); Step::GoOn }
            count = self.agent.events.recv_many(said, SAID_AT_ONCE), if has_room => {
                if count == 0 {
                    return Step::End(End::new(EndReason::SandboxLost, "the sandbox was lost"));
                }
                self.hear_all(said).await.into()
            }
            Some(command) = commands.recv() => self.obey(command).into(),
            () = self.clock.next() => self.on_time().into(),
            () = self.journal.moved(), if waits => {
                while let Some(then) = self.journal.due() {
                    self.follow(then);
                }
                Step::GoOn
            }
            pieces = turn::plan(&mut self.planned) => { self.prompt_is_planned(pieces); Step::GoOn }
            told = changes::answer(&mut self.changing) => { self.agent_answered(told); Step::GoOn }
            () = stop.end.cancelled() => Step::End(End {
                turn: Some((Code::ShuttingDown, "the server is shutting down".to_owned())),
                ..End::new(EndReason::Shutdown, "the server is shutting down")
            }),
            () = stop.hand_over.cancelled() => Step::HandOver,
        }
    }

    fn obey(&mut self, command: Command) -> Option<End> {
        match command {
            Command::Prompt { turn, content, span, also, reply } => match self.decide(Request::Prompt) {
                Ok(()) => self.plan_turn(turn, content, span, also, reply),
                Err(refusal) => {
                    let _caller_may_have_left = reply.send(Err(refusal));
                }
            },
            Command::Cancel { turn, reply } => {
                let current = self.turn.as_ref().is_some_and(|running| running.id == turn);
                let outcome = self.decide(Request::Cancel { current }).map(|()| self.cancel_turn("user"));
                self.journal.answer(reply, outcome);
            }
            Command::Overrun { turn, why, reply } => {
                let current = self.turn.as_ref().is_some_and(|running| running.id == turn);
                let outcome = self.decide(Request::Cancel { current }).map(|()| self.overrun(why));
                self.journal.answer(reply, outcome);
            }
            Command::Answer { permission, option_id, reply } => {
                let open = self.session.with_status(|status| status.permissions.contains_key(&permission));
                let outcome = self.decide(Request::Answer { open });
                if outcome.is_ok() {
                    self.resolve(&permission, option_id, "user");
                }
                self.journal.answer(reply, outcome);
            }
            Command::Key { name, found } => self.key_found(&name, found),
            Command::Change { change, versions, reply } => self.begin_change(change, versions.as_deref(), reply),
            Command::Close { reply } => {
                return Some(End { closer: Some(reply), ..End::new(EndReason::Closed, "closed by its user") });
            }
        }
        None
    }

    /// What was waiting to be durable follows now.
    fn follow(&mut self, then: Then) {
        match then {
            // The link's task is gone when the agent is; its end is on its way.
            Then::Forget(chunk) => drop(self.agent.done_with.send_replace(chunk)),
            Then::Send(go) => {
                self.clock.turn_begins();
                let _agent_may_be_gone = go.send(());
            }
            Then::Tell(command) => self.tell(command),
            Then::Answer(answer) => answer.give(),
            Then::Written(cost) => self.binding.account.written(cost),
        }
    }

    async fn hear_all(&mut self, said: &mut Vec<Said>) -> Option<End> {
        for Said { event, mark } in said.drain(..) {
            let end = match event {
                Some(event) => self.hear(event).await,
                None => None,
            };
            // What was said before a session begins has no mark of its own.
            if mark != Mark::default() {
                self.journal.heard(mark);
            }
            if end.is_some() {
                return end;
            }
        }
        None
    }

    async fn hear(&mut self, said: AgentEvent) -> Option<End> {
        match said {
            AgentEvent::PermissionRequested { request, agent_id, tool_call, options } => {
                self.ask(request, agent_id, tool_call, options);
                None
            }
            AgentEvent::TurnEnded { stop_reason } => {
                self.end_turn(Ok(stop_reason));
                None
            }
            AgentEvent::TurnFailed(error) => {
                self.end_turn(Err(translate::failure(&error)));
                None
            }
            AgentEvent::Gone(error) => Some(self.agent_gone(&error).await),
            said => {
                self.note_said(said);
                None
            }
        }
    }

    fn note_said(&mut self, said: AgentEvent) {
        let is_log = matches!(said, AgentEvent::Log { .. });
        if let Some((kind, content)) = translate::event_of(said) {
            if !is_log {
                self.first_output();
            }
            self.journal.event(kind, self.turn.as_ref().map(|turn| &turn.id), &content);
        }
    }

    async fn agent_gone(&self, error: &AgentError) -> End {
        let reason = match error {
            AgentError::Lost(why) => {
                // The user reads only that it was lost.
                warn!(why, "a session's sandbox was lost");
                EndReason::SandboxLost
            }
            AgentError::Condemned(_) => EndReason::SandboxLost,
            _ => match timeout(POST_MORTEM_PATIENCE, self.lease.post_mortem()).await {
                Ok(Some(found)) if found.out_of_memory => EndReason::OutOfMemory,
                _ => EndReason::AgentExited,
            },
        };
        let (code, detail) = match reason {
            EndReason::OutOfMemory => (Code::AgentFailed, "the agent ran out of memory".to_owned()),
            _ => translate::failure(error),
        };
        End { turn: Some((code, detail.clone())), ..End::new(reason, detail) }
    }

    /// Ends the session; returns who waits for that. Dropping the lease posts the sandbox to the reaper.
    async fn finish(mut self, end: End) -> Option<oneshot::Sender<()>> {
        let End { reason, detail, turn, closer } = end;
        if let Some(changing) = self.changing.take() {
            changing.refuse(ChangeError::Refused(Refusal::Ended));
        }
        if let Some(planned) = self.planned.take() {
            planned.refuse(Refusal::Ended);
        }
        self.take_last_reports().await;
        if self.turn.is_some() {
            self.end_turn(turn.map_or_else(|| Ok("cancelled".to_owned()), Err));
        }
        info!(reason = reason.as_str(), "session ended");
        self.journal.end(reason, detail);
        if let Err(error) = self.session.log.settled(ending::END_PATIENCE).await {
            warn!(%error, "the end of a session is not written down yet");
        }
        while let Some(then) = self.journal.due() {
            self.follow(then);
        }
        closer
    }

    /// Leaves everything as it is for a successor. What could not be written down, the agent's supervisor still has.
    async fn hand_over(mut self) {
        if let Some(changing) = self.changing.take() {
            changing.refuse(ChangeError::Refused(Refusal::HandedOver));
        }
        if let Some(planned) = self.planned.take() {
            planned.refuse(Refusal::HandedOver);
        }
        if let Err(error) = self.session.log.settled(ending::END_PATIENCE).await {
            warn!(%error, "what a session did last is not written down; its agent says it again");
        }
        while let Some(then) = self.journal.due() {
            self.follow(then);
        }
        debug!("a session is left to the next server");
        self.lease.leave();
    }

    fn decide(&self, request: Request) -> Result<(), Refusal> {
        if self.planned.is_some() && matches!(request, Request::Prompt | Request::EndIdle) {
            return Err(Refusal::TurnInProgress);
        }
        self.session.with_status(|status| policy::decide(status.stage, request))
    }

    /// Tells the agent something. Its queue has room for all we may say at once; if it is full all the same, the agent takes nothing any
    /// more, and the session ends rather than pretend that it was told.
    fn tell(&mut self, command: AgentCommand) {
        if self.agent.commands.try_send(command).is_err() && self.stuck.is_none() {
            self.stuck = Some(End::stuck());
        }
    }
}

impl End {
    fn stuck() -> Self {
        let detail = "the agent takes no more commands and was ended";
        Self { turn: Some((Code::AgentFailed, detail.to_owned())), ..Self::new(EndReason::AgentExited, detail) }
    }
}
