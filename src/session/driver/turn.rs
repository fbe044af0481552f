//! Turns and permissions: the driver's part between a prompt and its end.

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{sync::oneshot, time::Instant};
use tracing::{Span, info_span};

use super::{Driver, End, clock::Due};
use crate::{
    agent::{AgentCommand, PermissionOption},
    ids::{PermissionId, TurnId},
    problem::Code,
    session::{
        event::EventType,
        policy::{Request, Stage},
        status::{EndReason, Permission, Tokens, Turn, TurnState},
        translate,
    },
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
    /// A deadline asked it to end; it then fails instead of being cancelled.
    overdue: Option<(Code, String)>,
}

impl Driver {
    pub(super) fn begin_turn(&mut self, content: Vec<Value>, span: Span) -> Turn {
        let id = TurnId::random();
        span.record("turn.id", id.as_str());
        let running = RunningTurn { id: id.clone(), begun: Instant::now(), span, stream: None, overdue: None };
        self.turn = Some(running);
        let now = Timestamp::now();
        let turn = {
            // Whoever has seen an event reads the status that goes with it: events are appended while the status is locked.
            let mut status = self.session.locked();
            let first_seq = self.append(EventType::TurnStarted, &json!({"turn_id": id, "prompt": content}));
            let turn = Turn {
                id,
                state: TurnState::Running,
                tokens: Tokens::default(),
                first_seq,
                last_seq: None,
                created_at: now,
            };
            status.stage = Stage::Turn { cancelling: false };
            status.last_active_at = now;
            status.add_turn(turn.clone());
            turn
        };
        self.clock.turn_begins();
        let (planned, _pieces) = oneshot::channel();
        let (allow, go) = oneshot::channel();
        let _waits_in_the_command = allow.send(());
        self.tell(AgentCommand::Prompt { request: turn.first_seq, content, planned, go });
        turn
    }

    /// Notes that the agent said something of its own.
    pub(super) fn first_output(&mut self) {
        self.clock.turn_speaks();
        if let Some(turn) = self.turn.as_mut().filter(|turn| turn.stream.is_none()) {
            turn.stream = Some(info_span!(parent: &turn.span, "turn.stream", turn.id = %turn.id));
            self.metrics.turn_first_output(&self.session.identity.template, turn.begun.elapsed());
        }
    }

    pub(super) fn cancel_turn(&mut self) {
        let already = {
            let mut status = self.session.locked();
            std::mem::replace(&mut status.stage, Stage::Turn { cancelling: true }) == Stage::Turn { cancelling: true }
        };
        // A second cancel neither asks again nor gives the agent more time.
        if !already {
            self.tell(AgentCommand::Cancel);
            self.clock.turn_is_cancelled();
            self.resolve_all("user");
        }
    }

    /// The turn is over: with a stop reason, or with a failure.
    pub(super) fn end_turn(&mut self, outcome: Result<String, (Code, String)>) {
        self.take_counts();
        self.resolve_all("policy");
        let Some(RunningTurn { id, begun, span, overdue, stream: _ends_here }) = self.turn.take() else { return };
        let outcome = overdue.map_or(outcome, Err);
        {
            let mut status = self.session.locked();
            let tokens = status.running().map(|turn| turn.tokens).unwrap_or_default();
            let (kind, content) = match &outcome {
                Ok(reason) => {
                    (EventType::TurnEnded, json!({"stop_reason": reason, "usage": translate::tokens(tokens)}))
                }
                Err((code, detail)) => (EventType::TurnFailed, translate::problem(*code, detail)),
            };
            let last_seq = self.session.log.append(kind, Some(&id), &content);
            status.stage = Stage::Ready;
            status.last_active_at = Timestamp::now();
            if let Some(turn) = status.running_mut() {
                turn.last_seq = Some(last_seq);
                turn.state = match &outcome {
                    Ok(stop_reason) => TurnState::Ended(stop_reason.clone()),
                    Err((code, detail)) => TurnState::Failed(*code, detail.clone()),
                };
            }
        }
        self.clock.turn_is_over();
        let counted = outcome
            .as_ref()
            .map_or_else(|(code, _)| TurnOutcome::Failed(*code), |reason| TurnOutcome::from_stop_reason(reason));
        span.record("turn.outcome", counted.as_str());
        self.metrics.turn_ended(&self.session.identity.template, counted, begun.elapsed());
    }

    /// The agent asks to be allowed something.
    pub(super) fn ask(&mut self, request: u64, tool_call: Value, options: Vec<PermissionOption>) {
        self.first_output();
        let cancelling = self.session.with_status(|status| status.stage == Stage::Turn { cancelling: true });
        let turn = self.turn.as_ref().map(|turn| turn.id.clone()).filter(|_| !cancelling);
        let Some(turn) = turn else {
            // Nobody's turn, or one that was asked to end: nobody can be asked.
            self.tell(AgentCommand::AnswerPermission { request, option_id: None });
            return;
        };
        let id = PermissionId::random();
        let content = json!({"permission_id": id, "tool_call": tool_call, "options": translate::options(&options)});
        let now = Timestamp::now();
        let patience = self.clock.permission_patience();
        let permission = Permission {
            turn,
            request,
            tool_call,
            options,
            requested_at: now,
            expires_at: now.checked_add(patience).unwrap_or(Timestamp::MAX),
        };
        self.session.locked().permissions.insert(id.clone(), permission);
        self.clock.permission_opens(id);
        self.append(EventType::PermissionRequested, &content);
    }

    /// Answers one open permission.
    pub(super) fn resolve(&mut self, id: &PermissionId, option_id: Option<String>, by: &str) {
        if let Some(permission) = self.settle(id, option_id.as_deref(), by) {
            self.tell(AgentCommand::AnswerPermission { request: permission.request, option_id });
        }
    }

    /// A permission has its answer: status, clock and log know.
    fn settle(&mut self, id: &PermissionId, option_id: Option<&str>, by: &str) -> Option<Permission> {
        let removed = {
            let mut status = self.session.locked();
            status.last_active_at = Timestamp::now();
            status.take_permission(id)
        };
        let permission = removed?;
        self.clock.permission_closes(id);
        let outcome = if option_id.is_some() { "selected" } else { "cancelled" };
        let content = json!({"permission_id": id, "outcome": outcome, "option_id": option_id, "by": by});
        self.append(EventType::PermissionResolved, &content);
        Some(permission)
    }

    /// All that are open are cancelled: the agent's protocol has told it so, with the cancel or with the turn's end.
    fn resolve_all(&mut self, by: &str) {
        let open: Vec<_> = self.session.with_status(|status| status.permissions.keys().cloned().collect());
        for id in open {
            let _known_to_the_agent = self.settle(&id, None, by);
        }
    }

    /// A deadline passed.
    pub(super) fn on_time(&mut self) -> Option<End> {
        match self.clock.due()? {
            Due::Permission(id) => {
                let denial = self.session.with_status(|status| status.permissions.get(&id).and_then(denial));
                self.resolve(&id, denial, "timeout");
                None
            }
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

    fn overdue(&mut self, why: &str) -> Option<End> {
        if let Some(turn) = self.turn.as_mut() {
            turn.overdue = Some((Code::AgentTimeout, why.to_owned()));
        }
        self.cancel_turn();
        None
    }
}

/// The gentlest "no" among the options.
fn denial(permission: &Permission) -> Option<String> {
    ["reject_once", "reject_always"].iter().find_map(|kind| {
        permission.options.iter().find(|option| option.kind == *kind).map(|option| option.option_id.clone())
    })
}
