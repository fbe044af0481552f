//! A slot's binding while it lasts: the key, ready to be put in, and the way of token counts to the session.

use std::sync::{Mutex, PoisonError};

use http::{HeaderName, HeaderValue};
use tokio::sync::mpsc::error::TrySendError;

use super::{Binding, Usage, headers, refusal::Refusal};

/// Models whose counts may wait at the same time; those of further ones are summed up under [`OTHER`].
const WAITING_MODELS: usize = 8;

/// Stands for the models past [`WAITING_MODELS`].
const OTHER: &str = "other";

/// One binding. Requests under way hold it, so it outlives `unbind` by a moment.
#[derive(Debug)]
pub(super) struct Lease {
    pub binding: Binding,
    key: Result<Option<HeaderValue>, Refusal>,
    /// Counts that found the session's channel full. Held for a few lines, never across an await.
    waiting: Mutex<Vec<Usage>>,
}

impl Lease {
    /// Takes a binding; a few hundred nanoseconds. A key that can't be a header's value is told to whoever needs it.
    pub fn new(binding: Binding, key_header: &HeaderName) -> Self {
        let key = binding.key.as_ref().map(|key| headers::key_value(key_header, key)).transpose();
        let key = if binding.key_missing { Err(Refusal::KeyMissing) } else { key.map_err(|_| Refusal::Key) };
        Self { binding, key, waiting: Mutex::new(Vec::new()) }
    }

    /// The key as its header's value.
    pub fn key(&self) -> Result<Option<HeaderValue>, Refusal> {
        self.key.clone()
    }

    /// Sends counts to the session, those that wait first. Doesn't block: what finds the channel full is summed up per model
    /// and goes along with the next report, at the latest when the lease ends.
    pub fn report(&self, usage: Usage) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        add(&mut waiting, usage);
        self.send(&mut waiting);
    }

    fn send(&self, waiting: &mut Vec<Usage>) {
        let mut left = std::mem::take(waiting).into_iter();
        while let Some(usage) = left.next() {
            match self.binding.usage.try_send(usage) {
                Ok(()) => {}
                Err(TrySendError::Full(usage)) => {
                    waiting.push(usage);
                    waiting.extend(left);
                    return;
                }
                // The session is over and counts no more.
                Err(TrySendError::Closed(_)) => return,
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut waiting = std::mem::take(self.waiting.get_mut().unwrap_or_else(PoisonError::into_inner));
        self.send(&mut waiting);
        let tokens: u64 = waiting.iter().map(|usage| usage.input_tokens.saturating_add(usage.output_tokens)).sum();
        if tokens > 0 {
            tracing::error!(
                user.id = %self.binding.user, session.id = %self.binding.session, tokens,
                "token counts are lost: the session took none until its end"
            );
        }
    }
}

fn add(waiting: &mut Vec<Usage>, mut usage: Usage) {
    let known = |model: &str, waiting: &[Usage]| waiting.iter().position(|other| other.model == model);
    if known(&usage.model, waiting).is_none() && waiting.len() >= WAITING_MODELS {
        OTHER.clone_into(&mut usage.model);
    }
    match known(&usage.model, waiting) {
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

    fn lease(capacity: usize) -> (Lease, mpsc::Receiver<Usage>) {
        let (sender, receiver) = mpsc::channel(capacity);
        let user = UserId::parse("ada").expect("a good name");
        let (account, egress) = (Account::unlimited(), Egress::nothing());
        let session = SessionId::random();
        let audit = SessionAudit::default();
        let binding = Binding { user, session, key: None, key_missing: false, account, egress, audit, usage: sender };
        (Lease::new(binding, &header::AUTHORIZATION), receiver)
    }

    fn usage(model: &str) -> Usage {
        Usage { model: model.to_owned(), input_tokens: 2, output_tokens: 3 }
    }

    #[test]
    fn counts_that_find_the_channel_full_go_with_the_next() {
        let (lease, mut receiver) = lease(1);
        for _ in 0..5 {
            lease.report(usage("m"));
        }
        assert_eq!(receiver.try_recv().expect("the first").input_tokens, 2);
        lease.report(usage("m"));
        assert_eq!(receiver.try_recv().expect("the sum of the rest").input_tokens, 10);
    }

    #[test]
    fn the_end_of_a_lease_sends_what_waits() {
        let (lease, mut receiver) = lease(1);
        lease.report(usage("a"));
        lease.report(usage("b"));
        assert_eq!(receiver.try_recv().expect("sent at once").model, "a");
        drop(lease);
        assert_eq!(receiver.try_recv().expect("sent at the end").model, "b");
    }

    #[test]
    fn endless_model_names_take_no_endless_memory_and_lose_no_token() {
        let (lease, mut receiver) = lease(1);
        for number in 0..1000 {
            lease.report(usage(&number.to_string()));
        }
        assert!(lease.waiting.lock().expect("not poisoned").len() <= WAITING_MODELS + 1);
        let mut tokens = 0;
        while let Ok(usage) = receiver.try_recv() {
            tokens += usage.input_tokens;
            lease.report(Usage { model: "more".to_owned(), input_tokens: 0, output_tokens: 1 });
            if tokens >= 2000 {
                break;
            }
        }
        assert_eq!(tokens, 2000);
    }
}
