//! A slot's binding while it lasts: the key, ready to be put in, and the way of token counts to the session.

use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderName, HeaderValue};
use secrecy::ExposeSecret as _;
use tokio::sync::{Semaphore, mpsc::error::TrySendError};

use super::{
    Binding, headers,
    redaction::Spellings,
    refusal::Refusal,
    report::{CallRefused, Report, Usage},
};

/// Models whose counts may wait at the same time; those of further ones are summed up under [`OTHER`].
const WAITING_MODELS: usize = 8;

/// Stands for the models past [`WAITING_MODELS`].
const OTHER: &str = "other";

/// One binding. Requests under way hold it, so it outlives `unbind` by a moment.
#[derive(Debug)]
pub(super) struct Lease {
    pub binding: Binding,
    key: Result<Option<HeaderValue>, Refusal>,
    /// The ways the key may be written.
    pub spellings: Arc<Spellings>,
    /// Large requests that are held in memory: one at a time.
    pub large: Arc<Semaphore>,
    /// Held for a few lines, never across an await.
    waiting: Mutex<Waiting>,
}

/// What found the session's channel full, and what the session knows last.
#[derive(Debug, Default)]
struct Waiting {
    usages: Vec<Usage>,
    /// Set while the session doesn't know yet whether calls are refused.
    untold: Option<Report>,
    /// Calls are refused, as far as the session will know.
    refused: bool,
}

impl Lease {
    /// Takes a binding; a few microseconds. A key that can't be a header's value is told to whoever needs it.
    pub fn new(binding: Binding, key_header: &HeaderName) -> Self {
        let key = binding.key.as_ref().map(|key| headers::key_value(key_header, key)).transpose();
        let key = if binding.key_missing { Err(Refusal::KeyMissing) } else { key.map_err(|_| Refusal::Key) };
        let spellings = Spellings::of(binding.key.as_ref().map(|key| key.0.expose_secret()));
        let large = Arc::new(Semaphore::new(1));
        Self { binding, key, spellings: Arc::new(spellings), large, waiting: Mutex::default() }
    }

    /// The key as its header's value.
    pub fn key(&self) -> Result<Option<HeaderValue>, Refusal> {
        self.key.clone()
    }

    /// Tells the session something, first what waits. Doesn't block: usage that finds the channel full is summed up per model and goes along with
    /// the next report, at the latest when the lease ends; of refusals only the last counts.
    pub fn report(&self, report: Report) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match report {
            Report::Usage(usage) => add(&mut waiting.usages, usage),
            told => {
                waiting.refused = matches!(told, Report::Refused(_));
                waiting.untold = Some(told);
            }
        }
        self.send(&mut waiting);
    }

    /// A call was refused for a reason that stays. The session's driver writes it down, once a turn.
    pub fn refused(&self, why: CallRefused) {
        self.report(Report::Refused(why));
    }

    /// A call was answered. Only news after a refusal.
    pub fn answered(&self) {
        if self.waiting.lock().unwrap_or_else(PoisonError::into_inner).refused {
            self.report(Report::Answered);
        }
    }

    fn send(&self, waiting: &mut Waiting) {
        let mut left = std::mem::take(&mut waiting.usages).into_iter();
        while let Some(usage) = left.next() {
            match self.binding.reports.try_send(Report::Usage(usage)) {
                Ok(()) => {}
                Err(TrySendError::Full(unsent)) => {
                    if let Report::Usage(usage) = unsent {
                        waiting.usages.push(usage);
                    }
                    waiting.usages.extend(left);
                    return;
                }
                // The session is over and counts no more.
                Err(TrySendError::Closed(_)) => return,
            }
        }
        if let Some(untold) = waiting.untold.take()
            && let Err(TrySendError::Full(untold)) = self.binding.reports.try_send(untold)
        {
            waiting.untold = Some(untold);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut waiting = std::mem::take(self.waiting.get_mut().unwrap_or_else(PoisonError::into_inner));
        self.send(&mut waiting);
        let cost = |usage: &Usage| usage.input_tokens.saturating_add(usage.output_tokens);
        let tokens: u64 = waiting.usages.iter().map(cost).sum();
        if tokens > 0 {
            tracing::error!(
                user.id = %self.binding.user, session.id = %self.binding.session, tokens,
                "token counts are lost: the session took none until its end"
            );
        }
    }
}

fn add(waiting: &mut Vec<Usage>, mut usage: Usage) {
    let known = |usage: &Usage, waiting: &[Usage]| {
        let alike =
            |other: &Usage| (&other.model, other.hour, other.estimated) == (&usage.model, usage.hour, usage.estimated);
        waiting.iter().position(alike)
    };
    if known(&usage, waiting).is_none() && waiting.len() >= WAITING_MODELS {
        OTHER.clone_into(&mut usage.model);
    }
    match known(&usage, waiting) {
        Some(at) => {
            let sum = &mut waiting[at];
            sum.input_tokens = sum.input_tokens.saturating_add(usage.input_tokens);
            sum.output_tokens = sum.output_tokens.saturating_add(usage.output_tokens);
        }
        None => waiting.push(usage),
    }
}

#[cfg(test)]
mod tests {
    use http::header;
    use tokio::sync::mpsc;

    use super::*;
    use crate::gateway::{Account, Egress};
    use crate::ids::{SessionId, UserId};
    use crate::telemetry::SessionAudit;

    fn lease(capacity: usize) -> (Lease, mpsc::Receiver<Report>) {
        let (sender, receiver) = mpsc::channel(capacity);
        let user = UserId::parse("ada").expect("a good name");
        let (account, egress) = (Account::unlimited(), Egress::nothing());
        let session = SessionId::random();
        let audit = SessionAudit::default();
        let binding = Binding { user, session, key: None, key_missing: false, account, egress, audit, reports: sender };
        (Lease::new(binding, &header::AUTHORIZATION), receiver)
    }

    fn usage(model: &str) -> Report {
        let model = model.to_owned();
        Report::Usage(Usage { model, input_tokens: 2, output_tokens: 3, hour: 7, estimated: false })
    }

    fn told(receiver: &mut mpsc::Receiver<Report>) -> Option<Usage> {
        match receiver.try_recv() {
            Ok(Report::Usage(usage)) => Some(usage),
            _ => None,
        }
    }

    #[test]
    fn counts_that_find_the_channel_full_go_with_the_next() {
        let (lease, mut receiver) = lease(1);
        for _ in 0..5 {
            lease.report(usage("m"));
        }
        assert_eq!(told(&mut receiver).expect("the first").input_tokens, 2);
        lease.report(usage("m"));
        assert_eq!(told(&mut receiver).expect("the sum of the rest").input_tokens, 10);
    }

    #[test]
    fn the_end_of_a_lease_sends_what_waits() {
        let (lease, mut receiver) = lease(1);
        lease.report(usage("a"));
        lease.report(usage("b"));
        assert_eq!(told(&mut receiver).expect("sent at once").model, "a");
        drop(lease);
        assert_eq!(told(&mut receiver).expect("sent at the end").model, "b");
    }

    #[test]
    fn endless_model_names_take_no_endless_memory_and_lose_no_token() {
        let (lease, mut receiver) = lease(1);
        for number in 0..1000 {
            lease.report(usage(&number.to_string()));
        }
        assert!(lease.waiting.lock().expect("not poisoned").usages.len() <= WAITING_MODELS + 1);
        let mut tokens = 0;
        while let Some(usage) = told(&mut receiver) {
            tokens += usage.input_tokens;
            let more = Usage { model: "more".to_owned(), input_tokens: 0, output_tokens: 1, ..usage };
            lease.report(Report::Usage(more));
            if tokens >= 2000 {
                break;
            }
        }
        assert_eq!(tokens, 2000);
    }

    #[test]
    fn of_refusals_only_the_last_is_told_and_an_answer_only_after_one() {
        let (lease, mut receiver) = lease(1);
        lease.answered();
        assert!(receiver.try_recv().is_err(), "that calls are answered is no news");
        lease.report(usage("a"));
        lease.refused(CallRefused::Key);
        lease.answered();
        lease.refused(CallRefused::KeyMissing);
        assert_eq!(told(&mut receiver).expect("the first").model, "a");
        lease.report(usage("b"));
        assert_eq!(told(&mut receiver).expect("the next").model, "b");
        drop(lease);
        assert_eq!(receiver.try_recv(), Ok(Report::Refused(CallRefused::KeyMissing)));
    }
}
