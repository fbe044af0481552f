//! All sessions of this server, found through their owner only, and what each user has spent since it started.
//!
//! A session that is over can be read for a while, within bounds; then it is forgotten: its log shrinks, so that readers that are still
//! at it don't keep it in memory, and its tokens go into its user's sum.

mod ended;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use self::ended::{Bounds, Ended, Load, Shelf};
use super::{
    Command,
    policy::Stage,
    status::{Identity, Status, Tokens},
};
use crate::{
    ids::{SessionId, UserId},
    log::EventLog,
};

/// Ended sessions of one user that can still be read, and the bytes of their logs.
const ENDED_OF_USER: Load = Load { sessions: 16, bytes: 64 * 1024 * 1024 };
/// Those of all users together.
const ENDED_OF_ALL: Load = Load { sessions: 256, bytes: 256 * 1024 * 1024 };
/// Bytes of a forgotten session's log that are left to those who are reading its end.
const FORGOTTEN_BYTES: usize = 256 * 1024;
/// Users whose sum is known; past that the smallest sum is forgotten.
const SUMS_KEPT: usize = 100_000;

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

    pub(super) fn locked(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Sessions {
    by_user: HashMap<UserId, HashMap<SessionId, Arc<SessionHandle>>>,
    ended: Shelf,
    /// Tokens of sessions that are forgotten.
    spent: HashMap<UserId, Tokens>,
}

impl Sessions {
    fn add_spent(&mut self, user: UserId, tokens: Tokens) {
        if tokens == Tokens::default() {
            return;
        }
        *self.spent.entry(user).or_default() += tokens;
        if self.spent.len() > SUMS_KEPT {
            let least = self.spent.iter().min_by_key(|(_, sum)| sum.input + sum.output).map(|(user, _)| user.clone());
            least.map(|user| self.spent.remove(&user));
        }
    }
}

/// All sessions.
#[derive(Debug)]
pub struct Registry {
    /// A few lines at a time, never across an await.
    sessions: Mutex<Sessions>,
    bounds: Bounds,
}

impl Registry {
    /// An empty one; ended sessions can be read for `keep_ended`, unless they are too many or too large.
    #[must_use]
    pub fn new(keep_ended: Duration) -> Arc<Self> {
        let bounds = Bounds { time: keep_ended, user: ENDED_OF_USER, all: ENDED_OF_ALL };
        Arc::new(Self { sessions: Mutex::default(), bounds })
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

    /// Notes that a session is over; it can still be read for a while.
    pub fn ended(&self, session: &SessionHandle) {
        let mut sessions = self.locked();
        let (user, id) = (session.identity.user.clone(), session.id.clone());
        sessions.ended.put(Ended { when: Instant::now(), user, id, bytes: session.log.bytes() });
        self.forget_old(&mut sessions);
    }

    /// Tokens of all the user's sessions since the server started, those that are forgotten too.
    #[must_use]
    pub fn spent(&self, user: &UserId) -> Tokens {
        let sessions = self.locked();
        let mut sum = sessions.spent.get(user).copied().unwrap_or_default();
        for session in sessions.by_user.get(user).into_iter().flat_map(HashMap::values) {
            sum += session.with_status(|status| status.tokens);
        }
        sum
    }

    fn forget_old(&self, sessions: &mut Sessions) {
        for Ended { user, id, .. } in sessions.ended.clear_out(&self.bounds, Instant::now()) {
            let Some(of_user) = sessions.by_user.get_mut(&user) else { continue };
            let Some(session) = of_user.remove(&id) else { continue };
            if of_user.is_empty() {
                sessions.by_user.remove(&user);
            }
            session.log.shrink(FORGOTTEN_BYTES);
            sessions.add_spent(user, session.with_status(|status| status.tokens));
        }
    }

    fn locked(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::session::event::EventType;

    const KEEP: Duration = Duration::from_secs(600);

    /// A session of this user's that is over and left a log of about so many bytes.
    fn over(registry: &Registry, user: &str, bytes: usize) -> Arc<SessionHandle> {
        let id = SessionId::random();
        let log = EventLog::new(id.clone(), usize::MAX);
        log.append(EventType::SessionReady, None, &json!({}));
        log.append(EventType::MessageDelta, None, &json!({"text": "x".repeat(bytes)}));
        log.append(EventType::SessionEnded, None, &json!({}));
        let identity = Identity::sample(self::user(user));
        let session = Arc::new(SessionHandle::new(id, identity, log, mpsc::channel(1).0));
        registry.add(&session);
        {
            let mut status = session.locked();
            status.tokens = Tokens { input: 3, output: 2 };
            status.stage = Stage::Ended;
        }
        registry.ended(&session);
        session
    }

    fn user(name: &str) -> UserId {
        UserId::parse(name).expect("a good name")
    }

    fn found(registry: &Registry, session: &SessionHandle) -> bool {
        registry.find(&session.identity.user, &session.id).is_some()
    }

    #[test]
    fn what_a_user_left_behind_is_bounded_and_takes_nothing_from_others() {
        let registry = Registry::new(KEEP);
        let others = over(&registry, "bob", 10);
        let first = over(&registry, "ada", ENDED_OF_USER.bytes / 2);
        let reader = first.log.follow(2);
        assert!(found(&registry, &first));
        let second = over(&registry, "ada", ENDED_OF_USER.bytes / 2);
        assert!(!found(&registry, &first) && found(&registry, &second) && found(&registry, &others));
        // Whoever still reads it doesn't keep it in memory.
        assert!(first.log.bytes() <= FORGOTTEN_BYTES);
        drop(reader);
        for _ in 0..ENDED_OF_ALL.sessions {
            over(&registry, "ada", 10);
        }
        assert_eq!(registry.of(&user("ada")).len(), ENDED_OF_USER.sessions);
        assert!(found(&registry, &others));
    }

    #[test]
    fn what_was_spent_stays_spent_when_the_session_is_forgotten() {
        for keep in [KEEP, Duration::ZERO] {
            let registry = Registry::new(keep);
            for count in 1..=40 {
                over(&registry, "ada", 10);
                assert_eq!(registry.spent(&user("ada")), Tokens { input: 3 * count, output: 2 * count });
            }
            assert_eq!(registry.spent(&user("bob")), Tokens::default());
        }
    }

    #[test]
    fn the_sums_of_users_are_bounded_and_the_smallest_goes() {
        let mut sessions = Sessions::default();
        for number in 0..=SUMS_KEPT as u64 {
            sessions.add_spent(user(&format!("user-{number}")), Tokens { input: number + 1, output: 0 });
        }
        assert_eq!(sessions.spent.len(), SUMS_KEPT);
        assert!(!sessions.spent.contains_key(&user("user-0")));
    }
}
