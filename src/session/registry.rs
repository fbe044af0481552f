//! All sessions of this server, found through their owner only.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::{
    Command,
    policy::Stage,
    status::{Identity, Status},
};
use crate::{
    ids::{SessionId, UserId},
    log::EventLog,
};

/// Ended sessions that can still be read; past that the oldest go first.
const ENDED_KEPT: usize = 256;

/// One session, as everybody but its driver sees it.
#[derive(Debug)]
pub struct SessionHandle {
    /// Its id.
    pub id: SessionId,
    /// What never changes.
    pub identity: Identity,
    /// Its events.
    pub log: Arc<EventLog>,
    pub(super) commands: mpsc::Sender<Command>,
    /// Written by the driver alone. A few lines at a time, never across an await.
    status: Mutex<Status>,
}

impl SessionHandle {
    pub(super) fn new(id: SessionId, identity: Identity, log: Arc<EventLog>, commands: mpsc::Sender<Command>) -> Self {
        Self { id, identity, log, commands, status: Mutex::default() }
    }

    /// What it is doing now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.locked().clone()
    }

    /// A look at the status without a copy. Keep it short.
    pub fn with_status<T>(&self, look: impl FnOnce(&Status) -> T) -> T {
        look(&self.locked())
    }

    /// Puts a request in the driver's queue. Waits while sixteen others are before it.
    ///
    /// # Errors
    /// The session is over; the command comes back.
    pub async fn send(&self, command: Command) -> Result<(), Command> {
        self.commands.send(command).await.map_err(|error| error.0)
    }

    pub(super) fn locked(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Sessions {
    by_user: HashMap<UserId, HashMap<SessionId, Arc<SessionHandle>>>,
    /// When each ended session did, oldest first.
    ended: Vec<(Instant, UserId, SessionId)>,
}

/// All sessions.
#[derive(Debug)]
pub struct Registry {
    /// A few lines at a time, never across an await.
    sessions: Mutex<Sessions>,
    keep_ended: Duration,
}

impl Registry {
    /// An empty one; ended sessions can be read for `keep_ended`.
    #[must_use]
    pub fn new(keep_ended: Duration) -> Arc<Self> {
        Arc::new(Self { sessions: Mutex::default(), keep_ended })
    }

    /// Adds a session.
    pub fn add(&self, session: &Arc<SessionHandle>) {
        let mut sessions = self.locked();
        self.forget_old(&mut sessions);
        sessions
            .by_user
            .entry(session.identity.user.clone())
            .or_default()
            .insert(session.id.clone(), Arc::clone(session));
    }

    /// Finds a session of this user's; another's is not found, like one that never was.
    #[must_use]
    pub fn find(&self, user: &UserId, id: &SessionId) -> Option<Arc<SessionHandle>> {
        self.locked().by_user.get(user)?.get(id).cloned()
    }

    /// All sessions of a user, newest first.
    #[must_use]
    pub fn of(&self, user: &UserId) -> Vec<Arc<SessionHandle>> {
        let mut sessions = self.locked();
        self.forget_old(&mut sessions);
        let mut all: Vec<_> = sessions.by_user.get(user).into_iter().flat_map(HashMap::values).cloned().collect();
        drop(sessions);
        all.sort_by(|a, b| (b.identity.created_at, &b.id).cmp(&(a.identity.created_at, &a.id)));
        all
    }

    /// Sessions that aren't over.
    #[must_use]
    pub fn open(&self) -> usize {
        let sessions = self.locked();
        sessions
            .by_user
            .values()
            .flat_map(HashMap::values)
            .filter(|s| s.with_status(|s| s.stage != Stage::Ended))
            .count()
    }

    /// Notes that a session is over; it can still be read for a while.
    pub fn ended(&self, session: &SessionHandle) {
        let mut sessions = self.locked();
        sessions.ended.push((Instant::now(), session.identity.user.clone(), session.id.clone()));
        self.forget_old(&mut sessions);
    }

    fn forget_old(&self, sessions: &mut Sessions) {
        let surplus = sessions.ended.len().saturating_sub(ENDED_KEPT);
        let old = sessions.ended.iter().take_while(|(when, ..)| when.elapsed() >= self.keep_ended).count();
        for (_, user, id) in sessions.ended.drain(..old.max(surplus)) {
            if let Some(of_user) = sessions.by_user.get_mut(&user) {
                of_user.remove(&id);
                if of_user.is_empty() {
                    sessions.by_user.remove(&user);
                }
            }
        }
    }

    fn locked(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
