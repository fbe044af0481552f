//! Whether a waiting sandbox is well: its supervisor answers, and its agent does.
//!
//! [`Sandbox::check`] looks at what has been heard already and waits for nothing, [`Sandbox::answers`] is one ping over the link. Its future
//! doesn't borrow the sandbox: whoever keeps many under a lock collects the questions there and awaits them outside.

use std::time::Duration;

use super::Sandbox;
use crate::sandbox::link::{Condemner, Link, PingError};

/// Why a sandbox is no good.
#[derive(Debug, thiserror::Error)]
pub enum NotWell {
    /// Its supervisor gives no sign of life.
    #[error(transparent)]
    Supervisor(#[from] PingError),
}

impl Sandbox {
    /// Whether the supervisor answers within the deadline: what runs nothing, such as a paused container, doesn't.
    ///
    /// # Errors
    /// [`NotWell::Supervisor`].
    pub fn answers(&self, deadline: Duration) -> impl Future<Output = Result<(), NotWell>> + Send + use<> {
        let ping = self.remains.link().map(|link| link.ping(deadline));
        async move {
            // Without a link there is nobody who could say that it is well.
            let ping = ping.ok_or(PingError::Ended)?;
            ping.await?;
            Ok(())
        }
    }

    /// A handle that ends the sandbox from outside, in stock or leased; none without a link.
    #[must_use]
    pub fn condemner(&self) -> Option<Condemner> {
        self.remains.link().map(Link::condemner)
    }
}
