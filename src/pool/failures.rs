//! A pool's memory of failed starts: what `/v1/pools` shows, and whether callers should still wait.
//!
//! After [`PATIENCE`] failures in a row callers with nothing in stock are told so at once instead of waiting out their deadline, until the
//! warmer's pause is over and the next try begins. However short the pauses are set, at most [`PER_MINUTE`] starts fail in a minute: an engine
//! has better things to do. An agent that boots and then ends by itself before anybody leased it is a failure too, only a later one: the start that came
//! before it doesn't make up for it.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{sync::watch, time::Instant};

/// Failures in a row after which callers no longer wait.
const PATIENCE: u32 = 2;
/// Failures that are remembered for `/v1/pools`.
const REMEMBERED: usize = 5;
/// Starts that may fail in a minute.
pub const PER_MINUTE: usize = 10;
const MINUTE: Duration = Duration::from_secs(60);

/// What kind of trouble keeps sandboxes from starting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The engine doesn't answer.
    Engine,
    /// The engine can't make or start the container.
    Container,
    /// The agent in it doesn't come up.
    Agent,
    /// The agent in it doesn't answer in time.
    AgentTimeout,
}

/// A start that failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// When.
    pub time: Timestamp,
    /// What kind.
    pub kind: FailureKind,
    /// In which phase.
    pub phase: &'static str,
    /// A public sentence.
    pub detail: String,
    /// When the next try comes.
    pub next_try: Instant,
}

impl Failure {
    /// How long until the next try.
    #[must_use]
    pub fn pause(&self) -> Duration {
        self.next_try.saturating_duration_since(Instant::now())
    }
}

#[derive(Debug, Default)]
struct Memory {
    last: VecDeque<Failure>,
    in_a_row: u32,
    /// Sandboxes that were lost soon after they were ready, since one was leased or lasted.
    early: u32,
    /// When the last [`PER_MINUTE`] failed, oldest first.
    recent: VecDeque<Instant>,
}

/// Failed starts of one pool.
#[derive(Debug)]
pub struct Failures {
    /// A few lines at a time, never across an await, and never while `hopeless` is told.
    memory: Mutex<Memory>,
    hopeless: watch::Sender<bool>,
}

impl Default for Failures {
    fn default() -> Self {
        Self { memory: Mutex::default(), hopeless: watch::Sender::new(false) }
    }
}

impl Failures {
    /// Remembers a failed start.
    pub fn add(&self, failure: Failure) {
        let mut memory = self.memory();
        memory.last.push_front(failure);
        memory.last.truncate(REMEMBERED);
        memory.in_a_row = memory.in_a_row.saturating_add(1);
        let hopeless = memory.in_a_row >= PATIENCE;
        drop(memory);
        self.hopeless.send_replace(hopeless);
    }

    /// A start fails now: when the next one may begin so that not too many fail in a minute.
    pub fn next_slot(&self, now: Instant) -> Instant {
        let mut memory = self.memory();
        if memory.recent.len() >= PER_MINUTE {
            memory.recent.pop_front();
        }
        memory.recent.push_back(now);
        match memory.recent.front() {
            Some(oldest) if memory.recent.len() >= PER_MINUTE => *oldest + MINUTE,
            _ => now,
        }
    }

    /// A start worked.
    pub fn over(&self) {
        let mut memory = self.memory();
        memory.in_a_row = memory.early;
        drop(memory);
        self.hopeless.send_replace(false);
    }

    /// Remembers a sandbox that was ready and is lost by its own fault, so soon that its start may as well have failed. Callers go on waiting: the next
    /// one may well last until it has served them.
    pub fn add_early_loss(&self, loss: Failure) {
        let mut memory = self.memory();
        memory.last.push_front(loss);
        memory.last.truncate(REMEMBERED);
        memory.early = memory.early.saturating_add(1);
        memory.in_a_row = memory.in_a_row.saturating_add(1).max(memory.early);
    }

    /// What starts are worth something: one was leased, or lasted.
    pub fn proven(&self) {
        let mut memory = self.memory();
        memory.in_a_row -= memory.early.min(memory.in_a_row);
        memory.early = 0;
    }

    /// The pause after a failure is over: callers may wait again, for the next try.
    pub fn try_again(&self) {
        self.hopeless.send_replace(false);
    }

    /// Failures in a row since the last success.
    #[must_use]
    pub fn in_a_row(&self) -> u32 {
        self.memory().in_a_row
    }

    /// The last failures, newest first, however long ago.
    #[must_use]
    pub fn last(&self) -> Vec<Failure> {
        self.memory().last.iter().cloned().collect()
    }

    /// The newest failure, if no start has worked since.
    #[must_use]
    pub fn present(&self) -> Option<Failure> {
        let memory = self.memory();
        if memory.in_a_row == 0 { None } else { memory.last.front().cloned() }
    }

    /// Waits until there is no use in waiting; says why.
    pub async fn hopeless(&self) -> Failure {
        let mut hopeless = self.hopeless.subscribe();
        loop {
            // What `wait_for` gives holds the channel's lock: it is dropped before anything else is locked.
            let told = hopeless.wait_for(|hopeless| *hopeless).await.is_ok();
            match self.present() {
                Some(failure) if told => return failure,
                _ => tokio::task::yield_now().await,
            }
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;

    fn failure() -> Failure {
        Failure {
            time: Timestamp::now(),
            kind: FailureKind::Engine,
            phase: "create",
            detail: "the engine is away".to_owned(),
            next_try: Instant::now(),
        }
    }

    #[tokio::test]
    async fn callers_wait_through_one_failure_but_not_through_two() {
        let failures = Failures::default();
        failures.add(failure());
        assert!(tokio::time::timeout(Duration::from_millis(20), failures.hopeless()).await.is_err());
        failures.add(failure());
        assert_eq!(failures.hopeless().await.detail, "the engine is away");
        failures.try_again();
        assert!(tokio::time::timeout(Duration::from_millis(20), failures.hopeless()).await.is_err());
        assert!(failures.present().is_some());
        failures.over();
        assert!(failures.present().is_none());
        assert_eq!(failures.last().len(), 2);
    }

    #[test]
    fn agents_that_die_in_stock_make_pauses_grow_until_one_lasts() {
        let failures = Failures::default();
        for lost in 1..4 {
            failures.over();
            failures.add_early_loss(failure());
            assert_eq!(failures.in_a_row(), lost);
        }
        failures.over();
        assert!(failures.present().is_some(), "a boot alone proves nothing");
        failures.proven();
        assert!(failures.present().is_none());
    }

    #[test]
    fn ten_starts_fail_in_a_minute_and_no_more() {
        let (failures, start) = (Failures::default(), Instant::now());
        let mut now = start;
        let mut in_the_first_minute = 0;
        while now < start + MINUTE {
            in_the_first_minute += 1;
            now = failures.next_slot(now).max(now + Duration::from_millis(1));
        }
        assert_eq!(in_the_first_minute, PER_MINUTE);
    }

    /// Waiters once held the channel's lock while they asked for the memory's, and the warmer the other way round.
    #[test]
    fn waiters_and_the_warmer_never_wait_for_one_another() {
        let (done, finished) = std::sync::mpsc::sync_channel(1);
        // A runtime that hangs can't time itself out, so it is watched from outside.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            runtime.expect("a runtime").block_on(async {
                for _ in 0..300 {
                    let failures = Arc::new(Failures::default());
                    let waiters: Vec<_> = (0..32)
                        .map(|_| {
                            let failures = Arc::clone(&failures);
                            tokio::spawn(async move { failures.hopeless().await })
                        })
                        .collect();
                    tokio::task::yield_now().await;
                    for _ in 0..3 {
                        failures.add(failure());
                    }
                    for waiter in waiters {
                        waiter.await.expect("it was told");
                    }
                }
            });
            let _nobody_waits_any_more = done.send(());
        });
        finished.recv_timeout(Duration::from_secs(20)).expect("waiters and warmer hang");
    }
}
