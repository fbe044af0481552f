//! How a session ends in its log and its status, whoever ends it: its driver, what is left of a driver, or a server that can't take it up again.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::{
    SessionHandle,
    event::EventType,
    policy::Stage,
    record,
    status::{EndReason, TurnState},
    translate,
};
use crate::{gateway::Egress, log::Batch, problem::Code};

/// How long the end of a session waits to be written down before its sandbox goes all the same.
pub(super) const END_PATIENCE: Duration = Duration::from_secs(2);

/// A turn that nobody drives any more fails; what it had asked is answered by nobody.
pub(super) fn fail_turn(session: &SessionHandle, batch: &mut Batch, code: Code, detail: &str) {
    let mut status = session.locked();
    let Some(turn) = status.running().map(|turn| turn.id.clone()) else { return };
    let open: Vec<_> = status.permissions.keys().cloned().collect();
    for id in open {
        let Some(mut permission) = status.take_permission(&id) else { continue };
        permission.answer = Some(None);
        session.audit.permission_resolved(&id, &turn, "policy", "cancelled");
        let content = translate::resolved(&id, None, "policy");
        batch.event(&session.id, EventType::PermissionResolved, Some(&turn), &content);
        batch.change(record::permission(&session.id, &permission));
    }
    let content = translate::problem(code, detail);
    let last_seq = batch.event(&session.id, EventType::TurnFailed, Some(&turn), &content);
    if let Some(turn) = status.running_mut() {
        turn.last_seq = Some(last_seq);
        turn.state = TurnState::Failed(code, detail.to_owned());
        batch.change(record::turn(&session.id, turn));
    }
}

/// The session is over.
pub(super) fn end(session: &SessionHandle, batch: &mut Batch, reason: EndReason, detail: String) {
    let mut status = session.locked();
    let content = json!({"reason": reason.as_str(), "detail": detail});
    batch.event(&session.id, EventType::SessionEnded, None, &content);
    session.audit.ended(reason.as_str());
    status.stage = Stage::Ended;
    // It reaches nothing any more.
    status.egress = Egress::used(status.egress.traffic());
    status.end = Some((reason, detail));
    let bytes = session.log.bytes() + batch.bytes();
    batch.change(record::session(&session.id, &session.identity, &status, Some(Timestamp::now()), bytes));
}
