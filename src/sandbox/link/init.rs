//! The sandbox's first process, watched from outside: its end is known at once, whatever becomes of the link.

use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::{Interest, unix::AsyncFd};

/// A handle on the process itself, not on its number, which may soon be another's. None on a kernel that has none (before 5.3).
#[derive(Debug)]
pub(super) struct Init(Option<AsyncFd<OwnedFd>>);

impl Init {
    /// Begins to watch.
    #[expect(
        deprecated,
        reason = "unsound only for types that may give another descriptor each time; its successor is unsafe"
    )]
    pub fn watch(pid: i32) -> Self {
        let process = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        Self(process.and_then(|process| AsyncFd::with_interest(process, Interest::READABLE).ok()))
    }

    /// Waits until the process ends; for ever when that can't be told.
    pub async fn ended(&self) {
        match &self.0 {
            // An error means that the handle is of no use: the link's own deadline remains.
            Some(process) if process.readable().await.is_ok() => {}
            _ => std::future::pending().await,
        }
    }
}
