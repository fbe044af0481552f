//! Answers that a protocol gives by itself, and whether they have arrived.
//!
//! Nobody else knows of such an answer. If the server died before it arrived, with the question marked as done with, the agent would wait for it
//! for ever. So the mark stays before the question, and nothing behind it is read, until the supervisor has the answer. Then the next server
//! either reads the question again or needn't.

use tokio::sync::watch;

/// What of our input is known to have arrived.
#[derive(Debug)]
pub(crate) struct Receipts {
    taken: watch::Receiver<u64>,
    /// The last piece that has to arrive before anything else is read.
    owed: u64,
}

impl Receipts {
    pub(super) const fn new(taken: watch::Receiver<u64>) -> Self {
        Self { taken, owed: 0 }
    }

    /// This piece has to arrive first.
    pub(crate) const fn owe(&mut self, piece: u64) {
        self.owed = piece;
    }

    /// Whether something has to arrive. A link that has ended will take nothing more; then the reader says so.
    pub(crate) fn are_due(&self) -> bool {
        self.owed > *self.taken.borrow() && self.taken.has_changed().is_ok()
    }

    /// Waits until it has arrived. Dropping the future loses nothing.
    pub(crate) async fn come(&mut self) {
        let owed = self.owed;
        // An error is the end of the link.
        let _ended = self.taken.wait_for(|taken| *taken >= owed).await;
    }
}
