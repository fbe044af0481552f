use serde_json::json;

use super::*;
use crate::{
    identity::{Proven, Scope, Standing},
    session::{event::EventType, status::Preferences},
    store::fake::Fake,
};

const KEEP: Duration = Duration::from_secs(600);

/// A session of this user's that is over and left a log of about so many bytes.
fn over(registry: &Registry, store: &Arc<Fake>, user: &str) -> Arc<SessionHandle> {
    let id = SessionId::random();
    let log = EventLog::new(id.clone(), Arc::clone(store) as AnyStore, usize::MAX);
    log.append(EventType::SessionReady, None, &json!({}));
    log.append(EventType::SessionEnded, None, &json!({}));
    let identity = Identity::sample(self::user(user));
    let status = Status::new(Preferences::sample());
    let session = Arc::new(SessionHandle::new(id, identity, status, log, SessionAudit::default(), mpsc::channel(1).0));
    registry.add(&session);
    session.locked().stage = Stage::Ended;
    registry.ended(&session);
    session
}

fn reach(user: &str) -> Reach {
    let user = self::user(user);
    let (credential, standing) = (String::new(), Standing::for_ever());
    let proven = Proven { user, tier: None, credential, scopes: [Scope::Read].into_iter().collect(), standing };
    proven.reader().expect("may look").reach().clone()
}

fn user(name: &str) -> UserId {
    UserId::parse(name).expect("a good name")
}

fn found(registry: &Registry, session: &SessionHandle) -> bool {
    registry.find(&reach(session.identity.user.as_str()), &session.id).is_some()
}

fn forgotten(store: &Fake) -> Vec<SessionId> {
    let forgotten = |change: Change| if let Change::Forget { session } = change { Some(session) } else { None };
    store.changes().into_iter().filter_map(forgotten).collect()
}

#[test]
fn what_a_user_left_behind_is_bounded_and_takes_nothing_from_others() {
    let store = Fake::new();
    let registry = Registry::new(KEEP, Arc::clone(&store) as AnyStore);
    let (others, first) = (over(&registry, &store, "bob"), over(&registry, &store, "ada"));
    for _ in 1..ENDED_OF_USER.sessions {
        over(&registry, &store, "ada");
    }
    assert!(found(&registry, &first) && found(&registry, &others));
    over(&registry, &store, "ada");
    assert!(!found(&registry, &first) && found(&registry, &others));
    assert_eq!(registry.all(&reach("ada")).len(), ENDED_OF_USER.sessions);
    assert_eq!(forgotten(&store), std::slice::from_ref(&first.id), "the store forgets it too");
}

#[test]
fn what_ended_before_the_server_started_is_kept_for_what_is_left_of_its_time() {
    let store = Fake::new();
    let registry = Registry::new(KEEP, Arc::clone(&store) as AnyStore);
    for (ago, kept) in [(10, true), (700, false)] {
        let id = SessionId::random();
        let log = EventLog::new(id.clone(), Arc::clone(&store) as AnyStore, usize::MAX);
        let (identity, status) = (Identity::sample(user("ada")), Status::new(Preferences::sample()));
        let session =
            Arc::new(SessionHandle::new(id, identity, status, log, SessionAudit::default(), mpsc::channel(1).0));
        registry.ended_before(&session, Timestamp::now() - Duration::from_secs(ago), 10);
        assert_eq!(found(&registry, &session), kept, "{ago} s");
    }
}
