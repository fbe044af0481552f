//! The driver: the one task that owns a session.
//!
//! It takes commands, the agent's sayings, token counts and its own deadlines, one at a time, and turns them into events. An event is in
//! the log before anything else follows from it. The driver ends with `session.ended`, whatever the cause; the lease goes to the
//! reaper then and the workspace goes home. A command that arrives after that comes back to its sender.
//!
//! If the task itself were to panic, dropping its parts still ends the sandbox, brings the workspace home and says that the session is over.

mod clock;
mod epilogue;
mod turn;

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument as _, info, info_span, warn};

use self::{clock::Clock, epilogue::Epilogue, turn::RunningTurn};
use super::{
    Command, Opened,
    event::EventType,
    policy::{self, Refusal, Request, Stage},
    registry::{Registry, SessionHandle},
    status::{EndReason, Tokens},
    translate,
};
use crate::{
    agent::{Agent, AgentCommand, AgentError, AgentEvent, EarlyEvents, Said},
    gateway::Usage,
    log::EventLog,
    pool::Lease,
    problem::Code,
    telemetry::Metrics,
};

/// Requests that may wait for the driver; further senders wait.
const COMMAND_CAPACITY: usize = 16;
/// How long a close waits for the sandbox's end before it answers all the same; the reaper goes on.
const CLOSE_PATIENCE: Duration = Duration::from_secs(15);
/// How long the engine may take to say how a container died.
const POST_MORTEM_PATIENCE: Duration = Duration::from_secs(2);

/// Starts the driver; the session is in the registry when this returns.
pub fn spawn(
    opened: Opened,
    registry: &Arc<Registry>,
    metrics: Metrics,
    tracker: &TaskTracker,
    stop: CancellationToken,
) -> Arc<SessionHandle> {
    let Opened { id, identity, agent, early, lease, gone, usage, permit, settings } = opened;
    let (sender, commands) = mpsc::channel(COMMAND_CAPACITY);
    let log = EventLog::new(id.clone(), settings.log_bytes);
    log.append(EventType::SessionReady, None, &translate::lease(&identity.lease));
    let session = Arc::new(SessionHandle::new(id, identity, log, sender));
    registry.add(&session);
    let clock = Clock::new(settings);
    let driver = Driver { session: Arc::clone(&session), agent, lease, usage, clock, turn: None, stuck: None, metrics };
    let registry = Arc::clone(registry);
    // Not a child of the open: a session outlives the request that opened it.
    let span = info_span!(parent: None, "session", session.id = %session.id);
    tracker.spawn(
        async move {
            let epilogue = Epilogue { session: Arc::clone(&driver.session), registry };
            let closers = driver.run(early, commands, stop).await;
            drop(epilogue);
            let _answers_all_the_same = timeout(CLOSE_PATIENCE, gone).await;
            drop(permit);
            for closer in closers {
                let _caller_may_have_left = closer.send(());
            }
        }
        .instrument(span),
    );
    session
}

struct Driver {
    session: Arc<SessionHandle>,
    agent: Agent,
    lease: Lease,
    usage: mpsc::Receiver<Usage>,
    clock: Clock,
    turn: Option<RunningTurn>,
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

impl Driver {
    /// Runs the session to its end; returns who waits for that.
    async fn run(
        mut self,
        early: EarlyEvents,
        mut commands: mpsc::Receiver<Command>,
        stop: CancellationToken,
    ) -> Vec<oneshot::Sender<()>> {
        let mut early = early.into_iter();
        let end = loop {
            let end = tokio::select! {
                biased;
                Some(said) = std::future::ready(early.next()) => self.hear(said).await,
                end = self.next(&mut commands, &stop) => end,
            };
            if let Some(end) = end.or_else(|| self.stuck.take()) {
                break end;
            }
        };
        let mut closers: Vec<_> = self.finish(end).into_iter().collect();
        commands.close();
        while let Some(command) = commands.recv().await {
            match command {
                Command::Prompt { reply, .. } => drop(reply.send(Err(Refusal::Ended))),
                Command::Cancel { reply, .. } | Command::Answer { reply, .. } => drop(reply.send(Err(Refusal::Ended))),
                Command::Close { reply } => closers.push(reply),
            }
        }
        closers
    }

    /// Takes one thing that happened, in no order of rank: neither a talkative agent nor a hasty user keeps the other waiting.
    async fn next(&mut self, commands: &mut mpsc::Receiver<Command>, stop: &CancellationToken) -> Option<End> {
        tokio::select! {
            Some(usage) = self.usage.recv() => { self.add_usage(&usage); None }
            said = self.agent.events.recv() => match said {
                Some(Said { event, mark }) => {
                    self.agent.done_with.send_replace(mark.forgettable());
                    match event {
                        Some(said) => self.hear(said).await,
                        None => None,
                    }
                }
                None => Some(End::new(EndReason::SandboxLost, "the sandbox was lost")),
            },
            Some(command) = commands.recv() => self.obey(command),
            () = self.clock.next() => self.on_time(),
            () = stop.cancelled() => Some(End {
                turn: Some((Code::ShuttingDown, "the server is shutting down".to_owned())),
                ..End::new(EndReason::Shutdown, "the server is shutting down")
            }),
        }
    }

    fn obey(&mut self, command: Command) -> Option<End> {
        match command {
            Command::Prompt { content, span, reply } => {
                let outcome = self.decide(Request::Prompt).map(|()| self.begin_turn(content, span));
                let _caller_may_have_left = reply.send(outcome);
            }
            Command::Cancel { turn, reply } => {
                let current = self.turn.as_ref().is_some_and(|running| running.id == turn);
                let outcome = self.decide(Request::Cancel { current }).map(|()| self.cancel_turn());
                let _caller_may_have_left = reply.send(outcome);
            }
            Command::Answer { permission, option_id, reply } => {
                let open = self.session.with_status(|status| status.permissions.contains_key(&permission));
                let outcome = self.decide(Request::Answer { open });
                if outcome.is_ok() {
                    self.resolve(&permission, option_id, "user");
                }
                let _caller_may_have_left = reply.send(outcome);
            }
            Command::Close { reply } => {
                return Some(End { closer: Some(reply), ..End::new(EndReason::Closed, "closed by its user") });
            }
        }
        None
    }

    async fn hear(&mut self, said: AgentEvent) -> Option<End> {
        match said {
            AgentEvent::PermissionRequested { request, tool_call, options, agent_id: _ } => {
                self.ask(request, tool_call, options);
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
                self.append_said(said);
                None
            }
        }
    }

    fn append_said(&mut self, said: AgentEvent) {
        let is_log = matches!(said, AgentEvent::Log { .. });
        if let Some((kind, content)) = translate::event_of(said) {
            if !is_log {
                self.first_output();
            }
            self.append(kind, &content);
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

    /// Takes the counts that are on their way: what the model counted belongs to the turn that ends.
    fn take_counts(&mut self) {
        while let Ok(usage) = self.usage.try_recv() {
            self.add_usage(&usage);
        }
    }

    fn add_usage(&mut self, usage: &Usage) {
        let tokens = Tokens { input: usage.input_tokens, output: usage.output_tokens };
        {
            let mut status = self.session.locked();
            status.tokens += tokens;
            if let Some(turn) = status.running_mut() {
                turn.tokens += tokens;
            }
        }
        self.metrics.tokens(tokens.input, tokens.output);
        self.append(
            EventType::UsageUpdated,
            &json!({"model": usage.model, "input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}),
        );
    }

    /// Ends the session; returns who waits for that. Dropping the lease posts the sandbox to the reaper.
    fn finish(mut self, end: End) -> Option<oneshot::Sender<()>> {
        let End { reason, detail, turn, closer } = end;
        self.take_counts();
        if self.turn.is_some() {
            self.end_turn(turn.map_or_else(|| Ok("cancelled".to_owned()), Err));
        }
        info!(reason = reason.as_str(), "session ended");
        // Whoever has seen the event reads the new status: the event is appended while the status is locked.
        let mut status = self.session.locked();
        self.append(EventType::SessionEnded, &json!({"reason": reason.as_str(), "detail": detail}));
        status.stage = Stage::Ended;
        status.end = Some((reason, detail));
        closer
    }

    fn decide(&self, request: Request) -> Result<(), Refusal> {
        self.session.with_status(|status| policy::decide(status.stage, request))
    }

    fn append(&self, kind: EventType, content: &Value) -> u64 {
        self.session.log.append(kind, self.turn.as_ref().map(|turn| &turn.id), content)
    }

    /// Tells the agent something. Its queue has room for all we may say at once; if it is full all the same, the agent takes nothing any
    /// more, and the session ends rather than pretend that it was told.
    fn tell(&mut self, command: AgentCommand) {
        if self.agent.commands.try_send(command).is_err() && self.stuck.is_none() {
            let detail = "the agent takes no more commands and was ended";
            let turn = Some((Code::AgentFailed, detail.to_owned()));
            self.stuck = Some(End { turn, ..End::new(EndReason::AgentExited, detail) });
        }
    }
}
