//! One link's socket with its two buffers: bytes on one side, frames on the other. Used by both ends.
//!
//! There is no task inside: the owner calls [`Connection::turn`] in its own loop and may drop that future at any point without losing a byte.
//! Reading never waits for writing, so two ends that are both full can't block each other. The owner asks [`Connection::has_room`] before it says
//! something that could wait; that bounds what is buffered here to [`LOW_WATER`] and the few control frames.
//! When the other end is gone, what it said before is still delivered, then the turn fails.

use std::{io, time::Duration};

use bytes::{Buf, BytesMut};
use tokio::{
    io::Interest,
    net::UnixStream,
    time::{Instant, timeout_at},
};

use super::frames::{CHUNK_MAX, Frame, FrameError};

/// How often the server asks whether the supervisor is there.
pub const PING_EVERY: Duration = Duration::from_secs(5);
/// A link that says nothing for this long is broken.
pub const SILENCE_MAX: Duration = Duration::from_secs(15);
/// Unsent bytes below which more may be said.
pub const LOW_WATER: usize = CHUNK_MAX;

const READ_MIN: usize = 4 * 1024;

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The other end closed it or its process ended.
    #[error("closed by the other end")]
    Closed,
    /// Nothing was heard for [`SILENCE_MAX`].
    #[error("silent for {} s", SILENCE_MAX.as_secs())]
    Silent,
    /// The other end broke the protocol.
    #[error("protocol broken: {0}")]
    Protocol(#[from] FrameError),
    /// The socket failed.
    #[error(transparent)]
    Socket(#[from] io::Error),
}

/// What a turn brought.
#[derive(Debug)]
pub enum Turn {
    /// A frame arrived.
    Heard(Frame),
    /// Something was sent and there is room for more.
    Room,
}

/// A socket that speaks frames.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    inbound: BytesMut,
    outbound: BytesMut,
    heard_at: Instant,
    /// Writing failed: the other end is gone, but what it said before may still be unread.
    write_failed: bool,
}

impl Connection {
    /// Takes over a connected socket.
    #[must_use]
    pub fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            inbound: BytesMut::new(),
            outbound: BytesMut::new(),
            heard_at: Instant::now(),
            write_failed: false,
        }
    }

    /// Queues a frame; [`turn`](Self::turn) sends it.
    pub fn say(&mut self, frame: &Frame) {
        if !self.write_failed {
            frame.encode(&mut self.outbound);
        }
    }

    /// Whether the owner may say more.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.outbound.len() < LOW_WATER
    }

    /// Sends and receives until a frame is complete or room for more was made. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The link is over.
    pub async fn turn(&mut self) -> Result<Turn, ConnectionError> {
        loop {
            if let Some(frame) = Frame::decode(&mut self.inbound)? {
                return Ok(Turn::Heard(frame));
            }
            let interest =
                if self.outbound.is_empty() { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
            let Ok(ready) = timeout_at(self.heard_at + SILENCE_MAX, self.stream.ready(interest)).await else {
                return Err(ConnectionError::Silent);
            };
            let ready = ready?;
            if ready.is_readable() && self.receive()? {
                continue;
            }
            if ready.is_writable() && !self.outbound.is_empty() && self.send() && self.has_room() {
                return Ok(Turn::Room);
            }
        }
    }

    /// Sends what is queued without receiving, for a last word. Gives up after `limit`.
    pub async fn flush(&mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while !self.outbound.is_empty() {
            if !matches!(timeout_at(deadline, self.stream.writable()).await, Ok(Ok(()))) {
                return;
            }
            self.send();
        }
    }

    fn receive(&mut self) -> Result<bool, ConnectionError> {
        if self.inbound.capacity() - self.inbound.len() < READ_MIN {
            self.inbound.reserve(CHUNK_MAX);
        }
        match self.stream.try_read_buf(&mut self.inbound) {
            Ok(0) => Err(ConnectionError::Closed),
            Ok(_) => {
                self.heard_at = Instant::now();
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether anything was sent.
    fn send(&mut self) -> bool {
        match self.stream.try_write(&self.outbound) {
            Ok(sent) => {
                self.outbound.advance(sent);
                true
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(_) => {
                self.write_failed = true;
                self.outbound.clear();
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    async fn hear(connection: &mut Connection) -> Result<Frame, ConnectionError> {
        loop {
            if let Turn::Heard(frame) = connection.turn().await? {
                return Ok(frame);
            }
        }
    }

    fn pair() -> (Connection, Connection) {
        let (one, other) = UnixStream::pair().expect("a socket pair");
        (Connection::new(one), Connection::new(other))
    }

    #[tokio::test]
    async fn two_ends_that_are_both_full_do_not_block_each_other() {
        let (mut one, mut other) = pair();
        let big = Frame::Input { number: 1, bytes: Bytes::from(vec![7; CHUNK_MAX]) };
        for _ in 0..20 {
            one.say(&big);
            other.say(&big);
        }
        let all = |mut connection: Connection| async move {
            for _ in 0..20 {
                hear(&mut connection).await.expect("a frame");
            }
            connection.flush(Duration::from_secs(5)).await;
            connection
        };
        tokio::time::timeout(Duration::from_secs(10), async { tokio::join!(all(one), all(other)) })
            .await
            .expect("no deadlock");
    }

    #[tokio::test]
    async fn last_words_are_heard_though_our_own_can_not_be_sent() {
        let (mut one, mut other) = pair();
        other.say(&Frame::Goodbye);
        other.flush(Duration::from_secs(1)).await;
        drop(other);
        one.say(&Frame::Pong);
        assert_eq!(hear(&mut one).await.expect("the last word"), Frame::Goodbye);
        assert!(matches!(hear(&mut one).await, Err(ConnectionError::Closed)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_link_is_broken() {
        let (mut one, _silent) = pair();
        let before = Instant::now();
        assert!(matches!(hear(&mut one).await, Err(ConnectionError::Silent)));
        assert_eq!(before.elapsed().as_secs(), SILENCE_MAX.as_secs());
    }

    #[tokio::test]
    async fn garbage_breaks_the_link() {
        let (mut one, other) = UnixStream::pair().map(|(a, b)| (Connection::new(a), b)).expect("a socket pair");
        other.try_write(b"GET / HTTP/1.1\r\n\r\n").expect("room in the socket");
        assert!(matches!(hear(&mut one).await, Err(ConnectionError::Protocol(_))));
    }
}
