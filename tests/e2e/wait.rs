//! Waiting for something to become true, under a deadline.

use std::{future::Future, time::Duration};

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(25);

/// Looks until `look` finds something, and gives it back.
///
/// Panics with `what` when the deadline has passed.
pub async fn until<T>(what: &str, deadline: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let searching = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    within(what, deadline, searching).await
}

/// Awaits `future`, and panics with `what` when the deadline has passed.
pub async fn within<T>(what: &str, deadline: Duration, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(deadline, future).await.unwrap_or_else(|_elapsed| panic!("not within {deadline:?}: {what}"))
}
