//! The other end of an agent's pipes, for tests: what is written here is what an agent would say.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

use super::{Agent, AgentCommand, AgentEvent, BootPlan, Pieces, Said};
use crate::sandbox::pipes::{AgentExit, AgentPipes, FromAgent, PIPE_CAPACITY, Stream};

/// Long enough for anything that happens at once. Paused clocks jump over it.
const PATIENCE: Duration = Duration::from_secs(600);

/// An agent made of two queues.
#[derive(Debug)]
pub(crate) struct Fake {
    pub(crate) input: mpsc::Receiver<Bytes>,
    pub(crate) output: mpsc::Sender<FromAgent>,
    pub(crate) done_with: watch::Receiver<u64>,
    /// Newest piece of input it has taken; all, if nobody says otherwise.
    pub(crate) taken: watch::Sender<u64>,
    heard: Vec<u8>,
    seq: u64,
}

/// A fake and the pipes to it.
pub(crate) fn fake() -> (Fake, AgentPipes) {
    fake_from(1)
}

/// The same of an agent whose next chunk has this number.
pub(crate) fn fake_from(first: u64) -> (Fake, AgentPipes) {
    let (input, from_us) = mpsc::channel(PIPE_CAPACITY);
    let (to_us, output) = mpsc::channel(PIPE_CAPACITY);
    let (done_with, done) = watch::channel(0);
    let (taken, input_taken) = watch::channel(u64::MAX);
    let fake = Fake { input: from_us, output: to_us, done_with: done, taken, heard: Vec::new(), seq: first - 1 };
    (fake, AgentPipes { input, input_taken, output, done_with })
}

/// A prompt that may go as soon as it is planned.
pub(crate) fn prompt(request: u64, content: Vec<Value>) -> AgentCommand {
    let (planned, _pieces) = oneshot::channel();
    let (allow, go) = oneshot::channel();
    allow.send(()).expect("it is waited for");
    AgentCommand::Prompt { request, content, planned, go }
}

pub(crate) fn plan() -> BootPlan {
    BootPlan {
        workspace: "/sandbox/workspace".to_owned(),
        model_base_url: "http://127.0.0.1:41000".to_owned(),
        answer_deadline: Duration::from_secs(20),
    }
}

impl Fake {
    /// Writes bytes to its standard output.
    pub(crate) async fn write(&mut self, bytes: impl Into<Bytes>) {
        self.write_to(Stream::Stdout, bytes.into()).await;
    }

    /// Writes bytes to one of its outputs.
    pub(crate) async fn write_to(&mut self, stream: Stream, bytes: Bytes) {
        self.seq += 1;
        let chunk = FromAgent::Chunk { seq: self.seq, stream, bytes };
        timeout(PATIENCE, self.output.send(chunk)).await.expect("there is room").expect("someone reads");
    }

    /// Says one JSON message.
    pub(crate) async fn say(&mut self, message: &Value) {
        self.write(format!("{message}\n")).await;
    }

    /// Exits.
    pub(crate) async fn exit(&mut self, code: i32) {
        let exit = FromAgent::Exited(AgentExit { code: Some(code), signal: None });
        self.output.send(exit).await.expect("someone reads");
    }

    /// The next line it was sent.
    pub(crate) async fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                let rest = self.heard.split_off(end + 1);
                let line = std::mem::replace(&mut self.heard, rest);
                return String::from_utf8(line).expect("we write UTF-8").trim_end().to_owned();
            }
            let piece = timeout(PATIENCE, self.input.recv()).await.expect("in time").expect("someone writes");
            self.heard.extend_from_slice(&piece);
        }
    }

    /// The next message it was sent.
    pub(crate) async fn message(&mut self) -> Value {
        serde_json::from_str(&self.line().await).expect("we write JSON")
    }
}

impl Agent {
    /// The next event.
    pub(crate) async fn event(&mut self) -> AgentEvent {
        loop {
            if let Some(event) = self.said().await.event {
                return event;
            }
        }
    }

    /// The next event, or a mark alone; taken as a driver takes it when nothing has to be kept.
    pub(crate) async fn said(&mut self) -> Said {
        let said = timeout(PATIENCE, self.events.recv()).await.expect("in time").expect("the task lives");
        self.done_with.send_replace(said.mark.forgettable());
        said
    }

    /// Plans a prompt; the pieces it will go out in, and the word that lets it.
    pub(crate) async fn plan(&self, request: u64, content: Vec<Value>) -> (Pieces, oneshot::Sender<()>) {
        let (planned, pieces) = oneshot::channel();
        let (allow, go) = oneshot::channel();
        let prompt = AgentCommand::Prompt { request, content, planned, go };
        self.commands.send(prompt).await.expect("the task lives");
        (timeout(PATIENCE, pieces).await.expect("in time").expect("no turn runs"), allow)
    }

    /// What `Gone` says; nothing may follow it.
    pub(crate) async fn gone(&mut self) -> String {
        let AgentEvent::Gone(error) = self.event().await else { panic!("the agent should be gone") };
        assert!(self.events.recv().await.is_none(), "nothing follows");
        error.to_string()
    }
}
