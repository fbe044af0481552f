//! Who the caller is: bearer tokens from the settings and from the key file, each naming a user.
//!
//! A token itself is never kept, only its SHA-256: tokens are random and long, so a slow hash would add nothing but latency.

mod authenticator;
pub mod keys;
mod token;

use crate::ids::UserId;

pub use authenticator::{AuthError, Authenticator};
pub use keys::{Key, KeyStore, KeyStoreError};

/// Somebody who proved who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Their id.
    pub user: UserId,
}
