//! Input on its way to the agent: cut into frames, numbered, kept until it is in the agent's stdin. Pure.

use bytes::Bytes;

use crate::supervisor::{
    frames::{CHUNK_MAX, Frame, INPUT_WINDOW},
    ring::Ring,
};

#[derive(Debug)]
enum Piece {
    Bytes(Bytes),
    End,
}

/// The queue between writer and socket.
#[derive(Debug)]
pub struct Outbox {
    ring: Ring<Piece>,
    /// What is left of the last message: the ring had no room for it yet.
    rest: Bytes,
    open: bool,
}

impl Outbox {
    /// Goes on after input `received`, the newest the supervisor has.
    pub const fn new(received: u64) -> Self {
        Self { ring: Ring::new(received + 1, INPUT_WINDOW), rest: Bytes::new(), open: true }
    }

    /// Whether the writer's next message can be taken.
    pub const fn wants_more(&self) -> bool {
        self.open && self.rest.is_empty() && self.ring.room() > 0
    }

    /// Takes a message of any length, or with none the end of input. Asked only when [`wants_more`](Self::wants_more).
    pub fn push(&mut self, message: Option<Bytes>) {
        match message {
            Some(bytes) => {
                self.rest = bytes;
                self.cut();
            }
            None => {
                self.open = false;
                self.ring.push(0, Piece::End);
            }
        }
    }

    /// Everything up to `number` is in the agent's stdin.
    pub fn acknowledge(&mut self, number: u64) {
        self.ring.acknowledge(number);
        self.cut();
    }

    /// On a new link: goes on after `received`.
    pub fn rewind(&mut self, received: u64) {
        self.ring.rewind(received);
    }

    /// The next frame to send.
    pub fn next_frame(&mut self) -> Option<Frame> {
        let (number, piece) = self.ring.next(INPUT_WINDOW)?;
        Some(match piece {
            Piece::Bytes(bytes) => Frame::Input { number, bytes: bytes.clone() },
            Piece::End => Frame::CloseInput(number),
        })
    }

    fn cut(&mut self) {
        while !self.rest.is_empty() && self.ring.room() > 0 {
            let size = self.rest.len().min(CHUNK_MAX).min(self.ring.room());
            let piece = self.rest.split_to(size);
            self.ring.push(size, Piece::Bytes(piece));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_goes_out_piece_by_piece_as_the_agent_takes_it() {
        let message: Bytes = (0..1_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        let mut outbox = Outbox::new(10);
        outbox.push(Some(message.clone()));
        let (mut sent, mut unacknowledged, mut last) = (Vec::new(), 0, 10);
        while sent.len() < message.len() {
            let Some(Frame::Input { number, bytes }) = outbox.next_frame() else {
                assert!(unacknowledged > 0, "stuck");
                outbox.acknowledge(last);
                unacknowledged = 0;
                continue;
            };
            assert!(number == last + 1 && bytes.len() <= CHUNK_MAX);
            last = number;
            unacknowledged += bytes.len();
            assert!(unacknowledged <= INPUT_WINDOW);
            sent.extend_from_slice(&bytes);
        }
        assert!(sent == message && outbox.wants_more());
        outbox.push(None);
        assert_eq!(outbox.next_frame(), Some(Frame::CloseInput(last + 1)));
        assert!(!outbox.wants_more());
    }
}
