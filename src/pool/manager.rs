//! deadpool's view: `create` hands over what the caller has already taken from stock, `recycle` never happens.
//!
//! deadpool counts the leases and keeps each sandbox's one owner; who gets which sandbox was decided before, in the stock's fair line. What was
//! taken travels in the task's own storage: a caller who is dropped in between drops it, and so ends it.

use std::cell::Cell;

use deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};

use crate::sandbox::{census::SandboxState, lifecycle::Sandbox};

tokio::task_local! {
    /// What the caller took.
    pub(super) static TAKEN: Cell<Option<Sandbox>>;
}

/// `create` was called by somebody who took nothing.
#[derive(Debug, thiserror::Error)]
#[error("nothing was taken from stock")]
pub struct NothingTaken;

/// Hands over what was taken.
#[derive(Debug)]
pub struct Handover;

impl Manager for Handover {
    type Type = Sandbox;
    type Error = NothingTaken;

    async fn create(&self) -> Result<Sandbox, NothingTaken> {
        let sandbox = TAKEN.try_with(Cell::take).ok().flatten().ok_or(NothingTaken)?;
        sandbox.advance(SandboxState::Leased);
        Ok(sandbox)
    }

    async fn recycle(&self, _used: &mut Sandbox, _metrics: &Metrics) -> RecycleResult<NothingTaken> {
        // Leases take their object out, so deadpool has nothing to hand out again; should it ever, the answer is no.
        Err(RecycleError::message("a used sandbox is never used again"))
    }
}
