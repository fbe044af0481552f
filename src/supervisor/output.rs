//! What the agent writes: read from its two pipes into the ring, in chunks, only as far as the ring has room.
//!
//! A full ring stops the reading, the kernel's pipe fills, and the agent blocks in its own `write`: the pressure reaches it and
//! nothing is dropped.

use std::io;

use bytes::Bytes;
use tokio::net::unix::pipe;

use super::{
    frames::{CHUNK_MAX, Frame, OUTPUT_WINDOW, Source},
    ring::Ring,
};

/// Room below which nothing is read, so that a nearly full ring isn't filled with crumbs.
const ROOM_MIN: usize = 4 * 1024;

/// The agent's two outputs and the ring.
#[derive(Debug)]
pub struct AgentOutput {
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
    ring: Ring<(Source, Bytes)>,
    buffer: Box<[u8]>,
}

impl AgentOutput {
    /// Output that may keep `ring_bytes`.
    #[must_use]
    pub fn new(stdout: Option<pipe::Receiver>, stderr: Option<pipe::Receiver>, ring_bytes: usize) -> Self {
        Self { stdout, stderr, ring: Ring::new(1, ring_bytes), buffer: vec![0; CHUNK_MAX].into_boxed_slice() }
    }

    /// Waits until one of the pipes has something and the ring has room for it.
    pub async fn ready(&self) -> Source {
        if self.ring.room() < ROOM_MIN {
            return std::future::pending().await;
        }
        tokio::select! {
            () = readable(self.stdout.as_ref()) => Source::Stdout,
            () = readable(self.stderr.as_ref()) => Source::Stderr,
        }
    }

    /// Reads one chunk from the pipe that is ready.
    pub fn read(&mut self, source: Source) {
        let pipe = match source {
            Source::Stdout => &mut self.stdout,
            Source::Stderr => &mut self.stderr,
        };
        let room = self.ring.room().min(CHUNK_MAX);
        let Some(open) = pipe else { return };
        match open.try_read(&mut self.buffer[..room]) {
            Ok(0) => *pipe = None,
            Ok(length) => {
                self.ring.push(length, (source, Bytes::copy_from_slice(&self.buffer[..length])));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => *pipe = None,
        }
    }

    /// Adds a line of our own to the agent's stderr.
    pub fn tell(&mut self, text: &str) {
        let line = format!("greenroom-supervisor: {text}\n");
        self.ring.push(line.len(), (Source::Stderr, Bytes::from(line)));
    }

    /// Whether nothing more will be read.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none()
    }

    /// Reads no further.
    pub fn close(&mut self) {
        self.stdout = None;
        self.stderr = None;
    }

    /// The next chunk to send, if the server's window is open.
    pub fn next_frame(&mut self) -> Option<Frame> {
        let (number, (source, bytes)) = self.ring.next(OUTPUT_WINDOW)?;
        Some(Frame::Output { number, source: *source, bytes: bytes.clone() })
    }

    /// What is unacknowledged.
    pub const fn ring(&mut self) -> &mut Ring<(Source, Bytes)> {
        &mut self.ring
    }
}

async fn readable(pipe: Option<&pipe::Receiver>) {
    match pipe {
        Some(pipe) => {
            // An error is found again, and handled, by the read.
            let _ready = pipe.readable().await;
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn a_full_ring_stops_reading_until_the_server_has_taken_some() {
        let limit = 256 * 1024;
        let (agent, stdout) = pipe::pipe().expect("a pipe");
        let mut output = AgentOutput::new(Some(stdout), None, limit);
        let writer = tokio::spawn(async move {
            let mut agent = agent;
            agent.write_all(&[7; 600_000]).await.expect("read to the end");
        });
        let read_until_full = async |output: &mut AgentOutput| {
            while let Ok(source) = tokio::time::timeout(Duration::from_millis(50), output.ready()).await {
                output.read(source);
            }
        };
        read_until_full(&mut output).await;
        assert!(output.ring().cost() <= limit && output.ring().room() < ROOM_MIN);
        assert!(!writer.is_finished(), "the agent was not held back");
        while !output.is_closed() {
            let newest = output.ring().newest();
            output.ring().acknowledge(newest);
            read_until_full(&mut output).await;
            assert!(output.ring().cost() <= limit);
        }
        writer.await.expect("everything was written");
    }
}
