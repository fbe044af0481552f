//! SIGTERM and SIGINT: the first asks for an orderly end, the second takes it.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// Listens while it lives.
pub(super) struct Signals {
    stop: CancellationToken,
    _task: AbortOnDropHandle<()>,
}

impl Signals {
    /// Is cancelled by the first signal.
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }
}

/// Begins to listen.
pub(super) fn listen() -> std::io::Result<Signals> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = CancellationToken::new();
    let cancel = stop.clone();
    let task = tokio::spawn(async move {
        let name = either(&mut terminate, &mut interrupt).await;
        tracing::info!(signal = name, "stopping; a second signal ends the process at once");
        cancel.cancel();
        let name = either(&mut terminate, &mut interrupt).await;
        tracing::warn!(signal = name, "ended at once; what is left on the engine is destroyed at the next start");
        end_now();
    });
    Ok(Signals { stop, _task: AbortOnDropHandle::new(task) })
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

#[expect(clippy::disallowed_methods, reason = "whoever asks twice doesn't want to wait for destructors either")]
fn end_now() -> ! {
    std::process::exit(1)
}
