//! Waiting for something to become true, under a deadline; and time that passes without waiting.

use std::{future::Future, time::Duration};

/// Longest wait for what has to happen. Far more than it takes, so that a busy machine is no failure.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(2);

/// Looks until `look` is satisfied. Panics with `what` when it isn't in time.
pub async fn until(what: &str, mut look: impl FnMut() -> bool) {
    let looking = async {
        while !look() {
            tokio::time::sleep(PAUSE).await;
        }
    };
    within(what, looking).await;
}

/// Awaits `future`. Panics with `what` when it doesn't end in time.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

/// Time passes at once.
pub async fn jump(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}
