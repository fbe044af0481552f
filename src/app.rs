//! Builds everything, starts and stops it in order. (seam; written by the lead)

use std::net::SocketAddr;

use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use crate::{config::Config, ids::UserId, telemetry::Metrics};

/// Why the server can't serve.
#[derive(Debug, thiserror::Error)]
#[error("the app is not there yet")]
pub struct StartError;

/// What only some ways of starting bring.
#[derive(Debug, Default)]
pub struct Extras {
    /// A token beside the configured ones, and whom it names.
    pub dev_token: Option<(UserId, SecretString)>,
}

/// Where the app listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// For users.
    pub server: SocketAddr,
    /// For operators.
    pub admin: SocketAddr,
}

/// The whole service.
#[derive(Debug)]
pub struct App {}

impl App {
    /// Builds it.
    ///
    /// # Errors
    /// Something it needs isn't there.
    pub async fn build(_config: Config, _metrics: Metrics, _extras: Extras) -> Result<Self, StartError> {
        Err(StartError)
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        Addresses { server: ([127, 0, 0, 1], 0).into(), admin: ([127, 0, 0, 1], 0).into() }
    }

    /// Serves until `shutdown`.
    ///
    /// # Errors
    /// A listener failed.
    pub async fn run(&self, shutdown: CancellationToken) -> Result<(), StartError> {
        shutdown.cancelled().await;
        Ok(())
    }

    /// Waits for the first warm sandbox.
    pub async fn wait_warm(&self) {}
}
