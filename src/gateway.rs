//! The host side of all traffic out of a sandbox.
//!
//! Each slot has one unix socket, and the socket *is* the identity: whoever speaks on it is the agent of that slot, so the lease
//! bound to the slot says whose key is used. Without a lease every request is refused. Only the model endpoint's host and paths
//! can be reached; the key is put in on this side and never enters the sandbox. Bodies are streamed both ways; token counts
//! are read from the answers as they pass.

pub mod endpoint;
pub mod metering;
pub mod proxy;
pub mod slot;

use std::sync::Arc;

use secrecy::SecretString;
use tokio::sync::mpsc;

use crate::ids::{SessionId, UserId};

/// Usage reports that may wait for a session's driver; past that they are summed up, never lost.
pub const USAGE_CAPACITY: usize = 64;

/// Tokens of one model call, as the model counted them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// The model that was called.
    pub model: String,
    /// Tokens read.
    pub input_tokens: u64,
    /// Tokens written, thinking included.
    pub output_tokens: u64,
}

/// A user's key for the model API. Can't be printed.
#[derive(Clone)]
pub struct ModelKey(pub Arc<SecretString>);

impl std::fmt::Debug for ModelKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("ModelKey(hidden)")
    }
}

/// What a slot's socket is bound to while its sandbox is leased.
#[derive(Debug, Clone)]
pub struct Binding {
    /// Whose traffic it is.
    pub user: UserId,
    /// For which session.
    pub session: SessionId,
    /// The key to put in; none if neither the request nor the server has one (the model API will say so).
    pub key: Option<ModelKey>,
    /// Where token counts go.
    pub usage: mpsc::Sender<Usage>,
}
