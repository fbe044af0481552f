//! One reader of one session's events: a socket, HTTP/1.1 in chunks, server-sent events, and nothing that costs more than it must.
//!
//! It counts and checks that every number is the one after the last. The reader shares two processors with all it measures, so it parses no
//! JSON: of an event it looks at the number, the type and, where latency is measured, the time the agent wrote into its text.

use std::{io, io::BufRead as _, net::SocketAddr, time::Duration};

use anyhow::{Context as _, bail, ensure};
use rustix::time::{ClockId, clock_gettime};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    time::{Instant, timeout},
};

use super::{chunks::Chunks, figures::milliseconds};

/// Bytes taken from the socket at once.
const TAKEN: usize = 256 * 1024;
/// Longer than the server is ever silent.
const SILENCE: Duration = Duration::from_secs(40);
/// What stands before the time in an event's JSON.
const BEFORE_TIME: &[u8] = b"\"content\":{\"text\":\"";

/// What was read of one turn.
#[derive(Debug)]
pub struct Read {
    /// Events, the turn's first and last included.
    pub events: u64,
    /// When the turn's end was there.
    pub ended_at: Instant,
    /// From the agent's write to this reader, in milliseconds; empty unless asked for.
    pub latencies: Vec<f64>,
}

/// A reader that is connected.
#[derive(Debug)]
pub struct Reader {
    stream: TcpStream,
    chunks: Chunks,
    /// Taken from the socket, at most [`TAKEN`] bytes.
    taken: Vec<u8>,
    /// Events' text whose last line is not whole yet.
    text: Vec<u8>,
    last_seq: u64,
    is_message: bool,
    is_end: bool,
}

impl Reader {
    /// Connects, asks for all events after this number, and waits until the server answers.
    pub async fn open(address: SocketAddr, token: &str, session: &str, after: u64) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let request = format!(
            "GET /v1/sessions/{session}/events?after={after} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
             accept: text/event-stream\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut reader = Self {
            stream,
            chunks: Chunks::default(),
            taken: Vec::with_capacity(TAKEN),
            text: Vec::with_capacity(TAKEN),
            last_seq: after,
            is_message: false,
            is_end: false,
        };
        let head_end = loop {
            let end = reader.taken.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                break end + 4;
            }
            ensure!(reader.take().await? > 0, "closed before there was an answer");
        };
        let head = String::from_utf8_lossy(&reader.taken[..head_end]).to_lowercase();
        ensure!(head.starts_with("http/1.1 200 "), "no stream: {head}");
        ensure!(head.contains("transfer-encoding: chunked"), "not in chunks: {head}");
        reader.taken.drain(..head_end);
        Ok(reader)
    }

    /// Reads until a turn is over.
    pub async fn turn(&mut self, with_latency: bool) -> anyhow::Result<Read> {
        let before = self.last_seq;
        let mut latencies = Vec::new();
        loop {
            self.chunks.feed(&self.taken, &mut self.text)?;
            self.taken.clear();
            let now = now();
            if self.parse(|said| {
                if with_latency {
                    latencies.push(now.saturating_sub(said));
                }
            })? {
                let latencies = latencies.into_iter().map(|nanos| milliseconds(Duration::from_nanos(nanos))).collect();
                return Ok(Read { events: self.last_seq - before, ended_at: Instant::now(), latencies });
            }
            let taken = timeout(SILENCE, self.take()).await;
            let taken = taken.with_context(|| format!("silent after event {}", self.last_seq))??;
            ensure!(taken > 0, "closed after event {}", self.last_seq);
        }
    }

    /// Takes what there is from the socket, once there is something.
    async fn take(&mut self) -> io::Result<usize> {
        loop {
            self.stream.readable().await?;
            match self.stream.try_read_buf(&mut self.taken) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return outcome,
            }
        }
    }

    /// Looks at all lines that are whole; whether the turn's end was among them.
    fn parse(&mut self, mut message: impl FnMut(u64)) -> anyhow::Result<bool> {
        let mut rest = self.text.as_slice();
        let mut over = false;
        while let Some(line) = next_line(&mut rest) {
            if let Some(id) = line.strip_prefix(b"id: ") {
                let seq = number(id);
                ensure!(seq == self.last_seq + 1, "event {seq} came after event {}", self.last_seq);
                self.last_seq = seq;
            } else if let Some(kind) = line.strip_prefix(b"event: ") {
                self.is_message = kind == b"message.delta";
                self.is_end = kind == b"turn.ended";
                if kind == b"turn.failed" || kind == b"session.ended" {
                    bail!("{} after event {}", String::from_utf8_lossy(kind), self.last_seq);
                }
            } else if let Some(data) = line.strip_prefix(b"data: ") {
                if self.is_message {
                    message(time_in(data));
                }
                over |= self.is_end;
            } else if !line.is_empty() && line != b": open" && line != b": keep-alive" {
                bail!("a strange line: {}", String::from_utf8_lossy(line));
            }
        }
        let rest = rest.len();
        self.text.drain(..self.text.len() - rest);
        Ok(over)
    }
}

/// Takes a whole line off the front, without its end.
fn next_line<'text>(rest: &mut &'text [u8]) -> Option<&'text [u8]> {
    let before = *rest;
    let length = rest.skip_until(b'\n').unwrap_or_default();
    let line = before[..length].strip_suffix(b"\n");
    if line.is_none() {
        *rest = before;
    }
    line
}

fn number(digits: &[u8]) -> u64 {
    digits.iter().take_while(|digit| digit.is_ascii_digit()).fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'))
}

/// The time the agent wrote at the beginning of its text.
fn time_in(data: &[u8]) -> u64 {
    let at = data.windows(BEFORE_TIME.len()).position(|window| window == BEFORE_TIME);
    at.map_or(0, |at| number(&data[at + BEFORE_TIME.len()..]))
}

/// The agent's clock: `CLOCK_MONOTONIC`, in nanoseconds.
fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or_default() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or_default()
}
