//! Who may touch a workspace's files while a session holds it, and until when.
//!
//! A workspace moves by a rename, and whoever has it open goes with it. So before it is moved home its gate is closed: every piece of work on
//! files goes in through the gate, does what takes a moment, and comes out; closing lets nobody in any more and waits for those inside. Nobody
//! waits for a client in there, so a closing takes moments, and whatever was under way fails at its next piece.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::fault::FileError;

/// One session's gate to its workspace.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Locked for a few lines.
    state: Mutex<State>,
    left: Condvar,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    inside: usize,
}

/// Somebody is inside; dropping it is going out.
#[derive(Debug)]
pub(super) struct Pass(Arc<Gate>);

impl Gate {
    pub(super) fn enter(self: &Arc<Self>) -> Result<Pass, FileError> {
        let mut state = self.lock();
        if state.closed {
            return Err(FileError::Ended);
        }
        state.inside += 1;
        Ok(Pass(Arc::clone(self)))
    }

    /// Closes for ever. Blocks until nobody is inside.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        while state.inside > 0 {
            state = self.left.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass {
    /// Long work asks this now and then: somebody may be waiting for it to come out.
    pub(super) fn check(&self) -> Result<(), FileError> {
        if self.0.lock().closed { Err(FileError::Ended) } else { Ok(()) }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.lock().inside -= 1;
        self.0.left.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_waits_for_those_inside_and_lets_nobody_in() {
        let gate = Arc::new(Gate::default());
        let pass = gate.enter().expect("open");
        pass.check().expect("open");
        let closing = std::thread::spawn({
            let gate = Arc::clone(&gate);
            move || gate.close()
        });
        while pass.check().is_ok() {
            std::thread::yield_now();
        }
        assert!(matches!(gate.enter(), Err(FileError::Ended)));
        assert!(!closing.is_finished(), "somebody is inside");
        drop(pass);
        closing.join().expect("closed");
    }
}
