//! The way to the engine: made when first needed, made anew when it broke, with a deadline around every call.
//!
//! ```text
//!   down ── first call: version and info ──▶ up ── a call finds nobody, or another version ──▶ down
//! ```
//!
//! The client library's own timeout counts whole seconds and ends at the response's head; ours spans the whole call. A call that is
//! dropped or late may have taken effect all the same.

use std::{sync::Arc, time::Duration};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    errors::Error,
    models::{SystemInfo, SystemVersion},
};
use tokio::sync::Mutex;

use super::fault::Fault;

/// The library's own deadline, in seconds: only a net below ours.
const LIBRARY_TIMEOUT: u64 = 120;

/// An engine that has answered.
#[derive(Clone)]
pub(super) struct Engine {
    pub(super) client: Docker,
    pub(super) version: Arc<SystemVersion>,
    pub(super) info: Arc<SystemInfo>,
}

/// The way to one engine.
pub(super) struct Connection {
    address: String,
    call_timeout: Duration,
    /// Held while the engine is asked who it is, so that a crowd of callers asks once.
    engine: Mutex<Option<Engine>>,
}

impl Connection {
    /// Takes the address; nothing is dialled yet.
    pub(super) fn new(address: String, call_timeout: Duration) -> Self {
        Self { address, call_timeout, engine: Mutex::new(None) }
    }

    /// The engine as it introduced itself on this connection.
    pub(super) async fn engine(&self) -> Result<Engine, Fault> {
        // The wait for the lock is within: whoever holds it may be waiting for an engine that doesn't answer.
        let introduced = async {
            let mut held = self.engine.lock().await;
            if let Some(engine) = held.as_ref() {
                return Ok(engine.clone());
            }
            let engine = introduce(&self.address).await?;
            *held = Some(engine.clone());
            Ok(engine)
        };
        self.within("version", self.call_timeout, introduced).await
    }

    /// The engine as it introduces itself now: the proof that it is there.
    pub(super) async fn engine_now(&self) -> Result<Engine, Fault> {
        self.forget().await;
        self.engine().await
    }

    /// One call under the usual deadline.
    pub(super) async fn call<T, F>(&self, name: &'static str, operation: impl FnOnce(Docker) -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Error>>,
    {
        self.call_within(name, self.call_timeout, operation).await
    }

    /// One call under a deadline of its own.
    pub(super) async fn call_within<T, F>(
        &self,
        name: &'static str,
        limit: Duration,
        operation: impl FnOnce(Docker) -> F,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let engine = self.engine().await?;
        let answer = self.within(name, limit, operation(engine.client)).await;
        if answer.as_ref().is_err_and(Fault::breaks_connection) {
            self.forget().await;
        }
        answer
    }

    async fn within<T>(
        &self,
        name: &'static str,
        limit: Duration,
        operation: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Fault> {
        match tokio::time::timeout(limit, operation).await {
            Ok(answer) => answer.map_err(|error| Fault::sort(error, name, &self.address, limit)),
            Err(_elapsed) => Err(Fault::late(name, limit)),
        }
    }

    async fn forget(&self) {
        *self.engine.lock().await = None;
    }
}

/// Agrees on an API version and asks the engine what it is.
async fn introduce(address: &str) -> Result<Engine, Error> {
    let client = if address.starts_with("unix://") {
        Docker::connect_with_unix(address, LIBRARY_TIMEOUT, API_DEFAULT_VERSION)?
    } else {
        Docker::connect_with_http(address, LIBRARY_TIMEOUT, API_DEFAULT_VERSION)?
    };
    let client = client.negotiate_version().await?;
    let (version, info) = (client.version().await?, client.info().await?);
    Ok(Engine { client, version: Arc::new(version), info: Arc::new(info) })
}
