//! The thread that writes the audit log. Nobody else touches the file, and it waits for nothing but lines and the disk.

use std::{
    collections::VecDeque,
    error::Error,
    io,
    sync::{Arc, PoisonError, Weak, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};

use super::{
    Shared,
    file::AuditFile,
    line::{Facts, Line, OK},
    pace::Cause,
};
use crate::telemetry::{Metrics, labels::AuditOutcome};

/// Lines taken at once.
const BATCH: usize = 256;
/// How often it looks after the file, syncs it, and tells what is missing.
const TICK: Duration = Duration::from_secs(1);

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Message {
    /// To be written.
    Line(Box<Line>),
    /// To be answered when everything before it is on the disk.
    Settle(oneshot::Sender<()>),
}

/// Starts the thread. It ends when all handles are gone.
pub(super) fn start(file: AuditFile, mut messages: mpsc::Receiver<Message>, shared: &Arc<Shared>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let mut writer =
        Writer { file, shared: Arc::downgrade(shared), metrics: shared.metrics.clone(), unwritten: 0, failing: false };
    let work = async move {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                count = messages.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return writer.tick();
                    }
                    writer.take(batch.drain(..));
                }
                _ = tick.tick() => writer.tick(),
            }
        }
    };
    // Handed to nobody: it outlives the server's own runtime by as long as the last lines take.
    let _ends_by_itself = thread::Builder::new().name("audit".to_owned()).spawn(move || runtime.block_on(work))?;
    Ok(())
}

struct Writer {
    file: AuditFile,
    /// Not held: the thread's end is the end of the handles.
    shared: Weak<Shared>,
    metrics: Metrics,
    /// Lines that could not be written and are not told of in the file yet.
    unwritten: u64,
    failing: bool,
}

impl Writer {
    fn take(&mut self, messages: impl Iterator<Item = Message>) {
        self.file.look();
        for message in messages {
            match message {
                Message::Line(line) => self.write_or_lose(&line),
                Message::Settle(done) => {
                    self.tick();
                    let _nobody_may_wait = done.send(());
                }
            }
        }
    }

    fn write_or_lose(&mut self, line: &Line) {
        if !self.write(line) {
            self.unwritten += 1;
            self.metrics.audit_lines(AuditOutcome::Lost, 1);
        }
    }

    fn tick(&mut self) {
        self.file.look();
        for line in self.notices() {
            self.write_or_lose(&line);
        }
        let lost = self.unwritten + self.shared.upgrade().map_or(0, |shared| shared.lost.load(Ordering::Relaxed));
        if lost > 0 {
            let facts = Facts { lines: Some(lost), ..Facts::default() };
            if self.write(&Line::new("audit.lost", "lost", facts)) {
                self.told(lost);
            }
        }
        if let Err(error) = self.file.sync() {
            self.fails(&error);
        }
    }

    /// That lines were left out, of whom and how many.
    fn notices(&self) -> VecDeque<Line> {
        let Some(shared) = self.shared.upgrade() else { return VecDeque::new() };
        let left_out = shared.pace.lock().unwrap_or_else(PoisonError::into_inner).sweep(Instant::now());
        let line = |(cause, lines)| {
            let facts = Facts { lines: Some(lines), ..Facts::default() };
            Line::new("audit.left_out", OK, cause_into(cause, facts))
        };
        left_out.into_iter().map(line).collect()
    }

    /// The file says now how many lines were lost.
    fn told(&mut self, lost: u64) {
        if let Some(shared) = self.shared.upgrade() {
            shared.lost.fetch_sub(lost - self.unwritten, Ordering::Relaxed);
            shared.told.store(false, Ordering::Relaxed);
        }
        self.unwritten = 0;
        tracing::info!(lost, "the audit log is written again");
    }

    /// Whether it is written.
    fn write(&mut self, line: &Line) -> bool {
        match self.file.write(&line.bytes()) {
            Ok(()) => {
                self.failing = false;
                self.metrics.audit_lines(AuditOutcome::Written, 1);
                true
            }
            Err(error) => {
                self.fails(&error);
                false
            }
        }
    }

    fn fails(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.failing, true) {
            let error = error as &dyn Error;
            tracing::error!(error, "the audit log can't be written: lines are lost, and counted, until it can");
        }
    }
}

fn cause_into(cause: Cause, facts: Facts) -> Facts {
    match cause {
        Cause::User(user) => Facts { user: Some(user), ..facts },
        Cause::Session(session, action) => Facts { session: Some(session), reason: Some(action), ..facts },
        Cause::Operators => Facts { door: Some("operators"), ..facts },
        Cause::Nobody | Cause::Other => facts,
    }
}
