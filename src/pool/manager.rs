//! deadpool's view of the stock: `create` takes, `recycle` never happens.

use std::sync::Arc;

use deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};

use super::{LeaseError, stock::Stock};
use crate::sandbox::{census::SandboxState, lifecycle::Sandbox};

/// Takes sandboxes from the stock for deadpool to count.
#[derive(Debug)]
pub struct StockManager {
    stock: Arc<Stock>,
}

impl StockManager {
    /// Takes from this stock.
    #[must_use]
    pub const fn new(stock: Arc<Stock>) -> Self {
        Self { stock }
    }
}

impl Manager for StockManager {
    type Type = Sandbox;
    type Error = LeaseError;

    async fn create(&self) -> Result<Sandbox, LeaseError> {
        let sandbox = self.stock.take().await?;
        sandbox.advance(SandboxState::Leased);
        Ok(sandbox)
    }

    async fn recycle(&self, _used: &mut Sandbox, _metrics: &Metrics) -> RecycleResult<LeaseError> {
        // Leases take their object out, so deadpool has nothing to hand out again; should it ever, the answer is no.
        Err(RecycleError::message("a used sandbox is never used again"))
    }
}
