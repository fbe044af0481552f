//! What the server sent for the agent's stdin and is not written yet.
//!
//! Input is numbered: a frame that comes twice (the server sends again after a reconnection what was not acknowledged) is
//! recognised and ignored, so no byte reaches the agent twice. The queue is bounded by the server's window; a server that passes it
//! broke the protocol. When the agent has closed its stdin, input is swallowed: there is nobody to give it to.

use std::{collections::VecDeque, io};

use bytes::{Buf as _, Bytes};
use tokio::net::unix::pipe;

use super::frames::{CHUNK_MAX, INPUT_WINDOW};

/// Most bytes the queue holds: the server's window, passed by at most one frame.
const QUEUE_MAX: usize = INPUT_WINDOW + CHUNK_MAX;

/// The server broke the numbering or the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("input frame {0} was not to be expected")]
pub struct UnexpectedInput(pub u64);

/// One numbered piece of input.
#[derive(Debug)]
enum Piece {
    Bytes(Bytes),
    End,
}

/// The agent's stdin and what waits for it.
#[derive(Debug)]
pub struct AgentInput {
    stdin: Option<pipe::Sender>,
    queue: VecDeque<Piece>,
    queued_bytes: usize,
    received: u64,
}

impl AgentInput {
    /// Input for this stdin; without one everything is swallowed.
    #[must_use]
    pub const fn new(stdin: Option<pipe::Sender>) -> Self {
        Self { stdin, queue: VecDeque::new(), queued_bytes: 0, received: 0 }
    }

    /// Newest number the server sent.
    #[must_use]
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// Newest number that is in the agent's stdin as a whole.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.received - self.queue.len() as u64
    }

    /// Takes bytes, or with none the end of input.
    ///
    /// # Errors
    /// A number is missing or the window is passed.
    pub fn push(&mut self, number: u64, bytes: Option<Bytes>) -> Result<(), UnexpectedInput> {
        if number <= self.received {
            return Ok(());
        }
        let size = bytes.as_ref().map_or(0, Bytes::len);
        if number != self.received + 1 || self.queued_bytes + size > QUEUE_MAX {
            return Err(UnexpectedInput(number));
        }
        self.received = number;
        if self.stdin.is_some() {
            self.queued_bytes += size;
            self.queue.push_back(bytes.map_or(Piece::End, Piece::Bytes));
        }
        Ok(())
    }

    /// Waits until something can be written; for ever when there is nothing to write.
    pub async fn ready(&self) {
        match &self.stdin {
            Some(stdin) if !self.queue.is_empty() => {
                // An error is found again, and handled, by the write.
                let _ready = stdin.writable().await;
            }
            _ => std::future::pending().await,
        }
    }

    /// Writes what the pipe takes now.
    pub fn write(&mut self) {
        while let (Some(stdin), Some(piece)) = (&self.stdin, self.queue.front_mut()) {
            match piece {
                Piece::End => return self.close(),
                Piece::Bytes(bytes) => match stdin.try_write(bytes) {
                    Ok(written) => {
                        bytes.advance(written);
                        self.queued_bytes -= written;
                        if bytes.is_empty() {
                            self.queue.pop_front();
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                    Err(_) => return self.close(),
                },
            }
        }
    }

    /// Closes the agent's stdin and swallows what waits.
    pub fn close(&mut self) {
        self.stdin = None;
        self.queue.clear();
        self.queued_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piped() -> (AgentInput, pipe::Receiver) {
        let (sender, receiver) = pipe::pipe().expect("a pipe");
        (AgentInput::new(Some(sender)), receiver)
    }

    async fn read(pipe: &pipe::Receiver) -> String {
        let mut buffer = [0; 100];
        pipe.readable().await.expect("readable");
        let length = pipe.try_read(&mut buffer).expect("read");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[tokio::test]
    async fn what_comes_twice_is_written_once() {
        let (mut input, agent) = piped();
        for (number, text) in [(1, "a"), (2, "b"), (1, "a"), (2, "b"), (3, "c")] {
            input.push(number, Some(Bytes::from(text))).expect("in order");
        }
        assert_eq!((input.received(), input.taken()), (3, 0));
        input.ready().await;
        input.write();
        assert_eq!((read(&agent).await, input.taken()), ("abc".to_owned(), 3));
    }

    #[tokio::test]
    async fn a_missing_number_and_a_passed_window_are_refused() {
        let (mut input, _agent) = piped();
        assert_eq!(input.push(2, None), Err(UnexpectedInput(2)));
        let chunk = Bytes::from(vec![0; CHUNK_MAX]);
        let accepted = (1..=100).take_while(|number| input.push(*number, Some(chunk.clone())).is_ok()).count();
        assert_eq!(accepted, QUEUE_MAX / CHUNK_MAX);
    }

    #[tokio::test]
    async fn the_end_is_passed_on_after_what_was_before_it() {
        let (mut input, agent) = piped();
        input.push(1, Some(Bytes::from_static(b"last"))).expect("in order");
        input.push(2, None).expect("in order");
        input.ready().await;
        input.write();
        assert_eq!(read(&agent).await, "last");
        assert_eq!((read(&agent).await.as_str(), input.taken()), ("", 2));
    }

    #[tokio::test]
    async fn input_for_an_agent_that_closed_its_stdin_is_swallowed() {
        let (mut input, agent) = piped();
        drop(agent);
        input.push(1, Some(Bytes::from_static(b"x"))).expect("in order");
        input.ready().await;
        input.write();
        input.push(2, Some(Bytes::from_static(b"y"))).expect("in order");
        assert_eq!(input.taken(), 2);
    }
}
