//! What else than the model a sandbox may reach.

/// The hosts a session's tools may reach.
#[derive(Debug, Clone)]
pub struct Egress(());

impl Egress {
    /// None.
    #[must_use]
    pub const fn nothing() -> Self {
        Self(())
    }
}
