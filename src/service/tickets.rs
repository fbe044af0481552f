//! Tickets for one session's events: got with a token, shown in its place by who can't send one.

use jiff::Timestamp;
use secrecy::SecretString;

use super::Service;
use crate::{
    identity::{Caller, Proven, TooManyTickets, tickets},
    ids::SessionId,
    limits::RateState,
    problem::{Code, Problem},
};

/// A ticket, shown this once.
#[derive(Debug)]
pub struct TicketView {
    /// What is to be shown.
    pub ticket: SecretString,
    /// When it can't be used any more.
    pub expires_at: Timestamp,
}

impl Service {
    /// A ticket for the events of a session. It is worth what the caller is: whoever may look may get one, and with it may do no more than they could.
    ///
    /// # Errors
    /// Not found, or too many tickets that are not used yet.
    pub fn ticket(&self, caller: &Caller, id: &SessionId) -> Result<TicketView, Problem> {
        let session = self.find(caller, id)?;
        let ticket = self.tickets.issue(caller, &session.id)?;
        let expires_at = Timestamp::now().checked_add(tickets::LIFE).unwrap_or(Timestamp::MAX);
        Ok(TicketView { ticket, expires_at })
    }

    /// Who shows this ticket for this session. It is used up.
    #[must_use]
    pub fn redeem(&self, ticket: &str, id: &SessionId) -> Option<Proven> {
        self.tickets.redeem(ticket, id)
    }
}

impl From<TooManyTickets> for Problem {
    fn from(error: TooManyTickets) -> Self {
        let TooManyTickets { until } = error;
        let quota = u32::try_from(tickets::OF_USER).unwrap_or(u32::MAX);
        let state = RateState { policy: "tickets", quota, window: None, remaining: 0, reset: Some(until) };
        let detail = "too many tickets are not used yet; use one, or wait until they end";
        Self::new(Code::ResourceLimit, detail).rate(state).retry_after(until)
    }
}
