//! Permission requests of the agent that have no answer yet.

use std::collections::BTreeMap;

use agent_client_protocol_schema::v1::{
    RequestPermissionOutcome, RequestPermissionResponse, SelectedPermissionOutcome,
};
use bytes::Bytes;
use serde_json::Value;

use super::message;
use crate::agent::OPEN_PERMISSIONS;

/// The open requests: our number and the agent's own id.
#[derive(Debug, Default)]
pub(super) struct Permissions {
    last: u64,
    open: BTreeMap<u64, Value>,
}

impl Permissions {
    /// Goes on with those that are open; new ones count on behind them.
    pub(super) fn resumed(open: Vec<(u64, Value)>) -> Self {
        let open: BTreeMap<u64, Value> = open.into_iter().collect();
        Self { last: open.keys().last().copied().unwrap_or_default(), open }
    }

    /// Takes in a request; our number for it.
    ///
    /// # Errors
    /// Too many are open; the answer to send at once.
    pub(super) fn open(&mut self, id: Value) -> Result<u64, Bytes> {
        if self.open.len() >= OPEN_PERMISSIONS {
            return Err(cancelled(&id));
        }
        self.last += 1;
        self.open.insert(self.last, id);
        Ok(self.last)
    }

    /// The message that answers a request, if it is still open.
    pub(super) fn answer(&mut self, number: u64, option_id: Option<String>) -> Option<Bytes> {
        let id = self.open.remove(&number)?;
        Some(answer(&id, option_id))
    }

    /// The messages that answer every open request `cancelled`.
    pub(super) fn cancel_all(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.open).values().map(cancelled).collect()
    }
}

/// The answer `cancelled`.
pub(super) fn cancelled(id: &Value) -> Bytes {
    message::answer(id, &RequestPermissionResponse::new(RequestPermissionOutcome::Cancelled))
}

/// The answer with this option, or `cancelled` without one.
pub(super) fn answer(id: &Value, option_id: Option<String>) -> Bytes {
    let Some(option) = option_id else { return cancelled(id) };
    let outcome = RequestPermissionOutcome::Selected(SelectedPermissionOutcome::new(option));
    message::answer(id, &RequestPermissionResponse::new(outcome))
}
