//! Programs as plain child processes behind an agent's pipes, as a sandbox's supervisor would keep them.

use std::{
    path::Path,
    process::Stdio,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use greenroom::{
    agent::{Agent, AgentCommand, AgentEvent, AgentProtocol, BootPlan, acp::Acp, lines::Lines},
    sandbox::pipes::{AgentExit, AgentPipes, FromAgent, PIPE_CAPACITY, Stream},
};
use serde_json::json;
use std::os::unix::process::ExitStatusExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStdin, Command},
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use tokio_util::task::TaskTracker;

/// Longest anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Numbers of prompts; an agent never sees one twice.
static PROMPTS: AtomicU64 = AtomicU64::new(1);

/// A booted program.
#[derive(Debug)]
pub(crate) struct Program(pub(crate) Agent);

pub(crate) fn plan() -> BootPlan {
    BootPlan {
        workspace: "/tmp".to_owned(),
        model_base_url: "http://127.0.0.1:9".to_owned(),
        answer_deadline: Duration::from_secs(20),
    }
}

/// Starts one of the Python programs beside this file.
pub(crate) fn python(program: &str, arguments: &[&str]) -> AgentPipes {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/agents");
    let path = format!("{folder}/{program}");
    let mut words = vec!["-u", path.as_str()];
    words.extend(arguments);
    start("python3", &words, Path::new(folder))
}

/// Starts a program with a home folder; it is killed when its pipes are dropped.
pub(crate) fn start(program: &str, arguments: &[&str], home: &Path) -> AgentPipes {
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(home)
        .env("HOME", home)
        .env("GEMINI_CLI_NO_RELAUNCH", "true")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the program starts");
    let (input, to_child) = mpsc::channel(PIPE_CAPACITY);
    let (from_child, output) = mpsc::channel(PIPE_CAPACITY);
    let stdin = child.stdin.take().expect("is piped");
    tokio::spawn(feed(stdin, to_child));
    tokio::spawn(drain(child, from_child));
    // Nothing is asked again here, so all input may count as taken.
    AgentPipes { input, input_taken: watch::channel(u64::MAX).1, output, done_with: watch::channel(0).0 }
}

async fn feed(mut stdin: ChildStdin, mut input: mpsc::Receiver<Bytes>) {
    while let Some(bytes) = input.recv().await {
        if stdin.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// Numbers what the child writes, on both outputs, until it exits or nobody listens.
async fn drain(mut child: Child, output: mpsc::Sender<FromAgent>) {
    let mut stdout = child.stdout.take().expect("is piped");
    let mut stderr = child.stderr.take().expect("is piped");
    let (mut out, mut err) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let (mut more_out, mut more_err) = (true, true);
    let mut seq = 0;
    while more_out || more_err {
        let (stream, bytes) = tokio::select! {
            () = output.closed() => return,
            read = stdout.read(&mut out), if more_out => (Stream::Stdout, &out[..read.unwrap_or(0)]),
            read = stderr.read(&mut err), if more_err => (Stream::Stderr, &err[..read.unwrap_or(0)]),
        };
        if bytes.is_empty() {
            match stream {
                Stream::Stdout => more_out = false,
                Stream::Stderr => more_err = false,
            }
            continue;
        }
        seq += 1;
        let chunk = FromAgent::Chunk { seq, stream, bytes: Bytes::copy_from_slice(bytes) };
        if output.send(chunk).await.is_err() {
            return;
        }
    }
    let status = child.wait().await.expect("the child ends");
    let exit = AgentExit { code: status.code(), signal: status.signal() };
    drop(output.send(FromAgent::Exited(exit)).await);
}

impl Program {
    /// The fake that speaks the Agent Client Protocol, ready for a prompt.
    pub(crate) async fn acp(arguments: &[&str]) -> Self {
        let agent = Acp::default().boot(python("fake_acp.py", arguments), plan()).await;
        Self(agent.expect("boots"))
    }

    /// The line-oriented fake, ready for a prompt.
    pub(crate) async fn lines(arguments: &[&str], quiet_time: Duration) -> Self {
        let lines = Lines::new(quiet_time, TaskTracker::new());
        Self(lines.boot(python("line_echo.py", arguments), plan()).await.expect("boots"))
    }

    pub(crate) async fn send(&self, command: AgentCommand) {
        timeout(PATIENCE, self.0.commands.send(command)).await.expect("in time").expect("the task lives");
    }

    pub(crate) async fn prompt(&self, text: &str) {
        let (planned, pieces) = oneshot::channel();
        let (allow, go) = oneshot::channel();
        let content = vec![json!({"type": "text", "text": text})];
        let request = PROMPTS.fetch_add(1, Ordering::Relaxed);
        self.send(AgentCommand::Prompt { request, content, planned, go }).await;
        pieces.await.expect("no turn runs");
        allow.send(()).expect("it is waited for");
    }

    pub(crate) async fn event(&mut self) -> AgentEvent {
        loop {
            let said = timeout(PATIENCE, self.0.events.recv()).await.expect("in time").expect("the task lives");
            self.0.done_with.send_replace(said.mark.forgettable());
            if let Some(event) = said.event {
                return event;
            }
        }
    }

    /// What it says until the turn or the agent ends, and how that was.
    pub(crate) async fn rest_of_turn(&mut self) -> (String, AgentEvent) {
        let mut said = String::new();
        loop {
            match self.event().await {
                AgentEvent::Message(block) => said.push_str(block["text"].as_str().unwrap_or_default()),
                end @ (AgentEvent::TurnEnded { .. } | AgentEvent::TurnFailed(_) | AgentEvent::Gone(_)) => {
                    return (said, end);
                }
                _ => {}
            }
        }
    }
}
