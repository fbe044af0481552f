//! What has to be said at a session's end, also when its driver could not say it.

use std::sync::Arc;

use serde_json::json;
use tracing::error;

use crate::{
    problem::Code,
    session::{
        event::EventType,
        policy::Stage,
        registry::{Registry, SessionHandle},
        status::{EndReason, TurnState},
        translate,
    },
};

const DETAIL: &str = "something went wrong on our side";

/// Dropped when the driver is done or gone. A driver that panicked has left its session in some state: nobody may take it for alive.
pub(super) struct Epilogue {
    pub(super) session: Arc<SessionHandle>,
    pub(super) registry: Arc<Registry>,
}

impl Drop for Epilogue {
    fn drop(&mut self) {
        self.end_what_was_left();
        self.registry.ended(&self.session);
    }
}

impl Epilogue {
    fn end_what_was_left(&self) {
        let mut status = self.session.locked();
        if status.stage == Stage::Ended {
            return;
        }
        error!(session.id = %self.session.id, "the driver of a session ended without a word");
        status.permissions.clear();
        if let Some(turn) = status.running_mut() {
            let content = translate::problem(Code::Internal, DETAIL);
            turn.last_seq = Some(self.session.log.append(EventType::TurnFailed, Some(&turn.id), &content));
            turn.state = TurnState::Failed(Code::Internal, DETAIL.to_owned());
        }
        let content = json!({"reason": EndReason::SandboxLost.as_str(), "detail": DETAIL});
        self.session.log.append(EventType::SessionEnded, None, &content);
        status.stage = Stage::Ended;
        status.end = Some((EndReason::SandboxLost, DETAIL.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;
    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        ids::{SessionId, TurnId, UserId},
        log::EventLog,
        session::status::{Identity, Tokens, Turn},
    };

    fn session() -> Arc<SessionHandle> {
        let id = SessionId::random();
        let identity = Identity::sample(UserId::parse("alice").expect("a good id"));
        let log = EventLog::new(id.clone(), usize::MAX);
        Arc::new(SessionHandle::new(id, identity, log, mpsc::channel(1).0))
    }

    fn kinds(session: &SessionHandle) -> Vec<EventType> {
        session.log.read(0, 10).expect("kept").iter().map(|event| event.kind).collect()
    }

    #[test]
    fn a_session_whose_driver_panicked_is_over_and_says_so() {
        let (session, registry) = (session(), Registry::new(Duration::from_secs(60)));
        session.locked().stage = Stage::Turn { cancelling: false };
        session.locked().add_turn(Turn {
            id: TurnId::random(),
            state: TurnState::Running,
            tokens: Tokens::default(),
            first_seq: 1,
            last_seq: None,
            created_at: Timestamp::now(),
        });
        drop(Epilogue { session: Arc::clone(&session), registry });
        assert_eq!(kinds(&session), [EventType::TurnFailed, EventType::SessionEnded]);
        session.with_status(|status| {
            assert_eq!(status.stage, Stage::Ended);
            assert!(status.running().is_none() && status.end.is_some());
        });
    }

    #[test]
    fn a_session_that_ended_well_is_left_as_it_is() {
        let (session, registry) = (session(), Registry::new(Duration::from_secs(60)));
        session.locked().stage = Stage::Ended;
        drop(Epilogue { session: Arc::clone(&session), registry });
        assert_eq!(kinds(&session), []);
    }
}
