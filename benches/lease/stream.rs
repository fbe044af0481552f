//! A turn's event stream, read as it comes.

use std::time::Duration;

use anyhow::{Context as _, bail};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::timeout;

/// Longer than the server's own deadline for a silent stream.
const SILENCE: Duration = Duration::from_secs(60);

/// Server-sent events, one after the other.
pub struct EventStream {
    body: Incoming,
    buffer: Vec<u8>,
}

/// One event: its type, and its data as it came.
pub struct Event {
    pub kind: String,
    pub data: String,
}

impl EventStream {
    pub const fn new(body: Incoming) -> Self {
        Self { body, buffer: Vec::new() }
    }

    /// The next event of this type. An end without it is an error, and so is a turn that fails.
    pub async fn until(&mut self, kind: &str) -> anyhow::Result<Event> {
        while let Some(event) = self.next().await? {
            if event.kind == kind {
                return Ok(event);
            }
            if event.kind == "turn.failed" || event.kind == "session.ended" {
                bail!("{} came instead of {kind}: {}", event.kind, event.data);
            }
        }
        bail!("the stream ended without {kind}")
    }

    /// Reads to the end, so that the connection can be used again.
    pub async fn finish(mut self) -> anyhow::Result<()> {
        while self.next().await?.is_some() {}
        Ok(())
    }

    async fn next(&mut self) -> anyhow::Result<Option<Event>> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                if let Some(event) = parse(&String::from_utf8_lossy(&block)) {
                    return Ok(Some(event));
                }
                continue; // A comment.
            }
            let frame = timeout(SILENCE, self.body.frame()).await.context("the stream is silent")?;
            match frame.transpose().context("the stream broke off")? {
                Some(frame) => self.buffer.extend(frame.data_ref().into_iter().flatten()),
                None => return Ok(None),
            }
        }
    }
}

fn parse(block: &str) -> Option<Event> {
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name).map(|text| text.trim().to_owned()));
    Some(Event { kind: field("event:")?, data: field("data:").unwrap_or_default() })
}
