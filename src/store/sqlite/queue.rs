//! What waits to be written, in order.

use std::{
    collections::VecDeque,
    fmt, mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::store::{Change, Done};

/// Most changes written in one go.
const GROUP_CHANGES: usize = 4096;
/// Text after which a group takes no further batch, in bytes: what comes next shouldn't wait long for what is there.
const GROUP_BYTES: usize = 1024 * 1024;

/// Changes that belong together.
pub(super) struct Batch {
    pub(super) changes: Vec<Change>,
    pub(super) done: Done,
}

/// What the writer is to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Write the group.
    Write,
    /// Nothing came.
    Idle,
    /// End.
    End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Nothing is taken any more; what is there is written, with tries until then.
    Closing(Instant),
    Ended,
}

struct Waiting {
    batches: VecDeque<Batch>,
    state: State,
}

/// The queue before the writer. It has no bound of its own: see [`Store::write`](crate::store::Store::write).
pub(super) struct Queue {
    /// Held for a few moves, never while anything is written.
    waiting: Mutex<Waiting>,
    stir: Condvar,
}

impl fmt::Debug for Queue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Queue").field("batches", &self.waiting().batches.len()).finish()
    }
}

impl Queue {
    pub(super) fn new() -> Self {
        Self { waiting: Mutex::new(Waiting { batches: VecDeque::new(), state: State::Open }), stir: Condvar::new() }
    }

    /// Adds a batch at the end; a closed queue drops it.
    pub(super) fn push(&self, batch: Batch) {
        let mut waiting = self.waiting();
        if waiting.state == State::Open {
            waiting.batches.push_back(batch);
            let first = waiting.batches.len() == 1;
            drop(waiting);
            if first {
                self.stir.notify_one();
            }
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.waiting().state == State::Open
    }

    /// Fills `group` with what waits, up to a bound; waits for up to `patience` when there is nothing.
    pub(super) fn next(&self, group: &mut Vec<Batch>, patience: Duration) -> Next {
        let mut waiting = self.waiting();
        if waiting.batches.is_empty() && waiting.state == State::Open && !patience.is_zero() {
            let idle = |waiting: &mut Waiting| waiting.batches.is_empty() && waiting.state == State::Open;
            waiting = self.stir.wait_timeout_while(waiting, patience, idle).unwrap_or_else(PoisonError::into_inner).0;
        }
        let (mut changes, mut bytes) = (0, 0);
        while changes < GROUP_CHANGES && bytes < GROUP_BYTES {
            let Some(batch) = waiting.batches.pop_front() else { break };
            changes += batch.changes.len();
            bytes += batch.changes.iter().map(text_bytes).sum::<usize>();
            group.push(batch);
        }
        match waiting.state {
            State::Ended => Next::End,
            _ if !group.is_empty() => Next::Write,
            State::Open => Next::Idle,
            State::Closing(_) => Next::End,
        }
    }

    /// Waits before the next try; false when there is no time for one.
    pub(super) fn pause(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut waiting = self.waiting();
        loop {
            let end = match waiting.state {
                State::Open => until,
                State::Closing(deadline) if deadline <= until => return false,
                State::Closing(_) => until,
                State::Ended => return false,
            };
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            waiting = self.stir.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes the changes of batches that only make room out of the queue; the batches stay, so that their turn to be done comes.
    pub(super) fn take_relief(&self, relief: &mut Vec<Change>) {
        self.waiting().batches.iter_mut().for_each(|batch| batch.give_relief(relief));
    }

    /// Takes nothing any more; what is there is tried until `deadline`.
    pub(super) fn close(&self, deadline: Instant) {
        let mut waiting = self.waiting();
        if waiting.state == State::Open {
            waiting.state = State::Closing(deadline);
        }
        drop(waiting);
        self.stir.notify_all();
    }

    /// Drops what waits, and whatever comes.
    pub(super) fn end(&self) {
        let mut waiting = self.waiting();
        waiting.state = State::Ended;
        let dropped = mem::take(&mut waiting.batches);
        drop(waiting);
        self.stir.notify_all();
        // What belongs to others is dropped without the lock.
        drop(dropped);
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batch {
    /// Hands over its changes if all of them only make room.
    pub(super) fn give_relief(&mut self, relief: &mut Vec<Change>) {
        if self.changes.iter().all(|change| matches!(change, Change::Trim { .. } | Change::Forget { .. })) {
            relief.append(&mut self.changes);
        }
    }
}

fn text_bytes(change: &Change) -> usize {
    match change {
        Change::Session(row) => row.document.len(),
        Change::Events { events, .. } => events.iter().map(bytes::Bytes::len).sum(),
        Change::Turn { document, .. }
        | Change::Permission { document, .. }
        | Change::Mark { document, .. }
        | Change::Answered { document, .. } => document.len(),
        Change::Trim { .. } | Change::Forget { .. } | Change::Spent { .. } | Change::Released { .. } => 0,
    }
}
