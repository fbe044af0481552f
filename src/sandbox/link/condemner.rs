//! The right to end a sandbox from outside: for whoever learns that it must go and doesn't own it.

use tokio::sync::watch;

/// Ends a sandbox with a reason that its user may read. Cheap to clone; outlives its sandbox without harm.
#[derive(Debug, Clone)]
pub struct Condemner(watch::Sender<Option<String>>);

/// The link's side of it.
pub(super) type Condemned = watch::Receiver<Option<String>>;

impl Condemner {
    pub(super) fn new() -> (Self, Condemned) {
        let (sender, receiver) = watch::channel(None);
        (Self(sender), receiver)
    }

    /// The sandbox's agent counts as gone from now on: a session with it ends as `sandbox_lost`, a sandbox in stock is found dead. `why` is
    /// public, such as "an operator paused the sandbox". Only the first reason counts; one that is over already doesn't care.
    pub fn condemn(&self, why: impl Into<String>) {
        let why = why.into();
        self.0.send_if_modified(|reason| {
            let first = reason.is_none();
            if first {
                *reason = Some(why);
            }
            first
        });
    }
}

/// Waits for the reason. Dropping the future loses nothing.
pub(super) async fn reason(condemned: &mut Condemned) -> String {
    if condemned.wait_for(Option::is_some).await.is_err() {
        // Nobody is left who could: the link's own handle is gone, and its task is about to be.
        std::future::pending::<()>().await;
    }
    condemned.borrow().clone().unwrap_or_default()
}
