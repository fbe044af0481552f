//! What clients see: the JSON shapes of API version 1, made from the service's views. Changing one is changing the contract.

pub mod catalog;
pub mod event;
pub mod open;
pub mod permission;
pub mod problem;
pub mod prompt;
pub mod session;
mod text;
pub mod turn;

use std::time::Duration;

use poem_openapi::Object;

use crate::service::view::UsageView;

pub use text::Time;

/// Tokens.
#[derive(Debug, Clone, Copy, Object)]
pub struct Usage {
    /// Read by the model.
    pub input_tokens: u64,
    /// Written by the model.
    pub output_tokens: u64,
}

impl From<UsageView> for Usage {
    fn from(usage: UsageView) -> Self {
        Self { input_tokens: usage.input_tokens, output_tokens: usage.output_tokens }
    }
}

/// Milliseconds with three places: a warm lease takes fractions of one.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
