//! The use cases. (being furnished; the signatures stand)

pub mod view;

use std::{sync::Arc, time::Duration};

use crate::{
    identity::Caller,
    ids::{PermissionId, SessionId, TurnId},
    problem::{Code, Problem},
    session::event::Event,
};
use view::{
    MeView, OpenSession, Page, PermissionAnswer, PermissionView, PoolView, Prompt, Readiness, SessionState,
    SessionView, TurnView,
};

/// Every door calls these and nothing else.
#[derive(Debug)]
pub struct Service {}

/// A reader of one session's events: replay, then follow. Holds one of the user's streams while it lives.
#[derive(Debug)]
pub struct EventReader {}

impl EventReader {
    /// The next event; waits for it. None: the session is over and everything was read.
    pub async fn next(&mut self) -> Option<Result<Arc<Event>, Problem>> {
        None
    }
}

fn later<T>() -> Result<T, Problem> {
    Err(Problem::new(Code::Internal, "later"))
}

impl Service {
    /// Opens a session.
    pub async fn open(&self, _caller: &Caller, _request: OpenSession) -> Result<SessionView, Problem> {
        later()
    }
    /// One session of the caller's.
    pub fn session(&self, _caller: &Caller, _id: &SessionId) -> Result<SessionView, Problem> {
        later()
    }
    /// The caller's sessions, newest first.
    pub fn sessions(
        &self,
        _caller: &Caller,
        _state: Option<SessionState>,
        _labels: &[(String, String)],
        _limit: usize,
        _cursor: Option<&str>,
    ) -> Result<Page<SessionView>, Problem> {
        later()
    }
    /// Closes a session.
    pub async fn close(&self, _caller: &Caller, _id: &SessionId) -> Result<(), Problem> {
        later()
    }
    /// Starts a turn.
    pub async fn prompt(&self, _caller: &Caller, _id: &SessionId, _prompt: Prompt) -> Result<TurnView, Problem> {
        later()
    }
    /// Starts a turn in the user's default session; opens that when there is none.
    pub async fn chat(&self, _caller: &Caller, _prompt: Prompt) -> Result<TurnView, Problem> {
        later()
    }
    /// One turn.
    pub fn turn(&self, _caller: &Caller, _id: &SessionId, _turn: &TurnId) -> Result<TurnView, Problem> {
        later()
    }
    /// Asks a running turn to end.
    pub async fn cancel(&self, _caller: &Caller, _id: &SessionId, _turn: &TurnId) -> Result<TurnView, Problem> {
        later()
    }
    /// The open permissions.
    pub fn permissions(&self, _caller: &Caller, _id: &SessionId) -> Result<Vec<PermissionView>, Problem> {
        later()
    }
    /// Answers a permission.
    pub async fn answer(
        &self,
        _caller: &Caller,
        _id: &SessionId,
        _permission: &PermissionId,
        _answer: PermissionAnswer,
    ) -> Result<(), Problem> {
        later()
    }
    /// A reader that begins after `after` (0: at the beginning).
    pub fn events(&self, _caller: &Caller, _id: &SessionId, _after: u64) -> Result<EventReader, Problem> {
        later()
    }
    /// A page of events after `after`; if there is none yet, waits up to `wait` for the first.
    pub async fn event_page(
        &self,
        _caller: &Caller,
        _id: &SessionId,
        _after: u64,
        _limit: usize,
        _wait: Duration,
    ) -> Result<Vec<Arc<Event>>, Problem> {
        later()
    }
    /// Every pool.
    pub fn pools(&self) -> Vec<PoolView> {
        Vec::new()
    }
    /// The caller's limits and what is left.
    pub fn me(&self, _caller: &Caller) -> MeView {
        unreachable!("being furnished")
    }
    /// Whether we can serve.
    pub async fn readiness(&self) -> Readiness {
        Readiness { ready: false, reasons: Vec::new() }
    }
}
