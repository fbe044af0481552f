//! What has to be said at a session's end, also when its driver could not say it.

use std::sync::Arc;

use tracing::error;

use crate::{
    problem::Code,
    session::{
        ending,
        policy::Stage,
        registry::{Registry, SessionHandle},
        status::EndReason,
    },
};

const DETAIL: &str = "something went wrong on our side";

/// Dropped when the driver is done or gone. A driver that panicked has left its session in some state: nobody may take it for alive.
pub(super) struct Epilogue {
    session: Arc<SessionHandle>,
    registry: Arc<Registry>,
    handed_over: bool,
}

impl Epilogue {
    pub(super) const fn new(session: Arc<SessionHandle>, registry: Arc<Registry>) -> Self {
        Self { session, registry, handed_over: false }
    }

    /// The session goes on, with the next server.
    pub(super) fn handed_over(mut self) {
        self.handed_over = true;
    }

    fn end_what_was_left(&self) {
        if self.session.with_status(|status| status.stage) == Stage::Ended {
            return;
        }
        error!(session.id = %self.session.id, "the driver of a session ended without a word");
        let mut batch = self.session.log.batch();
        ending::fail_turn(&self.session, &mut batch, Code::Internal, DETAIL);
        ending::end(&self.session, &mut batch, EndReason::SandboxLost, DETAIL.to_owned());
        self.session.log.write(&mut batch);
    }
}

impl Drop for Epilogue {
    fn drop(&mut self) {
        if !self.handed_over {
            self.end_what_was_left();
            self.registry.ended(&self.session);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;
    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        agent::Pieces,
        ids::{SessionId, TurnId, UserId},
        log::EventLog,
        session::{
            event::EventType,
            status::{Identity, Preferences, Status, Tokens, Turn, TurnState},
        },
        store::{AnyStore, fake::Fake},
        telemetry::SessionAudit,
    };

    fn session() -> (Arc<SessionHandle>, Arc<Registry>) {
        let (id, store): (_, AnyStore) = (SessionId::random(), Fake::new());
        let identity = Identity::sample(UserId::parse("alice").expect("a good id"));
        let log = EventLog::new(id.clone(), Arc::clone(&store), usize::MAX);
        let status = Status::new(Preferences::sample());
        let session =
            Arc::new(SessionHandle::new(id, identity, status, log, SessionAudit::default(), mpsc::channel(1).0));
        (session, Registry::new(Duration::from_secs(60), store))
    }

    async fn kinds(session: &SessionHandle) -> Vec<EventType> {
        session.log.read(0, 10).await.expect("kept").iter().map(|event| event.kind).collect()
    }

    fn with_a_turn(session: &SessionHandle) {
        session.locked().stage = Stage::Turn { cancelling: false };
        session.locked().add_turn(Turn {
            number: 1,
            id: TurnId::random(),
            state: TurnState::Running,
            tokens: Tokens::default(),
            first_seq: 1,
            last_seq: None,
            created_at: Timestamp::now(),
            pieces: Pieces { first: 1, last: 1 },
            cancelling: false,
            overdue: None,
        });
    }

    #[tokio::test]
    async fn a_session_whose_driver_panicked_is_over_and_says_so() {
        let (session, registry) = session();
        with_a_turn(&session);
        drop(Epilogue::new(Arc::clone(&session), registry));
        assert_eq!(kinds(&session).await, [EventType::TurnFailed, EventType::SessionEnded]);
        session.with_status(|status| {
            assert_eq!(status.stage, Stage::Ended);
            assert!(status.running().is_none() && status.end.is_some());
        });
    }

    #[tokio::test]
    async fn a_session_that_ended_well_or_was_handed_over_is_left_as_it_is() {
        let (ended, registry) = session();
        ended.locked().stage = Stage::Ended;
        drop(Epilogue::new(Arc::clone(&ended), registry));
        assert_eq!(kinds(&ended).await, []);
        let (left, registry) = session();
        with_a_turn(&left);
        Epilogue::new(Arc::clone(&left), registry).handed_over();
        assert_eq!(kinds(&left).await, []);
    }
}
