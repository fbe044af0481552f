//! The agent's input: messages cut into pieces, each with the number by which the supervisor will know it.
//!
//! A prompt is planned before it is written: its pieces get their numbers, and until it may go, or is taken back, whatever else is to be written
//! waits behind it.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes};
use tokio::sync::mpsc;
use tracing::debug;

use crate::{agent::Pieces, sandbox::pipes::PIECE_MAX};

/// The agent's input, with what waits for room in the pipe.
#[derive(Debug)]
pub(crate) struct Writer {
    input: mpsc::Sender<Bytes>,
    waiting: VecDeque<Bytes>,
    /// The number of the last piece that has one: the last of those that wait.
    last: u64,
    /// A prompt that may not go yet.
    planned: Option<Bytes>,
    /// Messages that wait behind it, without numbers.
    behind: VecDeque<Bytes>,
    /// The pipe took its last message; the reader will say why.
    closed: bool,
}

impl Writer {
    /// Pieces count on from `received`.
    pub(super) const fn new(input: mpsc::Sender<Bytes>, received: u64) -> Self {
        Self { input, waiting: VecDeque::new(), last: received, planned: None, behind: VecDeque::new(), closed: false }
    }

    /// Puts a message behind those that wait.
    pub(crate) fn push(&mut self, message: Bytes) {
        if self.planned.is_some() {
            self.behind.push_back(message);
        } else {
            self.cut(message);
        }
    }

    /// The number of the last piece that has one.
    pub(crate) const fn last_piece(&self) -> u64 {
        self.last
    }

    /// The number of the next piece that is pushed while nothing is planned.
    pub(crate) const fn next_piece(&self) -> u64 {
        self.last + 1
    }

    /// Plans a prompt; the pieces it will be.
    pub(crate) fn plan(&mut self, prompt: Bytes) -> Pieces {
        let pieces = self.pieces_of(prompt.len());
        self.planned = Some(prompt);
        pieces
    }

    /// The pieces a message of this length would be if it were pushed now.
    pub(crate) fn pieces_of(&self, length: usize) -> Pieces {
        Pieces { first: self.last + 1, last: self.last + length.div_ceil(PIECE_MAX) as u64 }
    }

    /// Lets the planned prompt go.
    pub(crate) fn go(&mut self) {
        if let Some(prompt) = self.planned.take() {
            self.cut(prompt);
        }
        self.let_follow();
    }

    /// Takes the planned prompt back.
    pub(crate) fn take_back(&mut self) {
        self.planned = None;
        self.let_follow();
    }

    fn let_follow(&mut self) {
        for message in std::mem::take(&mut self.behind) {
            self.cut(message);
        }
    }

    fn cut(&mut self, mut message: Bytes) {
        if self.closed {
            return;
        }
        while !message.is_empty() {
            self.waiting.push_back(message.split_to(message.len().min(PIECE_MAX)));
            self.last += 1;
        }
    }

    /// Writes what the agent lacks of a message that was planned as these pieces by a server before us. Must come before anything else.
    pub(crate) fn complete(&mut self, pieces: Pieces, mut message: Bytes) {
        if self.last >= pieces.last {
            return;
        }
        // What was to come before it never will. Its numbers are passed over with pieces of nothing, so that the message has those that were
        // written down: a second server after us counts by them too.
        while self.next_piece() < pieces.first {
            self.waiting.push_back(Bytes::new());
            self.last += 1;
        }
        let there = usize::try_from(self.next_piece().saturating_sub(pieces.first)).unwrap_or(usize::MAX);
        message.advance(there.saturating_mul(PIECE_MAX).min(message.len()));
        self.cut(message);
    }

    /// Messages that wait for room in the pipe, or pieces of them.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.behind.len()
    }

    /// Whether there is nothing that could be written.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Waits for room and writes one piece. Dropping the future loses nothing.
    pub(crate) async fn write_one(&mut self) {
        match self.input.reserve().await {
            Ok(permit) => {
                if let Some(piece) = self.waiting.pop_front() {
                    permit.send(piece);
                }
            }
            Err(_) => {
                debug!(messages = self.waiting.len(), "the agent's input is closed");
                self.waiting.clear();
                self.closed = true;
            }
        }
    }

    /// Writes everything that waits.
    pub(crate) async fn write_all(&mut self) {
        while !self.is_empty() {
            self.write_one().await;
        }
    }
}
