//! The warmer: keeps the stock full, in the background, in nobody's request.
//!
//! It starts as many sandboxes as are missing (warm target plus callers who wait, less those ready and starting), as far as the cap
//! allows. While stock is left it waits a moment before it replaces what was taken: the replacement's boot would compete with the first
//! token of the session that was just opened. After a failure it pauses, longer each time, with jitter; the pause ends early for nobody. It ends with its token, and
//! whatever it was starting goes to the reaper.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    failures::{Failure, FailureKind},
    stock::Stock,
};
use crate::{
    agent::AgentError,
    config,
    ids::{SlotId, random_fraction},
    runtime::RuntimeError,
    sandbox::{
        census::{Census, Counts},
        lifecycle::{Recipe, Sandbox, StartFailure, Starter, start::StartError},
    },
};

/// How often the stock is looked through for agents that died.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// How long a start lets whoever has just been served go first, while nobody waits and something is left in stock.
const COURTESY: Duration = Duration::from_millis(150);

/// What a warmer works with.
pub struct Plan {
    /// What to make.
    pub recipe: Recipe,
    /// Pauses.
    pub settings: config::Pool,
    /// Warm sandboxes to keep.
    pub target: usize,
    /// Where they go.
    pub stock: Arc<Stock>,
    /// Who may be made.
    pub census: Arc<Census>,
    /// Who makes them.
    pub starter: Arc<Starter>,
    /// Ends the warmer.
    pub stop: CancellationToken,
}

/// How many sandboxes to start now.
#[must_use]
pub const fn missing(target: usize, waiting: usize, counts: Counts) -> usize {
    (target + waiting).saturating_sub(counts.ready + counts.starting)
}

/// Starts the warmer.
pub fn spawn(plan: Plan) {
    let stop = plan.stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = run(&plan) => {}
            () = stop.cancelled() => {}
        }
    });
}

async fn run(plan: &Plan) {
    let mut changes = plan.census.subscribe();
    let mut starts: JoinSet<Result<Sandbox, StartFailure>> = JoinSet::new();
    let mut pause_until = Instant::now();
    let mut check = tokio::time::interval(CHECK_EVERY);
    loop {
        changes.borrow_and_update();
        if Instant::now() >= pause_until {
            plan.stock.failures().try_again();
            start_missing(plan, &mut starts);
        }
        tokio::select! {
            Some(done) = starts.join_next() => match done {
                Ok(Ok(sandbox)) => {
                    let times = sandbox.times();
                    info!(template = %plan.recipe.name, total_ms = millis(times.total), "sandbox ready");
                    plan.stock.put(sandbox);
                }
                Ok(Err(failure)) => pause_until = Instant::now() + note(plan, &failure),
                Err(error) => {
                    warn!(%error, "a start panicked");
                    pause_until = Instant::now() + plan.settings.backoff;
                }
            },
            _ = changes.changed() => {}
            () = sleep_until(pause_until), if pause_until > Instant::now() => {}
            _ = check.tick() => plan.stock.check(),
        }
    }
}

fn start_missing(plan: &Plan, starts: &mut JoinSet<Result<Sandbox, StartFailure>>) {
    let counts = plan.census.counts(&plan.recipe.name);
    for _ in 0..missing(plan.target, plan.stock.waiting(), counts) {
        // After a failure one try at a time, until one works.
        if plan.stock.failures().in_a_row() > 0 && !starts.is_empty() {
            return;
        }
        let slot = SlotId::random();
        let Some(entry) = plan.census.admit(&plan.recipe.name, &slot) else { return };
        let (starter, recipe) = (Arc::clone(&plan.starter), plan.recipe.clone());
        let pause = if plan.stock.waiting() == 0 && !plan.stock.is_empty() { COURTESY } else { Duration::ZERO };
        starts.spawn(async move {
            sleep(pause).await;
            starter.start(&recipe, &slot, entry).await
        });
    }
}

/// Tells the stock of a failure; returns the pause that follows it.
fn note(plan: &Plan, failure: &StartFailure) -> Duration {
    let in_a_row = plan.stock.failures().in_a_row().saturating_add(1);
    let pause = backoff(&plan.settings, in_a_row, random_fraction());
    plan.stock.failures().add(Failure {
        time: Timestamp::now(),
        kind: kind_of(&failure.error),
        phase: failure.phase.as_str(),
        detail: public_sentence(failure, &plan.recipe),
        next_try: Instant::now() + pause,
    });
    warn!(
        template = %plan.recipe.name, phase = failure.phase.as_str(), error = %failure.error, in_a_row,
        pause_ms = millis(pause), "a sandbox could not be made ready"
    );
    pause
}

/// The pause after this many failures in a row; `jitter` is between 0 and 1 and takes up to half of it away.
fn backoff(settings: &config::Pool, in_a_row: u32, jitter: f64) -> Duration {
    let doubled = settings.backoff.saturating_mul(1 << in_a_row.saturating_sub(1).min(16));
    doubled.min(settings.backoff_max).mul_f64(1.0 - jitter / 2.0)
}

fn kind_of(error: &StartError) -> FailureKind {
    match error {
        StartError::Runtime(RuntimeError::Unreachable { .. } | RuntimeError::Deadline { .. }) => FailureKind::Engine,
        StartError::Agent(AgentError::Deadline { .. }) => FailureKind::AgentTimeout,
        StartError::Agent(_) => FailureKind::Agent,
        _ => FailureKind::Container,
    }
}

/// What users may read: no paths, no ids, nobody else's words but the agent's own refusal.
fn public_sentence(failure: &StartFailure, recipe: &Recipe) -> String {
    match &failure.error {
        StartError::Runtime(RuntimeError::Unreachable { .. }) => "the container engine can't be reached".to_owned(),
        StartError::Runtime(RuntimeError::Deadline { call, seconds }) => {
            format!("the container engine did not finish {call} within {seconds} s")
        }
        StartError::Runtime(RuntimeError::NoImage { .. }) => {
            format!("the image of template {} is not on the engine", recipe.name)
        }
        StartError::Runtime(RuntimeError::Refused { call, .. }) => format!("the container engine refused to {call}"),
        StartError::Slot(_) | StartError::Gateway(_) => "the host could not make the sandbox's folder".to_owned(),
        StartError::Link(_) => "the sandbox's supervisor did not call".to_owned(),
        StartError::Agent(AgentError::Lost(_)) => "the sandbox was lost while its agent booted".to_owned(),
        StartError::Agent(error) => error.to_string(),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_full_stock_asks_for_nothing_and_every_waiter_counts(target in 0_usize..9, waiting in 0_usize..9, ready in 0_usize..9, starting in 0_usize..9) {
            let counts = Counts { ready, starting, ..Counts::default() };
            let missing = missing(target, waiting, counts);
            prop_assert!(missing + ready + starting >= target + waiting);
            prop_assert!(missing == 0 || missing + ready + starting == target + waiting);
        }

        #[test]
        fn pauses_grow_to_their_limit_and_never_past_it(in_a_row in 1_u32..100, jitter in 0.0_f64..=1.0) {
            let settings = config::Pool::default();
            let pause = backoff(&settings, in_a_row, jitter);
            prop_assert!(pause >= settings.backoff / 2 && pause <= settings.backoff_max);
        }
    }
}
