//! One caller's place in a stock's line: from joining it until they leave with a sandbox, or without.
//!
//! ```text
//!   in line ──their turn──► promised ──take──► served
//!      ▲                                  │ what they took was dead, and nothing else is free
//!      └────────── at the head ───────────┘
//! ```

use std::time::Duration;

use tokio::sync::oneshot;
use tracing::warn;

use super::{Refusal, Shelved, Stock};
use crate::{
    ids::UserId,
    pool::{LeaseError, queue::Ticket},
    sandbox::lifecycle::{NotWell, Sandbox},
    telemetry::labels::Discard,
};

/// How long a supervisor may take to answer before its sandbox is handed out. It answers within a tenth of a millisecond; on a machine that is
/// very busy it may take longer, and a caller would rather wait than lose a good sandbox.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
enum Standing {
    InLine(Ticket, oneshot::Receiver<()>),
    /// One on the shelf is theirs to take.
    Promised,
    /// They took it.
    Served,
}

/// One caller's place: in line, or with a promise. Dropping it leaves the line or gives the promise back.
#[derive(Debug)]
pub struct Place<'a> {
    stock: &'a Stock,
    user: UserId,
    standing: Standing,
}

impl<'a> Place<'a> {
    /// With a promise.
    pub(super) fn promised(stock: &'a Stock, user: &UserId) -> Self {
        Self { stock, user: user.clone(), standing: Standing::Promised }
    }

    /// In line, to be woken.
    pub(super) fn in_line(stock: &'a Stock, user: &UserId, ticket: Ticket, woken: oneshot::Receiver<()>) -> Self {
        Self { stock, user: user.clone(), standing: Standing::InLine(ticket, woken) }
    }

    /// Takes a sandbox that is well, waiting for one if need be. A caller who is dropped here either has none, or drops the one that
    /// was just taken, which ends it.
    ///
    /// # Errors
    /// [`LeaseError::Failing`] when starts keep failing, [`LeaseError::Refused`].
    pub async fn take(&mut self) -> Result<Sandbox, LeaseError> {
        loop {
            self.turn().await?;
            if let Some(sandbox) = self.take_now().await {
                return Ok(sandbox);
            }
            self.again();
        }
    }

    /// Takes a sandbox that is well, if one is theirs to take; also the next one, if that one isn't well.
    pub async fn take_now(&mut self) -> Option<Sandbox> {
        while let Some(Shelved { mut sandbox, since, .. }) = self.pop() {
            if let Err(error) = sandbox.check() {
                self.stock.lost(since, &error);
                warn!(%error, "a warm sandbox was found dead when somebody wanted it");
                continue;
            }
            match answers(&sandbox).await {
                Ok(()) => {
                    self.stock.failures.proven();
                    return Some(sandbox);
                }
                Err(error) => {
                    self.stock.count(Discard::Silent);
                    warn!(%error, "a warm sandbox did not answer when somebody wanted it");
                }
            }
        }
        None
    }

    /// Whether a sandbox is theirs to take without waiting.
    #[must_use]
    pub const fn is_promised(&self) -> bool {
        matches!(self.standing, Standing::Promised)
    }

    async fn turn(&mut self) -> Result<(), LeaseError> {
        let Standing::InLine(_, woken) = &mut self.standing else { return Ok(()) };
        let mut refusals = self.stock.refusal.subscribe();
        tokio::select! {
            biased;
            woken = woken => {
                if woken.is_err() {
                    return Err(LeaseError::Refused(Refusal::Closed));
                }
                self.standing = Standing::Promised;
                Ok(())
            }
            refusal = refusals.wait_for(Option::is_some) => {
                let refusal = refusal.map_or(Refusal::Closed, |refusal| refusal.unwrap_or(Refusal::Closed));
                Err(LeaseError::Refused(refusal))
            }
            failure = self.stock.failures.hopeless() => Err(LeaseError::Failing(failure)),
        }
    }

    /// Takes the first one off the shelf: on the promise, or, if that was broken by a dead one, one that isn't promised to anybody.
    fn pop(&mut self) -> Option<Shelved> {
        let mut shelf = self.stock.shelf();
        match self.standing {
            Standing::Promised => shelf.promised = shelf.promised.saturating_sub(1),
            Standing::Served if shelf.ready.len() > shelf.promised => {}
            Standing::Served | Standing::InLine(..) => return None,
        }
        self.standing = Standing::Served;
        let popped = shelf.ready.pop_front();
        drop(shelf);
        self.stock.census.tell();
        popped
    }

    /// Back to the head of the line.
    fn again(&mut self) {
        let (wake, woken) = oneshot::channel();
        let mut shelf = self.stock.shelf();
        let ticket = shelf.line.rejoin(&self.user, wake);
        self.standing = Standing::InLine(ticket, woken);
        shelf.promise();
        drop(shelf);
        self.stock.census.tell();
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut shelf = self.stock.shelf();
        let gives_back = match &self.standing {
            Standing::InLine(ticket, _) => !shelf.line.leave(&self.user, *ticket),
            Standing::Promised => true,
            Standing::Served => false,
        };
        if gives_back {
            shelf.promised = shelf.promised.saturating_sub(1);
            shelf.promise();
        }
        drop(shelf);
        self.stock.census.tell();
    }
}

/// Asks a second time before a good sandbox is given up: after this process or the machine stood still, the first answer is late.
async fn answers(sandbox: &Sandbox) -> Result<(), NotWell> {
    match sandbox.answers(ANSWER_WITHIN).await {
        Err(_) => sandbox.answers(ANSWER_WITHIN).await,
        well => well,
    }
}
