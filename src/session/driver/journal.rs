//! What a driver writes down, and what follows once it is durable.
//!
//! Everything that happens in one step of the driver is one write. What others must not learn before that write is durable waits here: the agent's
//! supervisor is told to forget output, a prompt is sent, an answer is given. In this order nothing is lost and nothing happens twice, wherever
//! a crash comes: what isn't durable did not happen.

use std::{collections::VecDeque, sync::Arc};

use serde_json::Value;
use tokio::sync::{oneshot, watch};

use crate::{
    agent::{AgentCommand, Mark},
    gateway::Cost,
    ids::TurnId,
    log::{Batch, Tip},
    session::{SessionHandle, ending, event::EventType, record, status::EndReason},
    store::Change,
};

/// Event text that may be under way to the store; past it the agent is not heard, and so held back.
const UNDER_WAY_MAX: usize = 512 * 1024;

/// What follows a write.
#[derive(Debug)]
pub(super) enum Then {
    /// The supervisor may forget output up to this chunk.
    Forget(u64),
    /// A prompt may be sent.
    Send(oneshot::Sender<()>),
    /// The agent is told something.
    Tell(AgentCommand),
    /// Somebody who asked is answered.
    Answer(Answer),
    /// The gateway may forget that this was spent: the store knows.
    Written(Cost),
}

/// An answer that waits.
pub(super) struct Answer(Box<dyn FnOnce() + Send + Sync>);

impl Answer {
    /// The answer to whoever waits at `reply`.
    pub(super) fn new<T: Send + Sync + 'static>(reply: oneshot::Sender<T>, answer: T) -> Self {
        Self(Box::new(move || {
            let _caller_may_have_left = reply.send(answer);
        }))
    }

    /// Gives it.
    pub(super) fn give(self) {
        (self.0)();
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Answer")
    }
}

/// One session's journal. Only its driver has it.
#[derive(Debug)]
pub(super) struct Journal {
    session: Arc<SessionHandle>,
    batch: Batch,
    tip: watch::Receiver<Tip>,
    /// How far the agent was heard.
    heard: Mark,
    /// What was written of it.
    written: Mark,
    forgotten: u64,
    /// What follows the write that is being gathered.
    next: Vec<Then>,
    /// What follows writes that aren't durable yet.
    waiting: VecDeque<(u64, Then)>,
}

impl Journal {
    pub(super) fn new(session: Arc<SessionHandle>, mark: Mark) -> Self {
        let (batch, tip) = (session.log.batch(), session.log.written());
        Self {
            session,
            batch,
            tip,
            heard: mark,
            written: mark,
            forgotten: mark.forgettable(),
            next: Vec::new(),
            waiting: VecDeque::new(),
        }
    }

    /// Notes an event; its number.
    pub(super) fn event(&mut self, kind: EventType, turn: Option<&TurnId>, content: &Value) -> u64 {
        self.batch.event(&self.session.id, kind, turn, content)
    }

    /// Notes what goes with the events.
    pub(super) fn change(&mut self, change: Change) {
        self.batch.change(change);
    }

    /// Notes the session as it is now.
    pub(super) fn session_changed(&mut self) {
        let document = self
            .session
            .with_status(|status| record::session(&self.session.id, &self.session.identity, status, None, 0));
        self.batch.change(document);
    }

    /// Notes how far the agent was heard.
    pub(super) const fn heard(&mut self, mark: Mark) {
        self.heard = mark;
    }

    /// Answers whoever asked, once all that was noted is durable.
    pub(super) fn answer<T: Send + Sync + 'static>(&mut self, reply: oneshot::Sender<T>, answer: T) {
        self.next.push(Then::Answer(Answer::new(reply, answer)));
    }

    /// Notes the session's end.
    pub(super) fn end(&mut self, reason: EndReason, detail: String) {
        ending::end(&self.session, &mut self.batch, reason, detail);
        self.write();
    }

    /// Notes what follows once all that was noted is durable.
    pub(super) fn then(&mut self, then: Then) {
        self.next.push(then);
    }

    /// Writes what was noted.
    pub(super) fn write(&mut self) {
        // What came to no event need not be remembered as long as it can be heard again: it comes to nothing again.
        let forgettable = self.heard.forgettable();
        let lost_else = self.heard.torn || forgettable > self.forgotten;
        let marked = self.heard != self.written && (!self.batch.is_empty() || lost_else);
        if marked {
            self.batch.change(record::mark(&self.session.id, &self.heard));
            self.written = self.heard;
        }
        let number = self.session.log.write(&mut self.batch);
        if forgettable > self.forgotten {
            self.forgotten = forgettable;
            self.next.push(Then::Forget(forgettable));
        }
        self.waiting.extend(self.next.drain(..).map(|then| (number, then)));
    }

    /// Whether the agent may be heard.
    pub(super) fn has_room(&self) -> bool {
        self.session.log.under_way() < UNDER_WAY_MAX
    }

    /// Whether something waits to be durable.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether there is something the agent was to be told and was not yet.
    pub(super) fn keeps_from_agent(&self) -> bool {
        self.waiting.iter().any(|(_, then)| matches!(then, Then::Send(_) | Then::Tell(_)))
    }

    /// Waits until more is durable.
    pub(super) async fn moved(&mut self) {
        if self.waiting.front().is_some_and(|(number, _)| *number <= self.tip.borrow().writes) {
            return;
        }
        // The log outlives its driver.
        let _never_closed = self.tip.changed().await;
    }

    /// What follows now.
    pub(super) fn due(&mut self) -> Option<Then> {
        let durable = self.tip.borrow_and_update().writes;
        self.waiting.pop_front_if(|(number, _)| *number <= durable).map(|(_, then)| then)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        agent::Place,
        ids::{SessionId, UserId},
        log::EventLog,
        session::status::{Identity, Preferences, Status},
        store::{AnyStore, fake::Fake},
        telemetry::SessionAudit,
    };

    fn journal(store: &Arc<Fake>) -> Journal {
        let id = SessionId::random();
        let identity = Identity::sample(UserId::parse("alice").expect("a good id"));
        let log = EventLog::new(id.clone(), Arc::clone(store) as AnyStore, usize::MAX);
        let status = Status::new(Preferences::sample());
        Journal::new(
            Arc::new(SessionHandle::new(id, identity, status, log, SessionAudit::default(), mpsc::channel(1).0)),
            Mark::default(),
        )
    }

    fn upto(chunk: u64) -> Mark {
        let place = Place { chunk: chunk + 1, offset: 0 };
        Mark { stdout: place, stderr: place, torn: false }
    }

    fn marks(store: &Fake) -> usize {
        store.changes().iter().filter(|change| matches!(change, Change::Mark { .. })).count()
    }

    #[tokio::test]
    async fn the_agent_is_told_nothing_and_nothing_is_forgotten_before_it_is_durable() {
        let store = Fake::new();
        let mut journal = journal(&store);
        store.hold();
        let (go, mut told) = oneshot::channel();
        journal.event(EventType::TurnStarted, None, &json!({}));
        journal.heard(upto(7));
        journal.then(Then::Send(go));
        journal.write();
        assert!(journal.is_waiting() && journal.due().is_none());
        assert!(told.try_recv().is_err());
        store.release();
        journal.moved().await;
        assert!(matches!(journal.due(), Some(Then::Send(_))));
        assert!(matches!(journal.due(), Some(Then::Forget(7))));
        assert!(journal.due().is_none() && !journal.is_waiting());
        assert_eq!(marks(&store), 1);
    }

    #[tokio::test]
    async fn what_came_to_nothing_is_forgotten_only_when_the_mark_says_so_and_what_came_earlier_is_durable() {
        let store = Fake::new();
        let mut journal = journal(&store);
        journal.heard(upto(1));
        journal.write();
        assert_eq!(marks(&store), 1);
        assert!(matches!(journal.due(), Some(Then::Forget(1))));
        // Behind the beginning of a line that isn't whole nothing can be forgotten, and nothing need be written.
        journal.heard(Mark { stderr: upto(5).stderr, ..upto(1) });
        journal.write();
        assert_eq!(marks(&store), 1);
        store.hold();
        journal.event(EventType::MessageDelta, None, &json!({}));
        journal.heard(upto(6));
        journal.write();
        journal.heard(upto(7));
        journal.write();
        assert!(journal.due().is_none());
        store.release();
        assert!(matches!(journal.due(), Some(Then::Forget(6))));
        assert!(matches!(journal.due(), Some(Then::Forget(7))));
        assert_eq!(marks(&store), 3);
    }

    #[tokio::test]
    async fn a_torn_line_is_written_down_before_it_is_forgotten() {
        let store = Fake::new();
        let mut journal = journal(&store);
        journal.heard(Mark { torn: true, ..upto(4) });
        journal.write();
        assert_eq!(marks(&store), 1);
        assert!(matches!(journal.due(), Some(Then::Forget(4))));
    }

    #[tokio::test]
    async fn an_agent_that_talks_faster_than_the_store_writes_is_not_heard() {
        let store = Fake::new();
        let mut journal = journal(&store);
        store.hold();
        while journal.has_room() {
            journal.event(EventType::MessageDelta, None, &json!({"text": "x".repeat(10_000)}));
            journal.write();
        }
        assert!(!journal.has_room());
        store.release();
        journal.moved().await;
        assert!(journal.has_room());
    }
}
