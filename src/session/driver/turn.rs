//! Turns: the driver's part between a prompt and its end.
//!
//! ```text
//!   Command::Prompt ─► planned: the agent's task says which pieces of input the prompt will be
//!                         │ turn.started, with the pieces, is written
//!                         ▼ durable
//!                      sent ─► running ─► turn.ended or turn.failed
//! ```

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{sync::oneshot, time::Instant};
use tracing::{Span, field, info_span};

use super::{Driver, End, clock::Due, journal::Then};
use crate::{
    agent::{AgentCommand, Pieces},
    ids::TurnId,
    problem::Code,
    session::{
        SessionHandle,
        event::EventType,
        policy::{Refusal, Request, Stage},
        record,
        status::{EndReason, Status, Tokens, Turn, TurnState},
        translate,
    },
    store::Change,
    telemetry::labels::TurnOutcome,
};

/// The turn that runs.
#[derive(Debug)]
pub(super) struct RunningTurn {
    pub(super) id: TurnId,
    begun: Instant,
    /// `turn.prompt`, from the prompt to the end.
    span: Span,
    /// `turn.stream`, from the first output to the end.
    stream: Option<Span>,
    /// A deadline or a limit asked it to end; it then fails instead of being cancelled.
    overdue: Option<(Code, String)>,
    /// Its last model call was refused, for a reason that stays: whatever the agent makes of it, the turn has failed.
    pub(super) refused: Option<(Code, String)>,
}

impl RunningTurn {
    /// The turn that ran when a former server left.
    pub(super) fn taken_up(session: &SessionHandle, status: &Status) -> Option<Self> {
        let turn = status.running()?;
        let span = info_span!(
            parent: None, "turn.prompt", session.id = %session.id, template = %session.identity.template,
            turn.id = %turn.id, turn.outcome = field::Empty
        );
        let overdue = turn.overdue.clone().map(|why| (Code::AgentTimeout, why));
        Some(Self { id: turn.id.clone(), begun: Instant::now(), span, stream: None, overdue, refused: None })
    }
}

/// A prompt that the agent's task prepares.
#[derive(Debug)]
pub(super) struct Planned {
    id: TurnId,
    content: Vec<Value>,
    span: Span,
    also: Vec<Change>,
    reply: oneshot::Sender<Result<Turn, Refusal>>,
    number: u64,
    pieces: oneshot::Receiver<Pieces>,
    go: oneshot::Sender<()>,
}

impl Planned {
    /// It comes to nothing.
    pub(super) fn refuse(self, refusal: Refusal) {
        let _caller_may_have_left = self.reply.send(Err(refusal));
    }
}

/// Waits for the plan of a prompt; none if the agent's task has ended. Safe to drop.
pub(super) async fn plan(planned: &mut Option<Planned>) -> Option<Pieces> {
    match planned {
        Some(planned) => (&mut planned.pieces).await.ok(),
        None => std::future::pending().await,
    }
}

impl Driver {
    /// A prompt may be sent: the agent's task is asked for its place in the input.
    pub(super) fn plan_turn(
        &mut self,
        id: TurnId,
        content: Vec<Value>,
        span: Span,
        also: Vec<Change>,
        reply: oneshot::Sender<Result<Turn, Refusal>>,
    ) {
        let number = self.session.with_status(|status| status.turn_count) + 1;
        let (planned, pieces) = oneshot::channel();
        let (go, may_go) = oneshot::channel();
        self.tell(AgentCommand::Prompt { request: number, content: content.clone(), planned, go: may_go });
        self.planned = Some(Planned { id, content, span, also, reply, number, pieces, go });
        self.clock.prompt_is_planned();
    }

    pub(super) fn prompt_is_planned(&mut self, pieces: Option<Pieces>) {
        let Some(planned) = self.planned.take() else { return };
        match pieces {
            Some(pieces) => self.begin_turn(planned, pieces),
            // The agent is gone; it says so itself.
            None => {
                planned.refuse(Refusal::Ended);
                self.session.with_status(|status| self.clock.turn_is_over(status));
            }
        }
    }

    fn begin_turn(&mut self, planned: Planned, pieces: Pieces) {
        let Planned { id, content, span, also, reply, number, pieces: _, go } = planned;
        span.record("turn.id", id.as_str());
        let begun = Instant::now();
        self.turn = Some(RunningTurn { id: id.clone(), begun, span, stream: None, overdue: None, refused: None });
        let now = Timestamp::now();
        let content = json!({"turn_id": id, "prompt": content});
        let first_seq = self.journal.event(EventType::TurnStarted, Some(&id), &content);
        let turn = Turn {
            number,
            id,
            state: TurnState::Running,
            tokens: Tokens::default(),
            first_seq,
            last_seq: None,
            created_at: now,
            pieces,
            cancelling: false,
            overdue: None,
        };
        self.journal.change(record::turn(&self.session.id, &turn));
        for change in also {
            self.journal.change(change);
        }
        {
            let mut status = self.session.locked();
            status.stage = Stage::Turn { cancelling: false };
            status.last_active_at = now;
            status.add_turn(turn.clone());
        }
        self.journal.session_changed();
        self.journal.then(Then::Send(go));
        self.clock.prompt_waits();
        self.journal.answer(reply, Ok(turn));
    }

    /// Notes that the agent said something of its own.
    pub(super) fn first_output(&mut self) {
        if let Some(turn) = self.turn.as_mut().filter(|turn| turn.stream.is_none()) {
            self.clock.turn_speaks();
            turn.stream = Some(info_span!(parent: &turn.span, "turn.stream", turn.id = %turn.id));
            self.metrics.turn_first_output(&self.session.identity.template, turn.begun.elapsed());
        }
    }

    /// Asks the agent to end its turn: the user wants it (`by` is `user`), a deadline (`timeout`) or a limit (`policy`).
    pub(super) fn cancel_turn(&mut self, by: &'static str) {
        let overdue = self.turn.as_ref().and_then(|turn| turn.overdue.as_ref()).map(|(_, why)| why.clone());
        let changed = {
            let mut status = self.session.locked();
            let already = std::mem::replace(&mut status.stage, Stage::Turn { cancelling: true });
            status.running_mut().filter(|_| already != Stage::Turn { cancelling: true }).map(|turn| {
                turn.cancelling = true;
                turn.overdue = overdue;
                record::turn(&self.session.id, turn)
            })
        };
        // A second cancel neither asks again nor gives the agent more time.
        if let Some(changed) = changed {
            self.journal.change(changed);
            self.journal.then(Then::Tell(AgentCommand::Cancel));
            self.clock.turn_is_cancelled();
            self.resolve_all(by);
        }
    }

    /// The turn is over: with a stop reason, or with a failure.
    pub(super) fn end_turn(&mut self, outcome: Result<String, (Code, String)>) {
        self.take_reports();
        self.resolve_all("policy");
        let Some(RunningTurn { id, begun, span, overdue, refused, stream: _ends_here }) = self.turn.take() else {
            return;
        };
        let outcome = overdue.map_or_else(|| explained(outcome, refused), Err);
        let tokens = self.session.with_status(|status| status.running().map(|turn| turn.tokens)).unwrap_or_default();
        let (kind, content) = match &outcome {
            Ok(reason) => (EventType::TurnEnded, json!({"stop_reason": reason, "usage": translate::tokens(tokens)})),
            Err((code, detail)) => (EventType::TurnFailed, translate::problem(*code, detail)),
        };
        let last_seq = self.journal.event(kind, Some(&id), &content);
        let changed = {
            let mut status = self.session.locked();
            status.stage = Stage::Ready;
            status.last_active_at = Timestamp::now();
            let changed = status.running_mut().map(|turn| {
                turn.last_seq = Some(last_seq);
                turn.state = match &outcome {
                    Ok(stop_reason) => TurnState::Ended(stop_reason.clone()),
                    Err((code, detail)) => TurnState::Failed(*code, detail.clone()),
                };
                record::turn(&self.session.id, turn)
            });
            self.clock.turn_is_over(&status);
            changed
        };
        if let Some(changed) = changed {
            self.journal.change(changed);
        }
        self.journal.session_changed();
        let counted = outcome
            .as_ref()
            .map_or_else(|(code, _)| TurnOutcome::Failed(*code), |reason| TurnOutcome::from_stop_reason(reason));
        span.record("turn.outcome", counted.as_str());
        self.metrics.turn_ended(&self.session.identity.template, counted, begun.elapsed());
    }

    /// A deadline passed.
    pub(super) fn on_time(&mut self) -> Option<End> {
        let due = self.clock.due()?;
        // While the store can't keep up the agent isn't heard, and isn't told: it may have done all that was asked.
        let cut_off = !self.journal.has_room() || self.journal.keeps_from_agent();
        if cut_off && matches!(due, Due::FirstOutput | Due::Turn | Due::Kill) {
            self.clock.postpone();
            return None;
        }
        match due {
            Due::Permission(id) => {
                self.time_out(&id);
                None
            }
            // Its task doesn't even take the prompt.
            Due::FirstOutput if self.planned.is_some() => Some(End::stuck()),
            Due::FirstOutput => self.overdue("the agent said nothing in time"),
            Due::Turn => self.overdue("the turn took too long"),
            // The turn ends as what it was asked to end for: overdue, or cancelled.
            Due::Kill => {
                Some(End::new(EndReason::AgentExited, "the agent did not end its turn when asked and was killed"))
            }
            Due::Idle => {
                let allowed = self.decide(Request::EndIdle);
                allowed.ok().map(|()| End::new(EndReason::Idle, "nobody used it for too long"))
            }
            Due::Expired => Some(End {
                turn: Some((Code::ResourceLimit, "the session reached its maximum age".to_owned())),
                ..End::new(EndReason::Expired, "it reached its maximum age")
            }),
        }
    }

    /// The turn takes more than it may. One that is to end already ends as what it was asked to end for.
    pub(super) fn overrun(&mut self, why: String) {
        let ending = self.session.with_status(|status| status.stage == Stage::Turn { cancelling: true });
        if let Some(turn) = self.turn.as_mut().filter(|_| !ending) {
            turn.overdue = Some((Code::ResourceLimit, why));
            self.cancel_turn("policy");
        }
    }

    fn overdue(&mut self, why: &str) -> Option<End> {
        if let Some(turn) = self.turn.as_mut() {
            turn.overdue = Some((Code::AgentTimeout, why.to_owned()));
        }
        self.cancel_turn("timeout");
        None
    }
}

/// How a turn ended whose last model call may have been refused. What somebody asked for, or what ended the session, needs no other reason.
fn explained(
    outcome: Result<String, (Code, String)>,
    refused: Option<(Code, String)>,
) -> Result<String, (Code, String)> {
    match (&outcome, refused) {
        (Err((Code::AgentFailed, _)), Some(refused)) => Err(refused),
        (Ok(reason), Some(refused)) if reason != "cancelled" => Err(refused),
        _ => outcome,
    }
}
