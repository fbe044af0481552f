//! The handshake: from the first byte to a session that takes prompts.
//!
//! Runs inside the caller's future; dropping it drops the pipes. No user is there yet, so what the agent writes for people goes
//! to our own log and the last of it beside the failure.

use std::{future::Future, time::Duration};

use agent_client_protocol_schema::{
    ProtocolVersion,
    v1::{
        AGENT_METHOD_NAMES, AuthenticateRequest, ClientCapabilities, Implementation, InitializeRequest,
        NewSessionRequest,
    },
};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use tracing::{Instrument, debug, info_span, warn};

use super::{
    call::call_id,
    message::{self, Message},
};
use crate::{
    agent::{
        AgentError, BootError, BootPlan, BootTimes, Mark,
        framing::readable,
        wire::{Heard, Wire},
    },
    sandbox::pipes::AgentPipes,
    telemetry::{SkippedLines, labels::Phase},
};

/// The way to authenticate that sends the agent's model traffic to an address of ours.
const GATEWAY: &str = "gateway";
/// Longest line of a booting agent that our log takes, in bytes.
const WORDS_LIMIT: usize = 512;

/// An agent that is being booted.
#[derive(Debug)]
pub(super) struct Boot<'plan> {
    wire: Wire,
    plan: &'plan BootPlan,
    /// The last line it wrote for people.
    last_words: String,
    skipped: SkippedLines,
}

/// An agent that takes prompts.
#[derive(Debug)]
pub(super) struct Booted {
    /// Its pipes; its output is read up to the answer to `session/new`.
    pub(super) wire: Wire,
    /// The id of its session.
    pub(super) session: String,
    /// How long it took.
    pub(super) times: BootTimes,
}

impl<'plan> Boot<'plan> {
    pub(super) fn new(pipes: AgentPipes, plan: &'plan BootPlan, skipped: SkippedLines) -> Self {
        let wire = Wire::new(pipes, Mark::default(), 0);
        Self { wire, plan, last_words: String::new(), skipped }
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// The agent is gone, refuses, speaks another version or misses a deadline.
    pub(super) async fn run(mut self) -> Result<Booted, BootError> {
        match self.shake_hands().await {
            Ok((session, times)) => Ok(Booted { wire: self.wire, session, times }),
            Err(error) => {
                if !self.last_words.is_empty() {
                    warn!(%error, agent.said = self.last_words, "an agent did not boot");
                }
                Err(error)
            }
        }
    }

    async fn shake_hands(&mut self) -> Result<(String, BootTimes), BootError> {
        let start = Instant::now();
        let hello = self.initialize().instrument(info_span!("initialize")).await;
        let can_authenticate = hello.map_err(BootError::within(Phase::Initialize))?;
        let initialized = Instant::now();
        let session = async {
            if can_authenticate {
                self.authenticate().await?;
            }
            self.open_session().await
        };
        let session = session.instrument(info_span!("session")).await.map_err(BootError::within(Phase::Session))?;
        let times = BootTimes { initialize: initialized - start, session: initialized.elapsed() };
        Ok((session, times))
    }

    /// Says hello; whether the agent wants to be authenticated.
    async fn initialize(&mut self) -> Result<bool, AgentError> {
        let hello = InitializeRequest::new(ProtocolVersion::V1)
            .client_capabilities(ClientCapabilities::default())
            .client_info(Implementation::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")));
        let answer = self.call(AGENT_METHOD_NAMES.initialize, &hello).await?;
        if answer["protocolVersion"].as_u64() != Some(1) {
            return Err(AgentError::Protocol("it does not speak version 1 of the protocol".to_owned()));
        }
        let methods: Vec<&str> =
            answer["authMethods"].as_array().into_iter().flatten().filter_map(|method| method["id"].as_str()).collect();
        if !methods.is_empty() && !methods.contains(&GATEWAY) {
            let message = "it offers no way to authenticate by a gateway".to_owned();
            return Err(AgentError::Refused { call: AGENT_METHOD_NAMES.authenticate, message });
        }
        Ok(!methods.is_empty())
    }

    /// Sends its model traffic to the gateway. No key goes in: the gateway adds it on the host's side.
    async fn authenticate(&mut self) -> Result<(), AgentError> {
        let gateway = json!({ "baseUrl": self.plan.model_base_url, "headers": {} });
        let meta = serde_json::Map::from_iter([(GATEWAY.to_owned(), gateway)]);
        let request = AuthenticateRequest::new(GATEWAY).meta(meta);
        self.call(AGENT_METHOD_NAMES.authenticate, &request).await.map(drop)
    }

    async fn open_session(&mut self) -> Result<String, AgentError> {
        let request = NewSessionRequest::new(&self.plan.workspace);
        let answer = self.call(AGENT_METHOD_NAMES.session_new, &request).await?;
        session_id(&answer)
    }

    /// One request and its answer, within the deadline.
    async fn call(&mut self, call: &'static str, params: &impl Serialize) -> Result<Value, AgentError> {
        let deadline = self.plan.answer_deadline;
        let id = call_id(self.wire.writer.next_piece());
        self.wire.writer.push(message::request(id, call, params));
        within(deadline, call, async {
            loop {
                self.wire.writer.write_all().await;
                let heard = self.wire.reader.next().await?;
                // Nobody will ask again what was said here.
                self.wire.done_with.send_replace(self.wire.reader.mark().forgettable());
                match heard {
                    Heard::Line(line) => match Message::parse(&line) {
                        Message::Answer { id: answered, result } if answered == Some(id) => {
                            return result.map_err(|message| AgentError::Refused { call, message });
                        }
                        Message::Request { id, method, .. } => self.wire.writer.push(message::refusal(&id, &method)),
                        Message::Other => {
                            self.skipped.count();
                            self.note(readable(&line, WORDS_LIMIT));
                        }
                        Message::Answer { .. } | Message::Notification { .. } => {}
                    },
                    Heard::Log(text) => self.note(readable(text.as_bytes(), WORDS_LIMIT)),
                    Heard::Nothing => {}
                }
            }
        })
        .await
    }

    fn note(&mut self, text: String) {
        debug!(text, "a booting agent wrote");
        self.last_words = text;
    }
}

/// The session's id in the answer to `session/new`.
pub(super) fn session_id(answer: &Value) -> Result<String, AgentError> {
    let id = answer["sessionId"].as_str();
    id.map(str::to_owned).ok_or_else(|| AgentError::Protocol("its new session has no id".to_owned()))
}

async fn within<T>(
    deadline: Duration,
    call: &'static str,
    answer: impl Future<Output = Result<T, AgentError>>,
) -> Result<T, AgentError> {
    timeout(deadline, answer).await.unwrap_or(Err(AgentError::Deadline { call, seconds: deadline.as_secs() }))
}
