//! What one call costs: settled once, however the call ends.
//!
//! ```text
//!   made ──► begun: the request goes out ──► ended: with counts, or by what passed
//!     └ dropped: nothing     └ dropped: what went out      free: the model said no
//! ```

use std::sync::Arc;

use super::{
    budget::{Cost, Reservation},
    lease::Lease,
    metering::{Counts, run_along},
    report::{Report, Usage},
};
use crate::config::ApiForm;

/// One call's costs. Dropped in the middle it charges what went out.
#[derive(Debug)]
pub(super) struct Charge {
    lease: Arc<Lease>,
    form: ApiForm,
    model: String,
    hour: u64,
    reservation: Option<Reservation>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Made,
    Begun,
    Over,
}

/// How much of an answer there was.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Answered {
    /// What the model counted.
    pub counts: Option<Counts>,
    /// Bytes that passed.
    pub bytes: u64,
    /// It came to its end.
    pub whole: bool,
}

impl Charge {
    /// For a call of this model, with what is held for it if anything is.
    pub fn new(lease: Arc<Lease>, form: ApiForm, model: String, reservation: Option<Reservation>) -> Self {
        let account = &lease.binding.account;
        let hour = reservation.as_ref().map_or_else(|| account.hour(), Reservation::hour);
        Self { lease, form, model, hour, reservation, stage: Stage::Made }
    }

    /// The session it is of.
    pub fn lease(&self) -> &Arc<Lease> {
        &self.lease
    }

    /// The request goes out: from here on it may cost something.
    pub fn begin(&mut self) {
        self.stage = Stage::Begun;
    }

    /// It cost nothing: the model refused it, or never had it.
    pub fn free(&mut self) {
        self.stage = Stage::Over;
        drop(self.reservation.take());
    }

    /// It is over. The answer names the model where the request doesn't.
    pub fn end(&mut self, answered: Answered, model: Option<&str>) {
        if std::mem::replace(&mut self.stage, Stage::Over) == Stage::Over {
            return;
        }
        let cost = self.cost(answered);
        match (self.reservation.take(), cost) {
            (Some(reservation), _) => reservation.settle(cost.unwrap_or_default()),
            (None, Some(cost)) => self.lease.binding.account.spend(self.hour, cost),
            (None, None) => {}
        }
        let Some(cost) = cost.filter(|cost| *cost != Cost::default()) else { return };
        let mut named = std::mem::take(&mut self.model);
        if let Some(model) = model.filter(|_| named.is_empty()) {
            model.clone_into(&mut named);
        }
        self.lease.report(Report::Usage(Usage {
            model: named,
            input_tokens: cost.input,
            output_tokens: cost.output,
            hour: self.hour,
            estimated: answered.counts.is_none(),
        }));
    }

    /// What it cost. Where the model did not count, and somebody has to pay: the most it can have been.
    fn cost(&self, Answered { counts, bytes, whole }: Answered) -> Option<Cost> {
        let reserved = self.reservation.as_ref().map(Reservation::cost);
        match (counts, reserved) {
            (Some(Counts { input, output }), Some(reserved)) if !whole && !run_along(self.form) => {
                // Its count of what it wrote would have come at the end.
                Some(Cost { input, output: output.max(bytes.min(reserved.output)) })
            }
            (Some(Counts { input, output }), _) => Some(Cost { input, output }),
            (None, Some(reserved)) => Some(Cost { input: reserved.input, output: bytes.min(reserved.output) }),
            (None, None) => None,
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.stage == Stage::Begun {
            self.end(Answered::default(), None);
        }
    }
}
