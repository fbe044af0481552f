//! Which sessions an agent has: what must be known to take it up again.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent::AgentError;

/// An agent's sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Memory {
    /// The one in use.
    pub(super) session: String,
    /// Those that were left: what is still said in them is passed over.
    #[serde(default)]
    pub(super) former: Vec<String>,
}

impl Memory {
    /// An agent with its first session.
    pub(super) const fn new(session: String) -> Self {
        Self { session, former: Vec::new() }
    }

    /// Reads what [`Memory::value`] wrote.
    ///
    /// # Errors
    /// It is something else.
    pub(super) fn read(value: &Value) -> Result<Self, AgentError> {
        Self::deserialize(value)
            .map_err(|error| AgentError::Protocol(format!("what was kept of it can't be read: {error}")))
    }

    /// What is to be kept.
    pub(super) fn value(&self) -> Value {
        serde_json::to_value(self).expect("texts are JSON")
    }

    /// Takes another session into use.
    pub(super) fn change(&mut self, session: String) {
        self.former.push(std::mem::replace(&mut self.session, session));
    }

    /// Whether this session was left.
    pub(super) fn is_former(&self, session: &str) -> bool {
        self.former.iter().any(|former| former == session)
    }
}
