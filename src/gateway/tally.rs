//! Counts what became of one model call: once, when it is over.

use crate::telemetry::{Metrics, labels::GatewayOutcome};

/// One call. Dropped without a word it counts as given up by the agent; afterwards nobody is left to say more.
#[derive(Debug)]
pub(super) struct Tally {
    metrics: Metrics,
    outcome: GatewayOutcome,
}

impl Tally {
    /// A call begins.
    pub fn new(metrics: Metrics) -> Self {
        Self { metrics, outcome: GatewayOutcome::GivenUp }
    }

    /// What has become of it as far as is known.
    pub fn set(&mut self, outcome: GatewayOutcome) {
        self.outcome = outcome;
    }

    /// It is over.
    pub fn end(mut self, outcome: GatewayOutcome) {
        self.set(outcome);
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.metrics.gateway_request(self.outcome);
    }
}
