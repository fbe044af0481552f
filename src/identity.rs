//! Who the caller is.

use crate::ids::UserId;

/// Somebody who proved who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Their id.
    pub user: UserId,
}
