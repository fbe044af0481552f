//! Sandboxes that a former run of the server left running find their pool again.
//!
//! A leased one goes to its session, which takes it up itself; a warm one goes back into stock. Both take up room in the census from the first
//! moment, whatever the capacity says, and a warm one counts as being started while its supervisor is waited for: nothing is made in its place.

use std::{cell::Cell, sync::Arc, time::Duration};

use tokio::time::Instant;
use tracing::{info, warn};

use super::{Lease, LeaseError, Pool, Pools, manager::TAKEN, stock::Refusal};
use crate::{
    agent::{Mark, ResumePlan},
    gateway::Binding,
    sandbox::{
        lifecycle::{Adopted, Foundling, Sandbox, StartFailure, Starter},
        slot::{Ready, Slot},
    },
    telemetry::labels::Discard,
};

/// A user's sandbox that a former run left running; its supervisor hasn't called yet. Dropping it, at any await, ends it.
pub struct PendingAdoption {
    foundling: Foundling,
    pool: Arc<Pool>,
    starter: Arc<Starter>,
}

impl PendingAdoption {
    /// Its folder on the host.
    #[must_use]
    pub fn slot(&self) -> &Slot {
        self.foundling.slot()
    }

    /// The pool that leases it: see [`Pool::adopt`].
    #[must_use]
    pub fn pool(&self) -> Arc<Pool> {
        Arc::clone(&self.pool)
    }

    /// Runs when the container is gone and before its folder is removed, instead of what was said before: until then the workspace goes home
    /// without anybody's hold on it.
    pub fn when_gone(&mut self, then: impl FnOnce(&Slot) + Send + Sync + 'static) {
        self.foundling.when_gone(then);
    }

    /// Binds its gateway socket, from the moment there is one.
    pub fn bind(&mut self, binding: Binding) {
        self.foundling.bind(binding);
    }

    /// Lets go of it without ending it, for the next run of the server.
    pub fn leave(self) {
        self.foundling.leave();
    }

    /// Waits for its supervisor's call, at most `sandbox.link_timeout`.
    ///
    /// # Errors
    /// It can't be had any more; it ends.
    pub async fn adopt(self) -> Result<Adopted, StartFailure> {
        self.starter.adopt(self.foundling).await
    }
}

impl std::fmt::Debug for PendingAdoption {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("PendingAdoption").field("slot", self.slot().id()).finish_non_exhaustive()
    }
}

impl Pools {
    /// Takes charge of a user's sandbox that a former run left. Where its template is gone, its pool is made for as long as it lasts.
    #[must_use]
    pub fn pending(&self, foundling: Foundling) -> PendingAdoption {
        let pool = self.pool_of(foundling.recipe());
        PendingAdoption { foundling, pool, starter: Arc::clone(&self.starter) }
    }

    /// Takes a warm sandbox that a former run left back into stock, in the background. `ready` is what its slot says.
    pub(super) fn adopt_stock(&self, foundling: Foundling, ready: Ready) {
        let pool = self.pool_of(foundling.recipe());
        let coming = Coming::new(&pool);
        let starter = Arc::clone(&self.starter);
        self.keep(async move {
            let age = ready.age();
            match warm(&starter, foundling, ready.memory).await {
                Ok(sandbox) => pool.shelve_adopted(sandbox, age),
                Err(error) => {
                    pool.metrics.sandbox_discarded(&pool.name, Discard::Dead);
                    warn!(template = %pool.name, %error, "a warm sandbox of a former run is lost");
                }
            }
            drop(coming);
        });
    }
}

/// Takes up an agent that waits.
async fn warm(starter: &Starter, foundling: Foundling, memory: serde_json::Value) -> Result<Sandbox, StartFailure> {
    let adopted = starter.adopt(foundling).await?;
    let plan = ResumePlan {
        memory,
        mark: Mark::default(),
        input_received: adopted.input_received(),
        after_cancel: false,
        turn: None,
        answer_deadline: adopted.answer_deadline(),
    };
    adopted.resume(plan)
}

/// A warm sandbox is on its way into the stock.
struct Coming(Arc<Pool>);

impl Coming {
    fn new(pool: &Arc<Pool>) -> Self {
        pool.control().coming += 1;
        Self(Arc::clone(pool))
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.0.control().coming -= 1;
        self.0.census.tell();
    }
}

impl Pool {
    /// Leases a user's sandbox of a former run to that user again: it is their lease still. Never waits.
    ///
    /// # Errors
    /// [`LeaseError::Refused`] when the server stops; the sandbox is dropped.
    pub async fn adopt(&self, sandbox: Sandbox) -> Result<Lease, LeaseError> {
        {
            let mut control = self.control();
            // Its lease was granted under a capacity that may have been larger.
            control.adopted += 1;
            self.inner.resize(control.settings.cap + control.adopted);
        }
        self.lease_out(sandbox).await
    }

    /// Hands the sandbox over through deadpool, which has as many permits as the census has room.
    pub(super) async fn lease_out(&self, sandbox: Sandbox) -> Result<Lease, LeaseError> {
        let object = TAKEN.scope(Cell::new(Some(sandbox)), self.inner.get()).await;
        let object = object.map_err(|error| {
            tracing::debug!(%error, "a lease came too late");
            LeaseError::Refused(Refusal::Closed)
        })?;
        Ok(Lease::new(object))
    }

    /// Puts a warm sandbox of a former run into stock.
    fn shelve_adopted(&self, sandbox: Sandbox, age: Duration) {
        let (generation, longest) = {
            let control = self.control();
            (control.generation, Self::lifetime(&control))
        };
        info!(template = %self.name, age_s = age.as_secs(), "sandbox of a former run is in stock again");
        let now = Instant::now();
        let since = now.checked_sub(age).unwrap_or(now);
        self.stock.put(sandbox, generation, since, now + longest.saturating_sub(age));
    }
}
