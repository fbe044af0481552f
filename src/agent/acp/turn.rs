//! Where an agent's turn is, and the prompt it begins with.

use agent_client_protocol_schema::v1::AGENT_METHOD_NAMES;
use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::oneshot;

use super::message;

/// Where the turn is.
#[derive(Debug)]
pub(super) enum Turn {
    /// There is none.
    Idle,
    /// Its prompt may not be written yet.
    Planned {
        /// The prompt's id.
        id: u64,
        /// The driver's word.
        go: oneshot::Receiver<()>,
    },
    /// The prompt is on its way, or there.
    Running,
    /// The agent was asked to end it.
    Cancelling,
}

/// The driver's word on a planned prompt.
#[derive(Debug)]
pub(super) struct Allowed {
    /// The prompt's id.
    pub(super) id: u64,
    /// Whether it may be written.
    pub(super) go: bool,
}

/// Waits for the driver's word on a planned prompt; for ever if there is none. Dropping the future loses nothing.
pub(super) async fn may_go(turn: &mut Turn) -> Allowed {
    match turn {
        Turn::Planned { id, go } => Allowed { id: *id, go: go.await.is_ok() },
        Turn::Idle | Turn::Running | Turn::Cancelling => std::future::pending().await,
    }
}

/// What `session/prompt` carries. The schema's own type would take the content apart.
#[derive(Serialize)]
struct PromptParams<'a> {
    #[serde(rename = "sessionId")]
    session: &'a str,
    prompt: &'a [Value],
}

/// A prompt as the agent gets it. The same content gives the same bytes: a server that takes the turn up sends the pieces that are missing.
pub(super) fn prompt(id: u64, session: &str, content: &[Value]) -> Bytes {
    message::request(id, AGENT_METHOD_NAMES.session_prompt, &PromptParams { session, prompt: content })
}
