//! What a user's model calls may cost.

/// The account a session's model calls are charged to.
#[derive(Debug, Clone)]
pub struct Account(());

impl Account {
    /// One without a limit.
    #[must_use]
    pub const fn unlimited() -> Self {
        Self(())
    }
}
