//! What clients and operators see: the JSON shapes of API version 1, made from the service's views. Changing one is changing the contract.

pub mod budget;
pub mod catalog;
pub mod change;
pub mod credential;
pub mod event;
pub mod file;
pub mod key;
pub mod open;
pub mod operator;
pub mod permission;
pub mod policy;
pub mod pool;
pub mod problem;
pub mod prompt;
pub mod session;
mod text;
pub mod ticket;
pub mod turn;
pub mod workspace;

use std::time::Duration;

use poem_openapi::Object;

use crate::service::view::Tokens;

pub use text::Time;

/// Tokens.
#[derive(Debug, Clone, Copy, Object)]
pub struct Usage {
    /// Read by the model.
    pub input_tokens: u64,
    /// Written by the model.
    pub output_tokens: u64,
}

impl From<Tokens> for Usage {
    fn from(tokens: Tokens) -> Self {
        Self { input_tokens: tokens.input, output_tokens: tokens.output }
    }
}

/// Milliseconds with three places: a warm lease takes fractions of one.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
