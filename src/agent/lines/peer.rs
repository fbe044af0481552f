//! A running line-oriented program: the one task that owns its pipes and its turn.
//!
//! ```text
//!           prompt              first line              result, error or quiet time
//!   idle ───────────▶ waiting ─────────────▶ speaking ─────────────────────────────▶ idle
//!                        │                      │
//!                        └───────── cancel ─────┴──▶ the same two, but thrown away; a next prompt waits
//! ```
//!
//! As in the other protocol, the next line is read only when the events of the last are handed on, and commands are served meanwhile.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tracing::{debug, warn};

use super::line::{self, Meaning};
use crate::{
    agent::{
        AgentCommand, AgentError, AgentEvent, Pieces, RunningTurn,
        framing::{LOG_LINE_LIMIT, readable},
        outbox::Outbox,
        wire::{Heard, Reader, Writer},
    },
    sandbox::pipes::Stream,
};

/// Commands wait when this many pieces wait to be written.
const COMMAND_BACKLOG: usize = 32;

/// Where the turn is.
#[derive(Debug)]
enum Turn {
    Idle,
    /// A prompt was sent.
    Open {
        /// When it last said something; none before its first line.
        spoke: Option<Instant>,
        heeded: Heeded,
    },
}

/// What becomes of what the program says.
#[derive(Debug)]
enum Heeded {
    /// It is handed on.
    Yes,
    /// The turn was cancelled: it is thrown away. The prompt that waits for its end.
    No { next: Option<Bytes> },
}

/// The owner of a running program.
#[derive(Debug)]
pub(super) struct Peer {
    reader: Reader,
    writer: Writer,
    commands: mpsc::Receiver<AgentCommand>,
    /// Reading waits for it to be empty.
    outbox: Outbox,
    /// Since when events wait, and nobody listens to the program.
    deaf_since: Instant,
    turn: Turn,
    planned: Option<Planned>,
    quiet_time: Duration,
}

/// A prompt that may not be written yet.
#[derive(Debug)]
struct Planned {
    /// None if there is nothing in it that could be written.
    prompt: Option<Bytes>,
    go: oneshot::Receiver<()>,
}

/// A line for people.
pub(super) fn log(heard: Heard) -> Option<AgentEvent> {
    match heard {
        Heard::Line(line) => Some(AgentEvent::Log { stream: Stream::Stdout, text: readable(&line, LOG_LINE_LIMIT) }),
        Heard::Log(text) => Some(AgentEvent::Log { stream: Stream::Stderr, text }),
        Heard::Nothing => None,
    }
}

impl Peer {
    pub(super) fn new(
        reader: Reader,
        writer: Writer,
        commands: mpsc::Receiver<AgentCommand>,
        outbox: Outbox,
        quiet_time: Duration,
    ) -> Self {
        let mut peer = Self {
            reader,
            writer,
            commands,
            outbox,
            deaf_since: Instant::now(),
            turn: Turn::Idle,
            planned: None,
            quiet_time,
        };
        // What was read while it settled.
        peer.outbox.reach(peer.reader.mark());
        peer
    }

    /// Goes on with a turn that another server began. The quiet time begins anew, if the program has said something: one that hasn't may think
    /// as long as ever.
    pub(super) fn resume(&mut self, turn: Option<RunningTurn>, after_cancel: bool) {
        // The rest of a cancelled turn is thrown away, up to its result or its silence; a prompt that wasn't sent waits for that.
        let thrown_away = |next| Turn::Open { spoke: Some(Instant::now()), heeded: Heeded::No { next } };
        let Some(RunningTurn { pieces, content, spoken, cancelling, request: _, open: _, answers: _ }) = turn else {
            if after_cancel {
                self.turn = thrown_away(None);
            }
            return;
        };
        if pieces.last < pieces.first {
            return self.refuse();
        }
        let unsent = self.writer.next_piece() <= pieces.first;
        // A prompt that is there may not be known any more.
        match line::prompt(&content) {
            Some(prompt) if unsent && after_cancel => self.turn = thrown_away(Some(prompt)),
            prompt => {
                self.turn = Turn::Open { spoke: spoken.then(Instant::now), heeded: Heeded::Yes };
                if let Some(prompt) = prompt {
                    self.writer.complete(pieces, prompt);
                }
            }
        }
        if cancelling {
            self.cancel();
        }
    }

    /// Serves until the program or the driver is gone.
    pub(super) async fn run(mut self) {
        let end = self.serve().await;
        debug!(end = ?end, cut_lines = self.reader.cut, "an agent's task ends");
        let Some(error) = end else { return };
        // A driver that waits to send a command would never take the last events.
        drop(self.commands);
        self.outbox.finish(error).await;
    }

    /// Why the program is gone, or none when the driver is.
    async fn serve(&mut self) -> Option<AgentError> {
        loop {
            let quiet = self.quiet_at();
            tokio::select! {
                // In this order, so that a line which is there counts before the quiet time.
                biased;
                handed = self.outbox.hand_on() => {
                    handed.ok()?;
                    self.listen_again();
                }
                () = self.writer.write_one(), if !self.writer.is_empty() => {}
                allowed = may_go(&mut self.planned) => self.begin_turn(allowed),
                command = self.commands.recv(), if self.planned.is_none() && self.writer.len() < COMMAND_BACKLOG => {
                    self.obey(command?);
                }
                heard = self.reader.next(), if self.outbox.is_empty() => match heard {
                    Ok(heard) => self.hear_chunk(heard),
                    Err(end) => return Some(end),
                },
                () = sleep_until(quiet.unwrap_or_else(Instant::now)), if quiet.is_some() => self.turn_over(None),
            }
        }
    }

    /// When the turn ends for lack of words; never while events wait, for then nobody listens.
    fn quiet_at(&self) -> Option<Instant> {
        match self.turn {
            Turn::Open { spoke: Some(spoke), .. } if self.outbox.is_empty() => Some(spoke + self.quiet_time),
            _ => None,
        }
    }

    /// Puts an event behind those that wait.
    fn say(&mut self, event: AgentEvent) {
        if self.outbox.is_empty() {
            self.deaf_since = Instant::now();
        }
        self.outbox.push(event);
    }

    /// An event was handed on. The time nobody listened is no silence.
    fn listen_again(&mut self) {
        let deaf = self.deaf_since.elapsed();
        if let Turn::Open { spoke: Some(spoke), .. } = &mut self.turn {
            *spoke += deaf;
        }
        self.deaf_since = Instant::now();
    }

    fn obey(&mut self, command: AgentCommand) {
        let refused = |call: &'static str, why: &str| AgentError::Refused { call, message: why.to_owned() };
        let no_such_thing = "a line-oriented program has none";
        // In the replies below, a driver that has gone meanwhile is no loss.
        match command {
            AgentCommand::OpenSession { reply, .. } => drop(reply.send(Ok(Value::Null))),
            AgentCommand::SetMode { reply, .. } => drop(reply.send(Err(refused("mode", no_such_thing)))),
            AgentCommand::SetModel { reply, .. } => drop(reply.send(Err(refused("model", no_such_thing)))),
            AgentCommand::Prompt { content, planned, go, request: _ } => self.plan(&content, planned, go),
            AgentCommand::Cancel => self.cancel(),
            // There is nothing it could be asked; that it hasn't exited is all there is to know.
            AgentCommand::Probe { reply, .. } => drop(reply.send(Ok(()))),
            AgentCommand::AnswerPermission { request, .. } => {
                debug!(request, "a permission that isn't open was answered")
            }
        }
    }

    fn plan(&mut self, content: &[Value], planned: oneshot::Sender<Pieces>, go: oneshot::Receiver<()>) {
        if !matches!(self.turn, Turn::Idle | Turn::Open { heeded: Heeded::No { next: None }, .. }) {
            warn!("a prompt was dropped: a turn is running");
            return;
        }
        let prompt = line::prompt(content);
        // Prompts are all that is ever written, so the numbers hold.
        let pieces = self.writer.pieces_of(prompt.as_ref().map_or(0, Bytes::len));
        self.planned = Some(Planned { prompt, go });
        // A driver that has gone meanwhile will not say go either.
        let _gone = planned.send(pieces);
    }

    fn begin_turn(&mut self, allowed: bool) {
        let Some(Planned { prompt, .. }) = self.planned.take().filter(|_| allowed) else { return };
        match (prompt, &mut self.turn) {
            (None, _) => self.refuse(),
            (Some(prompt), Turn::Open { heeded: Heeded::No { next }, .. }) => *next = Some(prompt),
            (Some(prompt), _) => self.send(prompt),
        }
    }

    fn refuse(&mut self) {
        let message = "a line-oriented program takes text only".to_owned();
        self.say(AgentEvent::TurnFailed(AgentError::Refused { call: "prompt", message }));
    }

    fn send(&mut self, prompt: Bytes) {
        self.turn = Turn::Open { spoke: None, heeded: Heeded::Yes };
        self.writer.push(prompt);
    }

    fn cancel(&mut self) {
        let Turn::Open { heeded, .. } = &mut self.turn else { return };
        // Nothing to end when the former turn was cancelled and no prompt waits.
        if !matches!(heeded, Heeded::No { next: None }) {
            *heeded = Heeded::No { next: None };
            self.say(AgentEvent::TurnEnded { stop_reason: "cancelled".to_owned() });
        }
    }

    /// Hears what has come and the rest of its chunk, as far as the driver takes the events.
    fn hear_chunk(&mut self, first: Heard) {
        let mut next = Some(first);
        while let Some(heard) = next {
            self.hear(heard);
            self.outbox.reach(self.reader.mark());
            next = if self.outbox.takes_more() { self.reader.next_at_hand() } else { None };
        }
        self.outbox.hand_on_now();
    }

    fn hear(&mut self, heard: Heard) {
        let line = match (&mut self.turn, heard) {
            (Turn::Open { spoke, .. }, Heard::Line(line)) => {
                *spoke = Some(Instant::now());
                line
            }
            (_, heard) => {
                if let Some(event) = log(heard) {
                    self.say(event);
                }
                return;
            }
        };
        let heeded = matches!(self.turn, Turn::Open { heeded: Heeded::Yes, .. });
        let event = match line::meaning(&line) {
            Meaning::Result(last) => {
                if let Some(last) = last.filter(|_| heeded) {
                    self.say(AgentEvent::Message(last));
                }
                return self.turn_over(None);
            }
            Meaning::Error(message) => return self.turn_over(Some(AgentError::Refused { call: "prompt", message })),
            Meaning::Message(block) => AgentEvent::Message(block),
            Meaning::Thought(block) => AgentEvent::Thought(block),
            Meaning::Update(raw) => AgentEvent::Update(raw),
        };
        if heeded {
            self.say(event);
        }
    }

    fn turn_over(&mut self, failure: Option<AgentError>) {
        match std::mem::replace(&mut self.turn, Turn::Idle) {
            Turn::Open { heeded: Heeded::Yes, .. } => self.say(match failure {
                Some(error) => AgentEvent::TurnFailed(error),
                None => AgentEvent::TurnEnded { stop_reason: "end_turn".to_owned() },
            }),
            Turn::Open { heeded: Heeded::No { next: Some(next) }, .. } => self.send(next),
            Turn::Open { .. } | Turn::Idle => {}
        }
    }
}

/// Waits for the driver's word on a planned prompt; for ever if there is none. Dropping the future loses nothing.
async fn may_go(planned: &mut Option<Planned>) -> bool {
    match planned {
        Some(planned) => (&mut planned.go).await.is_ok(),
        None => std::future::pending().await,
    }
}
