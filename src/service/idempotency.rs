//! Requests that may be sent twice and count once.
//!
//! A request with a key claims it before anything is done. Whoever comes with the same key later gets what came of it:
//!
//! ```text
//!               claim                     created                    answered
//!   (no claim) ───────► running ─────────────────────────► a name ────────────► the whole answer
//!                          │  the work failed, or its client left before anything came of it
//!                          └──────────────────► (no claim): the same key tries again
//! ```
//!
//! The name of what was created is written in one transaction with it, so a server that is killed in between neither opens twice nor forgets.
//! The whole answer follows; when it never does, because the client left, it is made anew from the name. A replay is not new work: it passes
//! none of the paces, whose part was paid when the work was done.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::{sync::oneshot, time::timeout};
use tracing::Instrument as _;

use super::Service;
use crate::{
    identity::Actor,
    ids::{SessionId, TurnId},
    problem::{Code, Problem},
    store::{self, AnyStore, Claimed, IdempotencyKey},
};

/// How long a failed request waits for its key to be free again.
const RELEASE_PATIENCE: Duration = Duration::from_secs(1);
/// How long a key is remembered.
const KEEP: Duration = Duration::from_hours(24);

/// A key and what it came with.
#[derive(Debug, Clone)]
pub struct Keyed {
    /// The client's text: 1 to 255 visible ASCII characters.
    pub key: String,
    /// The route, such as `POST /v1/sessions`, with the session's id where there is one.
    pub route: String,
    /// Of the body, by [`digest`].
    pub body: [u8; 32],
}

/// What a keyed request made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Created {
    /// A session.
    Session(SessionId),
    /// A turn.
    Turn(TurnId),
}

/// What the client was told; the status goes without saying, for only successes are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Where it is.
    pub location: String,
    /// Its version, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The body, as it was sent.
    pub body: String,
}

/// What is kept under a key.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    created: Created,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answer: Option<Answer>,
}

impl Record {
    fn document(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers are JSON")
    }
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Claim {
    /// It is done.
    Fresh(Ticket),
    /// It was done before.
    Made(Made),
}

/// Held while a keyed request is being done. When the last one is dropped and nothing was created, the key is free again.
#[derive(Debug, Clone, Default)]
pub struct Ticket(Option<Arc<Held>>);

#[derive(Debug)]
struct Held {
    store: AnyStore,
    key: IdempotencyKey,
    /// Locked for a look, never across an await.
    created: Mutex<Option<Created>>,
    released: bool,
}

impl Drop for Held {
    fn drop(&mut self) {
        let created = self.created.get_mut().unwrap_or_else(PoisonError::into_inner);
        if created.is_none() && !self.released {
            drop(self.release());
        }
    }
}

impl Ticket {
    /// This is what comes of the request. What is given back is written in the transaction that makes it true; if there comes to be none,
    /// say so with [`Ticket::nothing_created`].
    #[must_use]
    pub fn created(&self, created: Created) -> Vec<store::Change> {
        let Some(held) = &self.0 else { return Vec::new() };
        let document = Record { created: created.clone(), answer: None }.document();
        held.note(Some(created));
        vec![store::Change::Answered { key: held.key.clone(), document }]
    }

    /// Nothing came of it after all.
    pub fn nothing_created(&self) {
        if let Some(held) = &self.0 {
            held.note(None);
        }
    }

    /// The work failed. When this returns, the key can be used again, unless the work still goes on somewhere or the store is slow.
    pub async fn failed(self) {
        let Some(mut held) = self.0.and_then(Arc::into_inner) else { return };
        if held.created.get_mut().unwrap_or_else(PoisonError::into_inner).is_some() {
            return;
        }
        let released = held.release();
        let _slow_store = timeout(RELEASE_PATIENCE, released).await;
    }

    /// The client is being told this.
    pub fn answered(&self, answer: &Answer) {
        let Some(held) = &self.0 else { return };
        let created = held.created.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(created) = created {
            keep(&held.store, held.key.clone(), created, answer.clone());
        }
    }
}

impl Held {
    /// Frees the key; fires when it is free.
    fn release(&mut self) -> oneshot::Receiver<()> {
        self.released = true;
        let (done, released) = oneshot::channel();
        let tell = move || {
            let _nobody_may_wait = done.send(());
        };
        self.store.write(vec![store::Change::Released { key: self.key.clone() }], Box::new(tell));
        released
    }

    fn note(&self, created: Option<Created>) {
        *self.created.lock().unwrap_or_else(PoisonError::into_inner) = created;
    }
}

/// What came of the same request before.
#[derive(Debug)]
pub struct Made {
    /// Its name.
    pub created: Created,
    /// What the client was told, if it was.
    pub answer: Option<Answer>,
    store: AnyStore,
    key: IdempotencyKey,
}

impl Made {
    /// The client is told this now; so is whoever asks again.
    pub fn answered(&self, answer: &Answer) {
        keep(&self.store, self.key.clone(), self.created.clone(), answer.clone());
    }
}

/// What a request made can't be shown: if it is not found any more, nobody knows what was answered.
#[must_use]
pub fn gone(problem: Problem) -> Problem {
    match problem.code {
        Code::NotFound => {
            let detail = "what this idempotency key made is no longer kept; use a new key for a new request";
            Problem::new(Code::Conflict, detail)
        }
        _ => problem,
    }
}

fn keep(store: &AnyStore, key: IdempotencyKey, created: Created, answer: Answer) {
    let document = Record { created, answer: Some(answer) }.document();
    store.write(vec![store::Change::Answered { key, document }], Box::new(|| {}));
}

impl Service {
    /// Claims the key of a request, if it has one, before anything is done for it.
    ///
    /// # Errors
    /// The key was used for another request, its first request is still being done, or the store can't be asked.
    pub async fn claim(&self, caller: &Actor, keyed: Option<Keyed>) -> Result<Claim, Problem> {
        let Some(Keyed { key, route, body }) = keyed else { return Ok(Claim::Fresh(Ticket::default())) };
        // A claim that can't be written down would only wait.
        self.check_new_work()?;
        let key = IdempotencyKey { whose: caller.whose(), route, key };
        // A task of its own: a caller who leaves while the store is asked must not leave a claim behind that nobody lets go of.
        let claiming = claim(Arc::clone(&self.store), key, body).in_current_span();
        let claim = self.around.tracker.spawn(claiming).await.map_err(Problem::internal)??;
        if let Claim::Made(Made { created, .. }) = &claim {
            self.trace_again(caller, created);
        }
        Ok(claim)
    }

    /// For the audit log: what the call is about was made before.
    fn trace_again(&self, caller: &Actor, created: &Created) {
        match created {
            Created::Session(id) => {
                if let Some(session) = self.around.registry.find(caller.reach(), id) {
                    self.trace(caller, &session);
                }
            }
            Created::Turn(id) => caller.trail().turn(id),
        }
    }
}

/// What it gives, dropped unread, lets go of the claim.
async fn claim(store: AnyStore, key: IdempotencyKey, body: [u8; 32]) -> Result<Claim, Problem> {
    match store.claim(&key, body, KEEP).await? {
        Claimed::New => {
            let held = Held { store, key, created: Mutex::default(), released: false };
            Ok(Claim::Fresh(Ticket(Some(Arc::new(held)))))
        }
        Claimed::Running => {
            Err(Problem::new(Code::Conflict, "a request with this idempotency key is still being done; ask again")
                .retry_after(Duration::from_secs(1)))
        }
        Claimed::Mismatch => Err(Problem::new(
            Code::IdempotencyMismatch,
            "this idempotency key came with another body before; use a new key for a new request",
        )),
        Claimed::Answered(document) => {
            let Record { created, answer } = serde_json::from_str(&document).map_err(Problem::internal)?;
            Ok(Claim::Made(Made { created, answer, store, key }))
        }
    }
}

/// The digest of a body: the same for the same JSON, however it is spaced and in whatever order its fields come.
#[must_use]
pub fn digest(body: &Value) -> [u8; 32] {
    let mut hasher = Sha256::new();
    add(body, &mut hasher);
    hasher.finalize().into()
}

/// Every part says what it is and where it ends, so that no two values give the same bytes. As deep as the value, which the door bounds.
fn add(value: &Value, hasher: &mut Sha256) {
    let text = |text: &str, hasher: &mut Sha256| {
        hasher.update(text.len().to_be_bytes());
        hasher.update(text);
    };
    match value {
        Value::Null => hasher.update("n"),
        Value::Bool(true) => hasher.update("t"),
        Value::Bool(false) => hasher.update("f"),
        Value::Number(number) => {
            hasher.update("#");
            text(&number.to_string(), hasher);
        }
        Value::String(string) => {
            hasher.update("s");
            text(string, hasher);
        }
        Value::Array(items) => {
            hasher.update("[");
            items.iter().for_each(|item| add(item, hasher));
            hasher.update("]");
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            hasher.update("{");
            for (name, field) in fields {
                text(name, hasher);
                add(field, hasher);
            }
            hasher.update("}");
        }
    }
}

#[cfg(test)]
mod tests;
