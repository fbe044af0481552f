//! Tickets.

use poem_openapi::Object;
use secrecy::ExposeSecret as _;

use super::Time;
use crate::service::tickets::TicketView;

/// What a browser shows in place of a token.
#[derive(Object)]
pub struct Ticket {
    /// For `?ticket=`. It is shown this once, and good once.
    pub ticket: String,
    /// When it can't be used any more: half a minute from now.
    pub expires_at: Time,
}

impl From<TicketView> for Ticket {
    fn from(view: TicketView) -> Self {
        Self { ticket: view.ticket.expose_secret().to_owned(), expires_at: Time(view.expires_at) }
    }
}
