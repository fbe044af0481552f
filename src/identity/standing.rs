//! How long a credential is good for. What goes on for long, such as a stream, ends with it.

/// A credential's life. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Standing(());

impl Standing {
    /// Of a token that lives as long as the process.
    #[must_use]
    pub const fn for_ever() -> Self {
        Self(())
    }

    /// Waits until the credential isn't good any more.
    pub async fn ended(&self) {
        std::future::pending().await
    }
}
