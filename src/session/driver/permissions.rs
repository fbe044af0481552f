//! Permissions: the driver's part from an agent's request to its answer.
//!
//! A request is in the log, and so is its answer, before the agent hears it: whatever a crash comes between, what the agent was told is what
//! the log says. The policy in force answers by itself; what it leaves open waits for the user or the deadline.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Driver, journal::Then};
use crate::{
    agent::{AgentCommand, PermissionOption},
    ids::PermissionId,
    session::{
        event::EventType,
        permission::{Decision, decide},
        policy::Stage,
        record,
        status::Permission,
        translate,
    },
};

impl Driver {
    /// The agent asks to be allowed something.
    pub(super) fn ask(&mut self, request: u64, agent_id: Value, tool_call: Value, options: Vec<PermissionOption>) {
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
        self.journal.event(EventType::PermissionRequested, Some(&turn), &content);
        let now = Timestamp::now();
        let decision = self.session.with_status(|status| decide(&status.preferences.permissions, &tool_call, &options));
        let permission = Permission {
            number: self.session.with_status(|status| status.permission_count) + 1,
            id: id.clone(),
            turn,
            request,
            agent_id,
            tool_call,
            options,
            requested_at: now,
            expires_at: now.checked_add(self.clock.permission_patience()).unwrap_or(Timestamp::MAX),
            answer: None,
        };
        self.journal.change(record::permission(&self.session.id, &permission));
        self.session.locked().add_permission(permission);
        self.clock.permission_opens(id.clone());
        if let Decision::Answer(option_id) = decision {
            self.resolve(&id, option_id, "policy");
        }
    }

    /// Nobody answered in time.
    pub(super) fn time_out(&mut self, id: &PermissionId) {
        let denial = self.session.with_status(|status| status.permissions.get(id).and_then(denial));
        self.resolve(id, denial, "timeout");
    }

    /// Answers one open permission.
    pub(super) fn resolve(&mut self, id: &PermissionId, option_id: Option<String>, by: &'static str) {
        if let Some(request) = self.settle(id, option_id.clone(), by) {
            self.journal.then(Then::Tell(AgentCommand::AnswerPermission { request, option_id }));
        }
    }

    /// All that are open are cancelled: the agent's protocol has told it so, with the cancel or with the turn's end.
    pub(super) fn resolve_all(&mut self, by: &'static str) {
        let open: Vec<_> = self.session.with_status(|status| status.permissions.keys().cloned().collect());
        for id in open {
            let _known_to_the_agent = self.settle(&id, None, by);
        }
    }

    /// A permission has its answer: status, clock and log know. Gives the agent's number for it.
    fn settle(&mut self, id: &PermissionId, option_id: Option<String>, by: &'static str) -> Option<u64> {
        let removed = {
            let mut status = self.session.locked();
            status.last_active_at = Timestamp::now();
            status.take_permission(id)
        };
        let mut permission = removed?;
        self.clock.permission_closes(id);
        let content = translate::resolved(id, option_id.as_deref(), by);
        self.journal.event(EventType::PermissionResolved, Some(&permission.turn), &content);
        self.session.audit.permission_resolved(id, &permission.turn, by, permission.answer_kind(option_id.as_deref()));
        permission.answer = Some(option_id);
        self.journal.change(record::permission(&self.session.id, &permission));
        Some(permission.request)
    }
}

/// The gentlest "no" among the options.
fn denial(permission: &Permission) -> Option<String> {
    ["reject_once", "reject_always"].iter().find_map(|kind| {
        permission.options.iter().find(|option| option.kind == *kind).map(|option| option.option_id.clone())
    })
}
