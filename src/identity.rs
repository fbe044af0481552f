//! Who the caller is: bearer tokens of ours, from the settings and the key file, and those that identity providers signed. Each names a user and
//! says what it allows.
//!
//! A token of ours is never kept, only its SHA-256: tokens are random and long, so a slow hash would add nothing but latency. A provider's token
//! isn't kept either, only how long it is good for.

mod authenticator;
mod caller;
mod jwt;
pub mod keys;
mod register;
mod scope;
mod standing;
pub mod tickets;
mod token;
mod whose;

pub use authenticator::{AuthError, Authenticator};
pub use caller::{Actor, Administrator, Caller, MissingScope, Proven};
pub use jwt::SourceError;
pub use keys::{Key, KeyStore, KeyStoreError, NewKey};
pub use scope::{Scope, Scopes};
pub use standing::Standing;
pub use tickets::{Tickets, TooManyTickets};
pub use whose::{OutOfReach, Reach, Whose};

/// The provider that end-to-end tests use, too.
#[cfg(test)]
#[path = "../tests/e2e/provider.rs"]
mod provider;
