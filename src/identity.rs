//! Who the caller is: bearer tokens from the settings and from the key file, each naming a user.
//!
//! A token itself is never kept, only its SHA-256: tokens are random and long, so a slow hash would add nothing but latency.

mod authenticator;
mod caller;
pub mod keys;
mod scope;
mod standing;
pub mod tickets;
mod token;
mod whose;

pub use authenticator::{AuthError, Authenticator};
pub use caller::{Actor, Administrator, Caller, MissingScope, Proven};
pub use keys::{Key, KeyStore, KeyStoreError};
pub use scope::{Scope, Scopes};
pub use standing::Standing;
pub use tickets::{Tickets, TooManyTickets};
pub use whose::{OutOfReach, Reach, Whose};
