//! Whether a call may begin: asked as soon as it is known who calls, before a byte of the body is read. So a user who floods costs the
//! others no more than the reading of heads.
//!
//! Opens and prompts are counted where they are done, for a request that is refused for another reason, or answered a second time, counts for
//! nothing; here is only looked whether there is one left. Every other call is counted here. So is an open or prompt with an `Idempotency-Key`: it
//! may only ask for an answer again, which costs no open and no prompt, but isn't to be had without end.

use std::sync::Arc;

use crate::{identity::Proven, limits::Limits, problem::Problem};

/// What kind of call begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// It opens a session.
    Open,
    /// It starts a turn.
    Prompt,
    /// It may only ask for the answer of an earlier call.
    Again,
    /// Anything else.
    Other,
}

/// Lets calls begin.
#[derive(Debug, Clone)]
pub struct Admission(Arc<Limits>);

impl Admission {
    /// By these limits.
    #[must_use]
    pub const fn new(limits: Arc<Limits>) -> Self {
        Self(limits)
    }

    /// Lets a call begin.
    ///
    /// # Errors
    /// `RATE_LIMITED`: the user is too fast.
    pub fn admit(&self, who: &Proven, call: Call) -> Result<(), Problem> {
        let allowance = self.0.of(who.tier.as_ref());
        match call {
            Call::Open => allowance.may_open(&who.user),
            Call::Prompt => allowance.may_prompt(&who.user),
            Call::Again | Call::Other => allowance.check_read(&who.user).map(drop),
        }
    }
}

impl super::Service {
    /// Asked by doors before anything else.
    #[must_use]
    pub fn admission(&self) -> Admission {
        Admission::new(Arc::clone(&self.limits))
    }
}
