//! Tickets: what a browser shows where it can't send a header. Good once, for one session, for [`LIFE`].
//!
//! A ticket is worth what the token was worth that it was got with, and no longer: scopes, reach and standing are that token's. Only
//! hashes are kept, and only in memory: a restart forgets all of them, and whoever has one asks for another.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::SecretString;
use tokio::time::Instant;

use super::{Caller, Proven, token::TokenHash};
use crate::ids::{SessionId, UserId, random_bytes};

/// How long a ticket can be used.
pub const LIFE: Duration = Duration::from_secs(30);
/// Tickets of one user that are not used yet.
pub const OF_USER: usize = 64;
/// Those of all users together; past it the oldest go.
const OF_ALL: usize = 100_000;
/// What every ticket begins with, so that nobody takes it for a token.
const PREFIX: &str = "gr_ticket_";
/// The longest text that is looked up, in bytes.
const LENGTH_MAX: usize = 128;

/// The caller has as many unused tickets as they may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many tickets are not used yet")]
pub struct TooManyTickets {
    /// When the first of them is gone.
    pub until: Duration,
}

/// All tickets that can still be used.
#[derive(Debug, Default)]
pub struct Tickets {
    /// A few lines at a time, never across an await.
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    tickets: HashMap<TokenHash, Ticket>,
    /// By number, so oldest first: all live equally long.
    by_age: BTreeMap<u64, TokenHash>,
    of_user: HashMap<UserId, Vec<Instant>>,
    count: u64,
}

#[derive(Debug)]
struct Ticket {
    number: u64,
    proven: Proven,
    session: SessionId,
    issued: Instant,
}

impl Tickets {
    /// A new ticket for a session that the caller found.
    ///
    /// # Errors
    /// The caller has [`OF_USER`] unused ones.
    pub fn issue(&self, caller: &Caller, session: &SessionId) -> Result<SecretString, TooManyTickets> {
        self.issue_at(caller, session, Instant::now())
    }

    fn issue_at(&self, caller: &Caller, session: &SessionId, now: Instant) -> Result<SecretString, TooManyTickets> {
        let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random_bytes::<32>()));
        let mut held = self.locked();
        held.clear_out(now);
        let unused = held.of_user.get(&caller.user).map_or(&[][..], Vec::as_slice);
        if let (true, Some(first)) = (unused.len() >= OF_USER, unused.first()) {
            return Err(TooManyTickets { until: (*first + LIFE).saturating_duration_since(now) });
        }
        if held.tickets.len() >= OF_ALL {
            held.remove_oldest();
        }
        let proven = caller.proven();
        held.add(TokenHash::of(&text), proven, session.clone(), now);
        Ok(text.into())
    }

    /// Who may look at this session with this ticket. Whatever the answer, the ticket is used up.
    #[must_use]
    pub fn redeem(&self, ticket: &str, session: &SessionId) -> Option<Proven> {
        self.redeem_at(ticket, session, Instant::now())
    }

    fn redeem_at(&self, ticket: &str, session: &SessionId, now: Instant) -> Option<Proven> {
        if ticket.len() > LENGTH_MAX {
            return None;
        }
        let ticket = self.locked().remove(&TokenHash::of(ticket))?;
        let good = ticket.session == *session && now.saturating_duration_since(ticket.issued) < LIFE;
        // What became of the token meanwhile became of the ticket.
        (good && !ticket.proven.standing.has_ended()).then_some(ticket.proven)
    }

    fn locked(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn add(&mut self, hash: TokenHash, proven: Proven, session: SessionId, issued: Instant) {
        let number = self.count;
        self.count += 1;
        self.by_age.insert(number, hash);
        self.of_user.entry(proven.user.clone()).or_default().push(issued);
        self.tickets.insert(hash, Ticket { number, proven, session, issued });
    }

    fn remove(&mut self, hash: &TokenHash) -> Option<Ticket> {
        let ticket = self.tickets.remove(hash)?;
        self.by_age.remove(&ticket.number);
        if let Some(unused) = self.of_user.get_mut(&ticket.proven.user) {
            if let Some(place) = unused.iter().position(|issued| *issued == ticket.issued) {
                unused.remove(place);
            }
            if unused.is_empty() {
                self.of_user.remove(&ticket.proven.user);
            }
        }
        Some(ticket)
    }

    fn remove_oldest(&mut self) {
        if let Some(hash) = self.by_age.first_key_value().map(|(_, hash)| *hash) {
            drop(self.remove(&hash));
        }
    }

    /// Takes out those nobody can use any more.
    fn clear_out(&mut self, now: Instant) {
        let old = |ticket: &Ticket| now.saturating_duration_since(ticket.issued) >= LIFE;
        let oldest_is_old = |held: &Self| {
            let oldest = held.by_age.first_key_value().and_then(|(_, hash)| held.tickets.get(hash));
            oldest.is_some_and(old)
        };
        while oldest_is_old(self) {
            self.remove_oldest();
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::identity::{Scope, Standing};

    fn caller(user: &str, scope: Scope) -> Caller {
        let user = UserId::parse(user).expect("a good name");
        let (credential, scopes) = ("key_1".to_owned(), [scope].into_iter().collect());
        let proven = Proven { user, tier: None, credential, scopes, standing: Standing::for_ever() };
        proven.reader().expect("may look")
    }

    fn session(name: &str) -> SessionId {
        SessionId::from_client(name)
    }

    fn issue(tickets: &Tickets, user: &str, now: Instant) -> String {
        let ticket = tickets.issue_at(&caller(user, Scope::Read), &session("ses_1"), now).expect("there is room");
        ticket.expose_secret().to_owned()
    }

    #[test]
    fn a_ticket_is_good_once_and_worth_what_its_token_was() {
        let tickets = Tickets::default();
        for scope in Scope::ALL {
            let asked = caller("ada", scope);
            let ticket = tickets.issue(&asked, &session("ses_1")).expect("there is room");
            let proven = tickets.redeem(ticket.expose_secret(), &session("ses_1")).expect("it is good");
            assert_eq!((proven.user.as_str(), proven.credential.as_str()), ("ada", "key_1"));
            assert_eq!(proven.scopes, [scope].into_iter().collect());
            assert_eq!(proven.reader().expect("may look").reach(), asked.reach());
            assert!(tickets.redeem(ticket.expose_secret(), &session("ses_1")).is_none(), "it is used up");
        }
    }

    #[test]
    fn a_ticket_for_one_session_opens_no_other_and_is_used_up_by_the_try() {
        let tickets = Tickets::default();
        let ticket = issue(&tickets, "ada", Instant::now());
        assert!(tickets.redeem(&ticket, &session("ses_2")).is_none());
        assert!(tickets.redeem(&ticket, &session("ses_1")).is_none());
    }

    #[test]
    fn a_ticket_ends_after_its_time_and_is_forgotten() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let moment = Duration::from_millis(1);
        let (in_time, late) = (issue(&tickets, "ada", now), issue(&tickets, "ada", now));
        assert!(tickets.redeem_at(&in_time, &session("ses_1"), now + LIFE - moment).is_some());
        assert!(tickets.redeem_at(&late, &session("ses_1"), now + LIFE).is_none());
        for _ in 0..3 {
            issue(&tickets, "ada", now);
        }
        issue(&tickets, "bob", now + LIFE);
        let held = tickets.locked();
        assert_eq!((held.tickets.len(), held.by_age.len(), held.of_user.len()), (1, 1, 1));
    }

    #[test]
    fn a_user_has_only_so_many_and_takes_nothing_from_others() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let first = issue(&tickets, "ada", now);
        for _ in 1..OF_USER {
            issue(&tickets, "ada", now);
        }
        let one_more = || tickets.issue_at(&caller("ada", Scope::Read), &session("ses_1"), now);
        assert_eq!(one_more().expect_err("too many"), TooManyTickets { until: LIFE });
        issue(&tickets, "bob", now);
        assert!(tickets.redeem_at(&first, &session("ses_1"), now).is_some());
        assert!(one_more().is_ok(), "one was used");
    }

    #[test]
    fn of_far_too_many_the_oldest_go() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let oldest = issue(&tickets, "oldest", now);
        for number in 0..OF_ALL {
            issue(&tickets, &format!("user{}", number / OF_USER), now);
        }
        assert_eq!(tickets.locked().tickets.len(), OF_ALL);
        assert!(tickets.redeem_at(&oldest, &session("ses_1"), now).is_none());
    }

    #[test]
    fn what_is_no_ticket_opens_nothing_and_none_is_printed() {
        let tickets = Tickets::default();
        let ticket = issue(&tickets, "ada", Instant::now());
        for bad in ["", PREFIX, &ticket[..ticket.len() - 1], &format!("{ticket}x"), &"x".repeat(100_000)] {
            assert!(tickets.redeem(bad, &session("ses_1")).is_none());
        }
        assert!(!format!("{tickets:?}").contains(&ticket[PREFIX.len()..]));
    }
}
