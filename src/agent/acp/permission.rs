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
        Some(option_id.map_or_else(|| cancelled(&id), |option| selected(&id, option)))
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

fn selected(id: &Value, option: String) -> Bytes {
    let outcome = RequestPermissionOutcome::Selected(SelectedPermissionOutcome::new(option));
    message::answer(id, &RequestPermissionResponse::new(outcome))
}
