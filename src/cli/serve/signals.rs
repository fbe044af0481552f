//! SIGTERM and SIGINT: the first asks for an orderly end, the second takes it. SIGHUP asks to read the settings again.
//!
//! SIGTERM, which a service manager sends for a restart too, leaves the sandboxes to the next run unless `--drain` was given; SIGINT, and the
//! hang-up of a terminal, come from a person who is done.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::app::Stop;

const TERMINATE: &str = "SIGTERM";

/// Listens while it lives.
pub(super) struct Signals {
    stop: watch::Receiver<Option<Stop>>,
    /// None: a hang-up stops like the others.
    hang_up: Option<Signal>,
    _task: AbortOnDropHandle<()>,
}

impl Signals {
    /// Waits for the first signal that asks for the end.
    pub fn stop(&self) -> impl Future<Output = Stop> + use<> {
        let mut stop = self.stop.clone();
        async move {
            match stop.wait_for(Option::is_some).await {
                Ok(told) => told.unwrap_or(Stop::Drain),
                // Nobody listens to signals any more.
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// Waits for the next SIGHUP; several that come in between count as one. False: none will come.
    pub async fn hung_up(&mut self) -> bool {
        match &mut self.hang_up {
            Some(hang_up) => hang_up.recv().await.is_some(),
            None => false,
        }
    }
}

/// Begins to listen. `terminal`: whoever started us sits at one, and a hang-up says that it is gone; otherwise it asks for the settings to be
/// read again. From now on no SIGHUP ends the process by itself, not even while the app is still being built.
///
/// `drain`: SIGTERM ends everything too.
pub(super) fn listen(terminal: bool, drain: bool) -> std::io::Result<Signals> {
    let mut ends = Ends {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        hang_up: if terminal { Some(signal(SignalKind::hangup())?) } else { None },
    };
    let hang_up = if terminal { None } else { Some(signal(SignalKind::hangup())?) };
    let (tell, stop) = watch::channel(None);
    let task = tokio::spawn(async move {
        let name = ends.next().await;
        tracing::info!(signal = name, "stopping; a second signal ends the process at once");
        tell.send_replace(Some(if name == TERMINATE && !drain { Stop::HandOver } else { Stop::Drain }));
        let name = ends.next().await;
        tracing::warn!(
            signal = name,
            "ended at once; what is left on the engine is taken up or destroyed at the next start"
        );
        end_now();
    });
    Ok(Signals { stop, hang_up, _task: AbortOnDropHandle::new(task) })
}

/// The signals that ask for the end.
struct Ends {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Option<Signal>,
}

impl Ends {
    async fn next(&mut self) -> &'static str {
        let hang_up = async {
            match &mut self.hang_up {
                Some(hang_up) => hang_up.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => TERMINATE,
            _ = self.interrupt.recv() => "SIGINT",
            _ = hang_up => "SIGHUP",
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "whoever asks twice doesn't want to wait for destructors either")]
fn end_now() -> ! {
    std::process::exit(1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::process::{Signal as Number, getpid, kill_process};
    use tokio::time::timeout;

    use super::*;

    /// One test: a signal reaches everybody in the process who listens.
    #[tokio::test]
    async fn a_hang_up_reloads_a_server_and_stops_one_at_a_terminal() {
        let mut server = listen(false, false).expect("signals can be listened to");
        let terminal = listen(true, false).expect("signals can be listened to");
        kill_process(getpid(), Number::HUP).expect("one may signal oneself");
        let told = timeout(Duration::from_secs(5), server.hung_up()).await;
        assert_eq!(told, Ok(true));
        let stop = timeout(Duration::from_secs(5), terminal.stop()).await.expect("it is asked to stop");
        assert_eq!(stop, Stop::Drain);
        assert_eq!(*server.stop.borrow(), None);
    }
}
