//! All sessions of this server, found through their owner only.
//!
//! A session that is over can be read for a while, within bounds; then it is forgotten, here and in the store. What was there when a former server
//! left is put back at the start.

mod ended;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use self::ended::{Bounds, Ended, Load, Shelf};
use super::{
    Command,
    policy::{Refusal, Stage},
    status::{Identity, Status},
};
use crate::{
    gateway::AccountLook,
    identity::{Reach, Whose},
    ids::{SessionId, UserId},
    log::EventLog,
    store::{AnyStore, Change},
    telemetry::SessionAudit,
};

/// Ended sessions of one user that can still be read, and the bytes of their logs.
const ENDED_OF_USER: Load = Load { sessions: 512, bytes: 1024 * 1024 * 1024 };
/// Those of all users together.
const ENDED_OF_ALL: Load = Load { sessions: 10_000, bytes: 8 * 1024 * 1024 * 1024 };

/// One session, as everybody but its driver sees it.
#[derive(Debug)]
pub struct SessionHandle {
    /// Its id.
    pub id: SessionId,
    /// What never changes.
    pub identity: Identity,
    /// Its events.
    pub log: Arc<EventLog>,
    /// Takes what is to be in the audit log.
    pub audit: SessionAudit,
    pub(super) commands: mpsc::Sender<Command>,
    /// What its model calls are charged to, once it has a driver.
    pub(super) account: OnceLock<AccountLook>,
    /// Written by the driver alone. A few lines at a time, never across an await.
    status: Mutex<Status>,
}

impl SessionHandle {
    pub(super) const fn new(
        id: SessionId,
        identity: Identity,
        status: Status,
        log: Arc<EventLog>,
        audit: SessionAudit,
        commands: mpsc::Sender<Command>,
    ) -> Self {
        Self { id, identity, log, audit, commands, account: OnceLock::new(), status: Mutex::new(status) }
    }

    /// A look at what its model calls are charged to; at nothing while it has no driver.
    #[must_use]
    pub fn account(&self) -> AccountLook {
        self.account.get().cloned().unwrap_or_default()
    }

    /// Whose it is: who found the session may work on what belongs to it.
    #[must_use]
    pub fn whose(&self) -> Whose {
        Whose::recorded(self.identity.user.clone())
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.locked().stage == Stage::Ended
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

    /// Asks the driver for something and waits for its answer. It answers everything, also at its end; what it leaves unsaid, it left to the
    /// next server.
    ///
    /// # Errors
    /// The driver's no, or none at all.
    pub async fn ask<T, E: From<Refusal>>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, E>>) -> Command,
    ) -> Result<T, E> {
        let (reply, answer) = oneshot::channel();
        let left = |otherwise| if self.is_over() { Refusal::Ended } else { otherwise };
        self.send(command(reply)).await.map_err(|_| left(Refusal::HandedOver))?;
        answer.await.unwrap_or_else(|_| Err(left(Refusal::Unheard).into()))
    }

    pub(super) fn locked(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Sessions {
    by_user: HashMap<UserId, HashMap<SessionId, Arc<SessionHandle>>>,
    ended: Shelf,
}

/// All sessions.
#[derive(Debug)]
pub struct Registry {
    /// A few lines at a time, never across an await.
    sessions: Mutex<Sessions>,
    bounds: Bounds,
    store: AnyStore,
}

impl Registry {
    /// An empty one; ended sessions can be read for `keep_ended`, unless they are too many or too large.
    #[must_use]
    pub fn new(keep_ended: Duration, store: AnyStore) -> Arc<Self> {
        let bounds = Bounds { time: keep_ended, user: ENDED_OF_USER, all: ENDED_OF_ALL };
        Arc::new(Self { sessions: Mutex::default(), bounds, store })
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

    /// Finds a session within reach; another's is not found, like one that never was.
    #[must_use]
    pub fn find(&self, reach: &Reach, id: &SessionId) -> Option<Arc<SessionHandle>> {
        let sessions = self.locked();
        match reach.only() {
            Some(user) => sessions.by_user.get(user)?.get(id).cloned(),
            None => sessions.by_user.values().find_map(|of_user| of_user.get(id)).cloned(),
        }
    }

    /// All sessions within reach, newest first.
    #[must_use]
    pub fn all(&self, reach: &Reach) -> Vec<Arc<SessionHandle>> {
        let mut sessions = self.locked();
        self.forget_old(&mut sessions);
        let of_users: Vec<_> = match reach.only() {
            Some(user) => sessions.by_user.get(user).into_iter().collect(),
            None => sessions.by_user.values().collect(),
        };
        let mut all: Vec<_> = of_users.into_iter().flat_map(HashMap::values).cloned().collect();
        drop(sessions);
        all.sort_by(|a, b| (b.identity.created_at, &b.id).cmp(&(a.identity.created_at, &a.id)));
        all
    }

    /// All sessions that aren't over.
    #[must_use]
    pub fn live(&self) -> Vec<Arc<SessionHandle>> {
        let sessions = self.locked();
        sessions.by_user.values().flat_map(HashMap::values).filter(|session| !session.is_over()).cloned().collect()
    }

    /// Notes that a session is over; it can still be read for a while.
    pub fn ended(&self, session: &SessionHandle) {
        session.log.rest();
        self.put_away(session, Instant::now(), session.log.bytes());
    }

    /// Puts back a session that was over before the server started.
    pub(super) fn ended_before(&self, session: &Arc<SessionHandle>, ended_at: Timestamp, bytes: usize) {
        self.add(session);
        let ago = Duration::try_from(Timestamp::now().duration_since(ended_at)).unwrap_or_default();
        let now = Instant::now();
        // A machine that was started after that counts from its start.
        self.put_away(session, now.checked_sub(ago).unwrap_or(now), bytes);
    }

    fn put_away(&self, session: &SessionHandle, when: Instant, bytes: usize) {
        let mut sessions = self.locked();
        let (user, id) = (session.identity.user.clone(), session.id.clone());
        sessions.ended.put(Ended { when, user, id, bytes });
        self.forget_old(&mut sessions);
    }

    fn forget_old(&self, sessions: &mut Sessions) {
        let mut forgotten = Vec::new();
        for Ended { user, id, .. } in sessions.ended.clear_out(&self.bounds, Instant::now()) {
            let Some(of_user) = sessions.by_user.get_mut(&user) else { continue };
            of_user.remove(&id);
            if of_user.is_empty() {
                sessions.by_user.remove(&user);
            }
            forgotten.push(Change::Forget { session: id });
        }
        if !forgotten.is_empty() {
            self.store.write(forgotten, Box::new(|| ()));
        }
    }

    fn locked(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
