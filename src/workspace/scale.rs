//! What a workspace in use takes on the disk, as far as is known: what was found when it was last weighed, and what its user wrote since.
//!
//! Engines don't limit the size of a folder on common file systems, and looking at every file takes time. So a workspace is weighed now and then
//! ([`super::weigh`]), and what goes through the server's own hands is added at once. What its agent writes in between is not known.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{fault::FileError, folder::LiveWorkspace};

/// What a weighing found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Weight {
    pub(super) bytes: u64,
    /// There is more than can be counted.
    pub(super) countless: bool,
}

/// What a workspace takes.
#[derive(Debug, Clone, Copy)]
pub struct Used {
    /// Bytes on the disk.
    pub bytes: u64,
    /// Since it was weighed.
    pub age: Duration,
    /// Something was removed since, or its agent has been at work.
    pub outdated: bool,
    /// It has more files, or deeper folders, than can be counted.
    pub countless: bool,
}

impl Used {
    /// Whether this is more than it may take.
    #[must_use]
    pub const fn exceeds(&self, limit: u64) -> bool {
        self.countless || self.bytes > limit
    }
}

/// Knows what one workspace takes.
#[derive(Debug)]
pub(super) struct Scale {
    /// A few lines at a time, never across an await.
    state: Mutex<State>,
    /// Moves on when a weighing is over, whatever came of it.
    weighings: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    weighed: Option<(Weight, Instant)>,
    /// What was found needn't be so any more.
    outdated: bool,
    /// One is under way; what had been written when it began.
    weighing: Option<u64>,
    /// What the user wrote since the weighing that counts began.
    written: u64,
    /// What is being written and has no name yet.
    under_way: u64,
    /// What it may take, as was last said.
    limit: Option<u64>,
}

impl Default for Scale {
    fn default() -> Self {
        Self { state: Mutex::default(), weighings: watch::Sender::new(0) }
    }
}

impl Scale {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Numbers only: they are whole at any time.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a weighing, unless one is under way.
    pub(super) fn begin(&self) -> bool {
        let mut state = self.lock();
        let free = state.weighing.is_none();
        if free {
            state.weighing = Some(state.written);
            state.outdated = false;
        }
        free
    }

    /// A weighing is over. None: it came to nothing.
    pub(super) fn end(&self, found: Option<Weight>) {
        let mut state = self.lock();
        let Some(before) = state.weighing.take() else { return };
        if let Some(weight) = found {
            state.weighed = Some((weight, Instant::now()));
            // What was written meanwhile may have been found already: then it counts twice until the next time.
            state.written -= before;
        }
        drop(state);
        self.weighings.send_modify(|number| *number = number.wrapping_add(1));
    }

    fn used(&self) -> Option<Used> {
        let state = self.lock();
        let (weight, when) = state.weighed?;
        let bytes = weight.bytes + state.written + state.under_way;
        let State { outdated, .. } = *state;
        Some(Used { bytes, age: when.elapsed(), outdated, countless: weight.countless })
    }
}

impl LiveWorkspace {
    /// What it takes; none: it was never weighed.
    #[must_use]
    pub fn used(&self) -> Option<Used> {
        self.scale.used()
    }

    /// It is new and empty: nothing has to be weighed to know that.
    pub(super) fn is_new(&self) {
        if self.scale.begin() {
            self.scale.end(Some(Weight::default()));
        }
    }

    /// Something was removed, or its agent goes to work: what was found needn't be so any more.
    pub fn has_changed(&self) {
        self.scale.lock().outdated = true;
    }

    /// Wakes whoever waits for a weighing: changes when one is over.
    #[must_use]
    pub fn weighings(&self) -> watch::Receiver<u64> {
        self.scale.weighings.subscribe()
    }

    /// Says what it may take, for who watches its agent.
    pub fn may_take(&self, limit: u64) {
        self.scale.lock().limit = Some(limit);
    }

    /// What it may take, as was last said.
    #[must_use]
    pub fn limit(&self) -> Option<u64> {
        self.scale.lock().limit
    }

    /// Counts what is going to be written, within this limit.
    #[must_use]
    pub fn charge(&self, limit: u64) -> Charge {
        Charge { scale: Arc::clone(&self.scale), limit, bytes: 0 }
    }
}

/// What is being written. Dropped, it counts for nothing.
#[derive(Debug)]
pub struct Charge {
    scale: Arc<Scale>,
    limit: u64,
    bytes: u64,
}

impl Charge {
    /// Counts more.
    ///
    /// # Errors
    /// The workspace would take more than it may.
    pub fn add(&mut self, bytes: u64) -> Result<(), FileError> {
        let mut state = self.scale.lock();
        let weighed = state.weighed.map_or(0, |(weight, _)| weight.bytes);
        let taken = weighed + state.written + state.under_way;
        if taken.saturating_add(bytes) > self.limit {
            let text = format!("the workspace takes {taken} bytes on the disk, and may take {}", self.limit);
            return Err(FileError::TooLarge(text));
        }
        state.under_way += bytes;
        self.bytes += bytes;
        Ok(())
    }

    /// It is written.
    pub fn keep(mut self) {
        self.scale.lock().written += self.bytes;
        self.give_back();
    }

    fn give_back(&mut self) {
        self.scale.lock().under_way -= std::mem::take(&mut self.bytes);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace() -> LiveWorkspace {
        LiveWorkspace { dir: "/nowhere".into(), gate: Arc::default(), scale: Arc::default() }
    }

    fn bytes(workspace: &LiveWorkspace) -> Option<u64> {
        workspace.used().map(|used| used.bytes)
    }

    fn found(bytes: u64) -> Option<Weight> {
        Some(Weight { bytes, countless: false })
    }

    #[test]
    fn what_is_written_counts_at_once_and_what_is_given_up_no_longer() {
        let workspace = workspace();
        assert_eq!(bytes(&workspace), None);
        workspace.is_new();
        let (mut one, mut other) = (workspace.charge(100), workspace.charge(100));
        one.add(60).expect("room");
        other.add(41).expect_err("more than there is");
        other.add(40).expect("room");
        assert_eq!(bytes(&workspace), Some(100));
        drop(other);
        one.keep();
        assert_eq!(bytes(&workspace), Some(60));
    }

    #[test]
    fn a_weighing_takes_the_place_of_what_was_written_before_it_and_not_of_what_came_meanwhile() {
        let workspace = workspace();
        workspace.is_new();
        let write = |bytes| {
            let mut charge = workspace.charge(u64::MAX);
            charge.add(bytes).expect("room");
            charge.keep();
        };
        write(10);
        assert!(workspace.scale.begin());
        assert!(!workspace.scale.begin(), "one at a time");
        write(5);
        workspace.scale.end(found(12));
        assert_eq!(bytes(&workspace), Some(17));
        assert!(workspace.scale.begin());
        workspace.scale.end(None);
        assert_eq!(bytes(&workspace), Some(17), "one that came to nothing changes nothing");
    }

    #[test]
    fn what_has_changed_is_outdated_until_it_is_weighed_again() {
        let workspace = workspace();
        workspace.is_new();
        workspace.has_changed();
        assert!(workspace.used().is_some_and(|used| used.outdated));
        workspace.is_new();
        assert!(workspace.used().is_some_and(|used| !used.outdated));
    }
}
