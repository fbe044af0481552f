//! A running agent: the one task that owns its pipes, its requests and its turn.
//!
//! The task does four things as they become possible: takes a command, reads a line, writes a waiting message, hands on a
//! waiting event. It reads the next line only when the events of the last one are handed on. So a driver that takes no events
//! stops the agent's output, while commands (above all `Cancel`) still go through. A driver that waits for a reply must go on taking
//! events: the answer is behind them.
//!
//! - One turn at a time. A prompt while one runs is dropped with a warning (its end would be taken for the running one's).
//! - While a new session is opened, the commands behind wait; at most one answer deadline.
//! - After `Cancel` the turn ends by its own answer, with what the agent says until then. What it wants to be allowed is answered
//!   `cancelled`, now and until the turn's end.
//! - When a turn ends, its open permission requests do too.
//! - What a former session still says is dropped and counted.
//! - Nothing is read behind a request that we answer ourselves until the answer has arrived ([`Receipts`]).

use std::time::Duration;

use agent_client_protocol_schema::v1::{
    AGENT_METHOD_NAMES, CLIENT_METHOD_NAMES, CancelNotification, NewSessionRequest, SetSessionModeRequest,
};
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tracing::{debug, warn};

use super::{
    boot::session_id,
    call::{Asker, Calls, Reply, call_id, prompt_id},
    memory::Memory,
    message::{self, Message},
    permission::{self, Permissions},
    probe::{self, Complaints},
    turn::{self, Allowed, Turn},
    update,
};
use crate::{
    agent::{
        AgentCommand, AgentError, AgentEvent, Pieces, RunningTurn,
        framing::{LOG_LINE_LIMIT, readable},
        outbox::Outbox,
        wire::{Heard, Reader, Receipts, Writer},
    },
    sandbox::pipes::Stream,
    telemetry::SkippedLines,
};

/// Not in the stable part of the protocol yet, but what Gemini CLI takes.
const SESSION_SET_MODEL: &str = "session/set_model";
/// Commands wait when this many pieces wait to be written.
const COMMAND_BACKLOG: usize = 32;
/// Reading waits when this many pieces wait to be written: the agent asks faster than it reads our answers.
const ANSWER_BACKLOG: usize = 256;
/// Commands wait when this many of our requests have no answer.
const CALL_LIMIT: usize = 16;

/// What was passed over, for the log when the task ends.
#[derive(Debug, Default)]
struct Oddities {
    /// Lines that are no message.
    other_lines: u64,
    /// Answers nobody waits for.
    late_answers: u64,
    /// Updates of a former session.
    stale_updates: u64,
    /// Requests for what isn't offered.
    refused_requests: u64,
}

/// What a peer is made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) reader: Reader,
    pub(super) writer: Writer,
    pub(super) receipts: Receipts,
    pub(super) commands: mpsc::Receiver<AgentCommand>,
    pub(super) outbox: Outbox,
    pub(super) memory: Memory,
    pub(super) answer_deadline: Duration,
    pub(super) skipped: SkippedLines,
}

/// The owner of a running agent.
#[derive(Debug)]
pub(super) struct Peer {
    reader: Reader,
    writer: Writer,
    /// Reading waits for those that are due.
    receipts: Receipts,
    commands: mpsc::Receiver<AgentCommand>,
    /// Reading waits for it to be empty.
    outbox: Outbox,
    calls: Calls,
    permissions: Permissions,
    turn: Turn,
    memory: Memory,
    answer_deadline: Duration,
    complaints: Complaints,
    odd: Oddities,
    skipped: SkippedLines,
}

impl Peer {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { reader, writer, receipts, commands, outbox, memory, answer_deadline, skipped } = parts;
        let mut peer = Self {
            reader,
            writer,
            receipts,
            commands,
            outbox,
            calls: Calls::default(),
            permissions: Permissions::default(),
            turn: Turn::Idle,
            memory,
            answer_deadline,
            complaints: Complaints::default(),
            odd: Oddities::default(),
            skipped,
        };
        // What was read during the boot.
        peer.outbox.reach(peer.reader.mark());
        peer
    }

    /// Goes on with a turn that another server began: tells the agent what it may not have been told.
    pub(super) fn resume(&mut self, turn: RunningTurn) {
        let RunningTurn { request, pieces, content, spoken: _, cancelling, open, answers } = turn;
        let id = prompt_id(request);
        self.writer.complete(pieces, turn::prompt(id, &self.memory.session, &content));
        self.calls.open(id, AGENT_METHOD_NAMES.session_prompt, Asker::Turn, None);
        self.permissions = Permissions::resumed(open);
        for (agent_id, option_id) in answers {
            self.writer.push(permission::answer(&agent_id, option_id));
        }
        self.turn = Turn::Running;
        if cancelling {
            self.cancel();
        }
    }

    /// Serves until the agent or the driver is gone.
    pub(super) async fn run(mut self) {
        let end = self.serve().await;
        debug!(end = ?end, odd = ?self.odd, cut_lines = self.reader.cut, "an agent's task ends");
        let Some(error) = end else { return };
        self.calls.fail_all(&error);
        // A driver that waits to send a command would never take the last events.
        drop(self.commands);
        self.outbox.finish(error).await;
    }

    /// Why the agent is gone, or none when the driver is.
    async fn serve(&mut self) -> Option<AgentError> {
        loop {
            let deadline = self.calls.next_deadline();
            tokio::select! {
                handed = self.outbox.hand_on() => handed.ok()?,
                () = self.writer.write_one(), if !self.writer.is_empty() => {}
                command = self.commands.recv(), if self.takes_commands() => self.obey(command?),
                () = self.receipts.come(), if self.receipts.are_due() => self.outbox.reach(self.reader.mark()),
                heard = self.reader.next(), if self.listens() => match heard {
                    Ok(heard) => self.hear_chunk(heard),
                    Err(end) => return Some(end),
                },
                allowed = turn::may_go(&mut self.turn) => self.begin_turn(allowed),
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    self.calls.expire(Instant::now());
                }
            }
        }
    }

    fn listens(&self) -> bool {
        self.outbox.is_empty() && !self.receipts.are_due() && self.writer.len() < ANSWER_BACKLOG
    }

    fn takes_commands(&self) -> bool {
        !matches!(self.turn, Turn::Planned { .. })
            && self.writer.len() < COMMAND_BACKLOG
            && self.calls.len() < CALL_LIMIT
            && !self.calls.opening_session()
    }

    fn obey(&mut self, command: AgentCommand) {
        match command {
            AgentCommand::OpenSession { workspace, reply } => self.open_session(&workspace, reply),
            AgentCommand::SetMode { mode, reply } => {
                let params = SetSessionModeRequest::new(self.memory.session.clone(), mode);
                self.set(AGENT_METHOD_NAMES.session_set_mode, &params, reply);
            }
            AgentCommand::SetModel { model, reply } => {
                let params = json!({ "sessionId": self.memory.session, "modelId": model });
                self.set(SESSION_SET_MODEL, &params, reply);
            }
            AgentCommand::Prompt { request, content, planned, go } => self.plan(request, &content, planned, go),
            AgentCommand::Cancel => self.cancel(),
            AgentCommand::Probe { deadline, reply } => {
                self.ask(probe::PING, &json!({}), Asker::Probe(reply), Some(deadline));
            }
            AgentCommand::AnswerPermission { request, option_id } => {
                match self.permissions.answer(request, option_id) {
                    Some(answer) => self.writer.push(answer),
                    None => debug!(request, "a permission that isn't open was answered"),
                }
            }
        }
    }

    fn open_session(&mut self, workspace: &str, reply: Reply<Value>) {
        if !matches!(self.turn, Turn::Idle) {
            let error = AgentError::Protocol("a turn is running".to_owned());
            // The driver may have gone meanwhile.
            drop(reply.send(Err(error)));
            return;
        }
        let call = AGENT_METHOD_NAMES.session_new;
        self.ask(call, &NewSessionRequest::new(workspace), Asker::Session(reply), Some(self.answer_deadline));
    }

    fn set(&mut self, call: &'static str, params: &impl Serialize, reply: Reply) {
        self.ask(call, params, Asker::Setting { call, reply }, Some(self.answer_deadline));
    }

    fn plan(&mut self, request: u64, content: &[Value], planned: oneshot::Sender<Pieces>, go: oneshot::Receiver<()>) {
        if !matches!(self.turn, Turn::Idle) {
            warn!("a prompt was dropped: a turn is running");
            return;
        }
        let id = prompt_id(request);
        let pieces = self.writer.plan(turn::prompt(id, &self.memory.session, content));
        self.turn = Turn::Planned { id, go };
        // A driver that has gone meanwhile will not say go either.
        let _gone = planned.send(pieces);
    }

    fn begin_turn(&mut self, allowed: Allowed) {
        let Allowed { id, go } = allowed;
        if go {
            self.turn = Turn::Running;
            self.calls.open(id, AGENT_METHOD_NAMES.session_prompt, Asker::Turn, None);
            self.writer.go();
        } else {
            self.turn = Turn::Idle;
            self.writer.take_back();
        }
        if self.receipts.are_due() {
            // What we answered behind the prompt has a number now.
            self.receipts.owe(self.writer.last_piece());
        }
    }

    fn cancel(&mut self) {
        if !matches!(self.turn, Turn::Running) {
            return;
        }
        self.turn = Turn::Cancelling;
        let params = CancelNotification::new(self.memory.session.clone());
        self.writer.push(message::notification(AGENT_METHOD_NAMES.session_cancel, &params));
        self.cancel_permissions();
    }

    fn cancel_permissions(&mut self) {
        for answer in self.permissions.cancel_all() {
            self.writer.push(answer);
        }
    }

    fn ask(&mut self, call: &'static str, params: &impl Serialize, asker: Asker, allowed: Option<Duration>) {
        let id = call_id(self.writer.next_piece());
        self.calls.open(id, call, asker, allowed);
        self.writer.push(message::request(id, call, params));
    }

    /// Hears what has come and the rest of its chunk, as far as the driver takes the events. The rest is bounded, and a command that waits
    /// meanwhile waits for what is a moment for us.
    fn hear_chunk(&mut self, first: Heard) {
        let mut next = Some(first);
        while let Some(heard) = next {
            self.hear(heard);
            if self.receipts.are_due() {
                break;
            }
            self.outbox.reach(self.reader.mark());
            let goes_on = self.outbox.takes_more() && self.writer.len() < ANSWER_BACKLOG;
            next = if goes_on { self.reader.next_at_hand() } else { None };
        }
        self.outbox.hand_on_now();
    }

    /// Answers a request of the agent that nobody else hears of.
    fn answer_ourselves(&mut self, answer: Bytes) {
        self.writer.push(answer);
        let planned = matches!(self.turn, Turn::Planned { .. });
        self.receipts.owe(if planned { u64::MAX } else { self.writer.last_piece() });
    }

    fn hear(&mut self, heard: Heard) {
        let line = match heard {
            Heard::Line(line) => line,
            Heard::Nothing => return,
            Heard::Log(text) if self.complaints.take(&text) => return,
            Heard::Log(text) => return self.outbox.push(AgentEvent::Log { stream: Stream::Stderr, text }),
        };
        match Message::parse(&line) {
            Message::Answer { id, result } => self.answered(id, result),
            Message::Request { id, method, params } => self.asked(id, &method, params),
            Message::Notification { method, params } => self.told(method, params),
            Message::Other => {
                self.odd.other_lines += 1;
                self.skipped.count();
                let text = readable(&line, LOG_LINE_LIMIT);
                self.outbox.push(AgentEvent::Log { stream: Stream::Stdout, text });
            }
        }
    }

    fn answered(&mut self, id: Option<u64>, result: Result<Value, String>) {
        match id.and_then(|id| self.calls.close(id)) {
            Some(Asker::Turn) => self.turn_over(result),
            Some(Asker::Session(reply)) => {
                let call = AGENT_METHOD_NAMES.session_new;
                let opened = result.map_err(|message| AgentError::Refused { call, message });
                let opened = opened.and_then(|answer| session_id(&answer)).map(|session| self.change_session(session));
                drop(reply.send(opened));
            }
            Some(Asker::Setting { call, reply }) => {
                drop(reply.send(result.map(drop).map_err(|message| AgentError::Refused { call, message })));
            }
            // A refusal is an answer.
            Some(Asker::Probe(reply)) => drop(reply.send(Ok(()))),
            None => self.odd.late_answers += 1,
        }
    }

    fn change_session(&mut self, session: String) -> Value {
        self.memory.change(session);
        self.cancel_permissions();
        self.memory.value()
    }

    fn turn_over(&mut self, result: Result<Value, String>) {
        self.turn = Turn::Idle;
        self.cancel_permissions();
        let call = AGENT_METHOD_NAMES.session_prompt;
        let stopped = result.map(|answer| answer["stopReason"].as_str().map(str::to_owned));
        self.outbox.push(match stopped {
            Ok(Some(stop_reason)) => AgentEvent::TurnEnded { stop_reason },
            Ok(None) => AgentEvent::TurnFailed(AgentError::Protocol("its turn ended without a stop reason".to_owned())),
            Err(message) => AgentEvent::TurnFailed(AgentError::Refused { call, message }),
        });
    }

    fn asked(&mut self, id: Value, method: &str, mut params: Value) {
        if method != CLIENT_METHOD_NAMES.session_request_permission {
            self.odd.refused_requests += 1;
            return self.answer_ourselves(message::refusal(&id, method));
        }
        if matches!(self.turn, Turn::Cancelling) || self.is_stale(&params) {
            return self.answer_ourselves(permission::cancelled(&id));
        }
        match self.permissions.open(id.clone()) {
            Ok(request) => self.outbox.push(AgentEvent::PermissionRequested {
                request,
                agent_id: id,
                options: update::permission_options(&params),
                tool_call: update::fields(taken(&mut params, "toolCall")),
            }),
            Err(answer) => self.answer_ourselves(answer),
        }
    }

    fn told(&mut self, method: String, mut params: Value) {
        if self.is_stale(&params) {
            self.odd.stale_updates += 1;
        } else if method == CLIENT_METHOD_NAMES.session_update {
            self.outbox.push(update::event(taken(&mut params, "update")));
        } else {
            self.outbox.push(update::unknown(method, params));
        }
    }

    /// Whether this is about a session that was left.
    fn is_stale(&self, params: &Value) -> bool {
        params["sessionId"].as_str().is_some_and(|session| self.memory.is_former(session))
    }
}

/// A field, or null where there is none; an agent may send anything.
fn taken(params: &mut Value, field: &str) -> Value {
    params.get_mut(field).map(Value::take).unwrap_or_default()
}
