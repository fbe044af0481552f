//! Tells every decision: to the counters, to the audit log, and to the log as far as an agent that asks without end leaves it readable.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    gateway::Binding,
    telemetry::{Metrics, labels::EgressOutcome},
};

/// Decisions of one session that are told within [`WINDOW`]; further ones are counted, and their number is told with the next.
const TOLD: u32 = 50;
const WINDOW: Duration = Duration::from_secs(10);
/// Longest target in the log, in bytes.
const TARGET_MAX: usize = 260;

/// Tells one. `target` is host and port, or what was in their place; never a path.
pub(super) fn tell(metrics: &Metrics, binding: &Binding, target: &str, outcome: EgressOutcome) {
    metrics.egress(outcome);
    match outcome {
        EgressOutcome::Allowed => binding.audit.egress_allowed(target),
        // It may be reached, and wasn't: no decision of ours.
        EgressOutcome::Unresolved | EgressOutcome::Unreachable | EgressOutcome::Deadline => {}
        refused => binding.audit.egress_refused(target, refused.as_str()),
    }
    binding.egress.verdicts().log(binding, target, outcome);
}

/// What the log was told of one session.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    /// Held for a few lines, never across an await.
    window: Mutex<Option<Window>>,
}

#[derive(Debug)]
struct Window {
    begun: Instant,
    told: u32,
    left_out: u64,
}

impl Verdicts {
    fn log(&self, binding: &Binding, target: &str, outcome: EgressOutcome) {
        let Some(left_out) = self.may_tell(Instant::now()) else { return };
        let end = (0..=target.len().min(TARGET_MAX)).rev().find(|end| target.is_char_boundary(*end));
        let target = &target[..end.unwrap_or_default()];
        tracing::info!(
            user.id = %binding.user, session.id = %binding.session, egress.host = target, egress.verdict = outcome.as_str(), left_out,
            "a tool asked for a host"
        );
    }

    /// Whether one more may be told, and how many weren't since the last.
    fn may_tell(&self, now: Instant) -> Option<u64> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let left_out = match &mut *window {
            Some(window) if now - window.begun < WINDOW => {
                if window.told >= TOLD {
                    window.left_out += 1;
                    return None;
                }
                window.told += 1;
                return Some(0);
            }
            Some(window) => window.left_out,
            None => 0,
        };
        *window = Some(Window { begun: now, told: 1, left_out: 0 });
        Some(left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_asks_without_end_fills_no_log_and_is_still_counted() {
        let verdicts = Verdicts::default();
        let told = (0..1000).filter(|_| verdicts.may_tell(Instant::now()).is_some()).count();
        assert_eq!(told, 50);
        tokio::time::advance(WINDOW).await;
        assert_eq!(verdicts.may_tell(Instant::now()), Some(950));
        assert_eq!(verdicts.may_tell(Instant::now()), Some(0));
    }
}
