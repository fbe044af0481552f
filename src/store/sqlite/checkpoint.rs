//! Copies the log of changes into the file, beside the writer.
//!
//! SQLite appends changes to a log and begins it anew once all of it was copied into the file and no reader is in it. Copying ends in fsync, which takes
//! as long as the disk likes: so a thread of its own does that while the writer goes on. A writer that never rests is always a little ahead of
//! it, and the log would grow for ever. When it has grown to `hard` frames the writer is asked to copy the little that is left itself, once, with
//! nobody adding to it; then the log begins anew.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rusqlite::{Connection, wal::CheckpointMode};
use tracing::warn;

use super::file::{StoreFile, sentence};

/// A log that nobody adds to is copied after this, so that little is left to do after a crash.
const QUIET: Duration = Duration::from_secs(5);
/// How long to wait after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// Copies as much of the log as the mode says.
pub(super) fn copy_log(db: &Connection, mode: CheckpointMode) -> rusqlite::Result<()> {
    db.wal_checkpoint_v2(Some(c"main"), mode).map(|_frames| ())
}

/// How long the log may become, in frames of a page each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Frames after which it is copied.
    pub(super) soft: u32,
    /// Frames after which the writer has to help.
    pub(super) hard: u32,
}

#[derive(Debug, Default)]
struct Gauge {
    /// Frames in the log.
    frames: u32,
    /// Frames when it was last copied.
    passed: u32,
    /// Frames written and not yet told to [`Pressure::take_written`].
    written: u32,
    /// The writer is asked for help. Until it has helped nobody else copies: two can't.
    requested: bool,
    /// Frames below which it isn't asked again.
    not_before: u32,
    closed: bool,
}

/// What the log weighs: told by the writer, watched by the copier.
#[derive(Debug)]
pub(super) struct Pressure {
    /// Held for a look.
    gauge: Mutex<Gauge>,
    grown: Condvar,
    bounds: Bounds,
}

impl Pressure {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { gauge: Mutex::default(), grown: Condvar::new(), bounds }
    }

    /// Has the writer's connection tell how long the log is after each transaction.
    pub(super) fn watch(self: &Arc<Self>, db: &mut Connection) -> rusqlite::Result<()> {
        let pressure = Arc::clone(self);
        db.wal_hook(Some(move |_: &mut _, frames: std::ffi::c_int| {
            pressure.now(frames.cast_unsigned());
            Ok(())
        }))
    }

    fn now(&self, frames: u32) {
        let mut gauge = self.gauge();
        if frames < gauge.frames {
            // It began anew.
            *gauge = Gauge { written: gauge.written, closed: gauge.closed, ..Gauge::default() };
        }
        gauge.written = gauge.written.saturating_add(frames - gauge.frames);
        gauge.frames = frames;
        if frames - gauge.passed >= self.bounds.soft {
            self.grown.notify_one();
        }
    }

    /// Frames written since the last time this was asked.
    pub(super) fn take_written(&self) -> u32 {
        std::mem::take(&mut self.gauge().written)
    }

    /// Whether the writer's help is asked for.
    pub(super) fn is_requested(&self) -> bool {
        self.gauge().requested
    }

    /// The writer helped, or readers were in its way: then it isn't asked again soon.
    pub(super) fn relieved(&self, anew: bool) {
        let mut gauge = self.gauge();
        gauge.requested = false;
        gauge.passed = gauge.frames;
        gauge.not_before = if anew { 0 } else { gauge.frames.saturating_add(self.bounds.hard / 2) };
    }

    pub(super) fn close(&self) {
        self.gauge().closed = true;
        self.grown.notify_all();
    }

    /// Waits until there is something to copy; false: no more.
    fn wait(&self, patience: Duration, failing: bool) -> bool {
        let few = |gauge: &mut Gauge| {
            let grown = gauge.frames - gauge.passed >= self.bounds.soft;
            !gauge.closed && (failing || gauge.requested || !grown)
        };
        let gauge = self.grown.wait_timeout_while(self.gauge(), patience, few);
        !gauge.unwrap_or_else(PoisonError::into_inner).0.closed
    }

    /// Frames to copy now, if there are any.
    fn begin(&self) -> Option<u32> {
        let mut gauge = self.gauge();
        let grown = gauge.frames != gauge.passed;
        gauge.passed = gauge.frames;
        grown.then_some(gauge.frames)
    }

    fn request(&self) {
        let mut gauge = self.gauge();
        gauge.requested = gauge.frames >= self.bounds.hard.max(gauge.not_before);
    }

    fn gauge(&self) -> MutexGuard<'_, Gauge> {
        self.gauge.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that copies.
pub(super) struct Copier {
    db: Connection,
    pressure: Arc<Pressure>,
    /// Last, so that it is held for longer than the connection.
    file: Arc<StoreFile>,
}

impl Copier {
    pub(super) fn new(file: Arc<StoreFile>, pressure: Arc<Pressure>) -> rusqlite::Result<Self> {
        Ok(Self { db: file.checkpointer()?, pressure, file })
    }

    /// Copies until it is closed.
    pub(super) fn run(self) {
        let mut failing = false;
        while self.pressure.wait(if failing { PAUSE } else { QUIET }, failing) {
            let copied = self.pass();
            if let Err(fault) = &copied
                && !failing
            {
                warn!(reason = sentence(fault), "the store's log can't be copied into its file; it is tried again");
            }
            failing = copied.is_err();
        }
    }

    fn pass(&self) -> rusqlite::Result<()> {
        let Some(frames) = self.pressure.begin() else { return Ok(()) };
        copy_log(&self.db, CheckpointMode::PASSIVE)?;
        if frames >= self.pressure.bounds.hard {
            // SQLite syncs the file only when the whole log was copied: the writer would wait for all of that. So little is left to it in both.
            self.sync();
            copy_log(&self.db, CheckpointMode::PASSIVE)?;
            self.sync();
            self.pressure.request();
        }
        Ok(())
    }

    /// Ahead of time: whoever ends the log syncs again, and tells of failures.
    fn sync(&self) {
        let _told_by_the_next = self.file.sync();
    }
}
