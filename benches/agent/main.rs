//! Events a second of the agent path alone: lines of an agent, as the link hands them over, to events, as a driver takes them. No sandbox, no
//! store, no users.
//!
//! `cargo bench --bench agent [-- --events 2000000]`

use std::{
    error::Error,
    time::{Duration, Instant},
};

use bytes::Bytes;
use greenroom::{
    agent::{Agent, AgentProtocol, Mark, ResumePlan, acp::Acp, lines::Lines},
    sandbox::pipes::{AgentPipes, FromAgent, PIPE_CAPACITY, Stream},
};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;

/// Bytes the supervisor reads at once.
const CHUNK: usize = 64 * 1024;
/// Events a driver takes at once.
const BATCH: usize = 256;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let events = match (arguments.next().as_deref(), arguments.next()) {
        (Some("--events"), Some(number)) => number.parse()?,
        (None, _) => 1_000_000,
        _ => return Err("usage: cargo bench --bench agent [-- --events N]".into()),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let acp = Acp::default();
    let memory = json!({"session": "0191c0de-0000-4000-8000-000000000001"});
    for (name, line) in [("ACP, 5 words", delta(5)), ("ACP, 400 words", delta(400)), ("ACP, tool updates", tool())] {
        runtime.block_on(measure(name, &acp, memory.clone(), &line, events));
    }
    let lines = Lines::new(Duration::from_secs(60), TaskTracker::new());
    runtime.block_on(measure("lines of text", &lines, Value::Null, "the answer goes on and on\n", events));
    Ok(())
}

/// A piece of an answer, as Gemini CLI writes it.
fn delta(words: usize) -> String {
    let text = "word ".repeat(words);
    update(&json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}))
}

fn tool() -> String {
    update(&json!({
        "sessionUpdate": "tool_call_update", "toolCallId": "write_file-1700000000000-1", "status": "completed", "kind": "edit",
        "title": "Writing to a.txt", "locations": [{"path": "/sandbox/workspace/a.txt"}], "_meta": {"kind": "add"},
        "content": [{"type": "diff", "path": "a.txt", "oldText": "", "newText": "line\n".repeat(20)}]
    }))
}

fn update(update: &Value) -> String {
    let params = json!({"sessionId": "0191c0de-0000-4000-8000-000000000001", "update": update});
    format!("{}\n", json!({"jsonrpc": "2.0", "method": "session/update", "params": params}))
}

async fn measure(name: &str, protocol: &dyn AgentProtocol, memory: Value, line: &str, events: usize) {
    let (input, _to_agent) = mpsc::channel(PIPE_CAPACITY);
    let (from_agent, output) = mpsc::channel(PIPE_CAPACITY);
    let pipes = AgentPipes { input, input_taken: watch::channel(u64::MAX).1, output, done_with: watch::channel(0).0 };
    let plan = ResumePlan {
        memory,
        mark: Mark::default(),
        input_received: 0,
        after_cancel: false,
        turn: None,
        answer_deadline: Duration::ZERO,
    };
    let Agent { commands: _commands, events: mut said, done_with, .. } =
        protocol.resume(pipes, plan).expect("taken up");
    let all = Bytes::from(line.repeat(CHUNK * 16 / line.len() + 1));
    let start = Instant::now();
    let feeding = tokio::spawn(async move {
        let chunks = (0..all.len()).step_by(CHUNK).map(|at| all.slice(at..all.len().min(at + CHUNK)));
        for (seq, bytes) in (1..).zip(chunks.cycle()) {
            if from_agent.send(FromAgent::Chunk { seq, stream: Stream::Stdout, bytes }).await.is_err() {
                return;
            }
        }
    });
    let (mut batch, mut heard) = (Vec::with_capacity(BATCH), 0);
    while heard < events {
        if said.recv_many(&mut batch, BATCH).await == 0 {
            break;
        }
        if let Some(last) = batch.last() {
            done_with.send_replace(last.mark.forgettable());
        }
        heard += batch.drain(..).filter(|said| said.event.is_some()).count();
    }
    let took = start.elapsed();
    feeding.abort();
    let (a_second, bytes) = (heard as f64 / took.as_secs_f64(), line.len());
    println!(
        "{name:20} {a_second:>10.0} events/s  {:>7.1} MiB/s  ({bytes} bytes each)",
        a_second * bytes as f64 / 1048576.0
    );
}
