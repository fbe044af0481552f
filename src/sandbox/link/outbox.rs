//! Input on its way to the agent: numbered, kept until it is in the agent's stdin. Pure.
//!
//! A piece of the writer is one frame and has one number, so that the writer can count along: it is never cut or joined. A piece waits with the
//! writer until a whole one of the longest kind has room.

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
    open: bool,
}

impl Outbox {
    /// Goes on after input `received`, the newest the supervisor has.
    pub const fn new(received: u64) -> Self {
        Self { ring: Ring::new(received + 1, INPUT_WINDOW), open: true }
    }

    /// Whether the writer's next piece can be taken.
    pub const fn wants_more(&self) -> bool {
        self.open && self.ring.room() >= CHUNK_MAX
    }

    /// Takes a piece of at most [`CHUNK_MAX`] bytes, or with none the end of input. Asked only when [`wants_more`](Self::wants_more).
    pub fn push(&mut self, piece: Option<Bytes>) {
        match piece {
            Some(bytes) => {
                debug_assert!(bytes.len() <= CHUNK_MAX, "a piece is one frame");
                self.ring.push(bytes.len(), Piece::Bytes(bytes));
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_one_frame_and_waits_until_it_has_room_as_a_whole() {
        let sizes = [CHUNK_MAX, 1, CHUNK_MAX - 1, CHUNK_MAX, 100, CHUNK_MAX, CHUNK_MAX, 7];
        let mut outbox = Outbox::new(10);
        let mut pieces = sizes.iter().map(|size| Bytes::from(vec![b'x'; *size]));
        let (mut sent, mut unacknowledged) = (Vec::new(), 0);
        while sent.len() < sizes.len() {
            if outbox.wants_more()
                && let Some(piece) = pieces.next()
            {
                outbox.push(Some(piece));
            }
            let Some(Frame::Input { number, bytes }) = outbox.next_frame() else {
                if !outbox.wants_more() {
                    assert!(unacknowledged > 0, "stuck");
                    outbox.acknowledge(10 + sent.len() as u64);
                    unacknowledged = 0;
                }
                continue;
            };
            sent.push(bytes.len());
            assert_eq!(number, 10 + sent.len() as u64);
            unacknowledged += bytes.len();
            assert!(unacknowledged <= INPUT_WINDOW);
        }
        assert_eq!(sent, sizes);
        outbox.acknowledge(18);
        outbox.push(None);
        assert_eq!(outbox.next_frame(), Some(Frame::CloseInput(19)));
        assert!(!outbox.wants_more());
    }
}
