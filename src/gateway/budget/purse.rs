//! One user's ledger with its line of waiting calls, and the two handles on it: a session's account, a call's reservation.
//!
//! The lock is held for a few lines, never across an await, and never while a handle is dropped. Every reservation comes back: by being settled,
//! or by being dropped, wherever that is, also on its way to a call that has gone away meanwhile.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{sync::oneshot, time::timeout};

use super::{
    Cost, Exhausted, HourSpent, Standing, Window,
    book::Table,
    hour_of,
    ledger::{Decision, Held, Ledger, Limits, Need},
};
use crate::ids::{SessionId, TierName};

/// How long a call waits for others to settle; then it takes what there is, or hears no.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Calls of one user that wait; further ones don't.
const LINE: usize = 256;

/// Tells the time.
pub(super) type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// One user's spending.
pub(super) struct Purse {
    clock: Clock,
    state: Mutex<State>,
}

struct State {
    ledger: Ledger,
    line: VecDeque<Waiting>,
    /// Tokens that were charged and aren't known to be written down.
    unwritten: u64,
}

/// A call in the line.
struct Waiting {
    limits: Limits,
    session: SessionId,
    need: Need,
    told: oneshot::Sender<Result<Reservation, Exhausted>>,
}

impl Purse {
    pub fn new(clock: Clock, spent: &[HourSpent]) -> Arc<Self> {
        let ledger = Ledger::new(hour_of(clock()), spent);
        Arc::new(Self { clock, state: Mutex::new(State { ledger, line: VecDeque::new(), unwritten: 0 }) })
    }

    /// Whether it can be forgotten and be read from the store again. Only asked when nobody holds it.
    pub fn is_spare(&self) -> bool {
        let hour = hour_of((self.clock)());
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.unwritten == 0 || state.ledger.is_history(hour)
    }

    /// The state of this moment.
    fn now(&self) -> MutexGuard<'_, State> {
        let hour = hour_of((self.clock)());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.ledger.roll(hour);
        state
    }

    /// How it stands with the windows of the clock.
    pub fn standings(&self, limits: &Limits) -> Vec<Standing> {
        let state = self.now();
        [Window::Hour, Window::Day].map(|window| state.ledger.standing(limits, window, None)).to_vec()
    }

    fn reservation(self: &Arc<Self>, state: &mut State, session: &SessionId, cost: Cost) -> Reservation {
        Reservation { held: Some(state.ledger.hold(session, cost)), purse: Arc::clone(self) }
    }

    async fn reserve(
        self: &Arc<Self>,
        limits: Limits,
        session: &SessionId,
        need: Need,
    ) -> Result<Reservation, Exhausted> {
        let mut answer = {
            let mut state = self.now();
            state.line.retain(|waiting| !waiting.told.is_closed());
            let patient = state.line.len() < LINE;
            match state.ledger.decide(&limits, session, need, patient) {
                // Nobody goes past those who wait.
                Decision::Go(cost) if state.line.is_empty() || !patient => {
                    return Ok(self.reservation(&mut state, session, cost));
                }
                Decision::No(window) => return Err(state.ledger.exhausted(window)),
                Decision::Go(_) | Decision::Wait => {
                    let (told, answer) = oneshot::channel();
                    state.line.push_back(Waiting { limits, session: session.clone(), need, told });
                    answer
                }
            }
        };
        if let Ok(Ok(answered)) = timeout(PATIENCE, &mut answer).await {
            return answered;
        }
        answer.close();
        if let Ok(answered) = answer.try_recv() {
            return answered;
        }
        let decided = {
            let mut state = self.now();
            match state.ledger.decide(&limits, session, need, false) {
                Decision::Go(cost) => Ok(self.reservation(&mut state, session, cost)),
                Decision::No(window) => Err(state.ledger.exhausted(window)),
                Decision::Wait => Err(state.ledger.exhausted(Window::Hour)),
            }
        };
        // Whoever stood behind it may have room.
        self.serve();
        decided
    }

    /// Serves the line as far as there is room.
    fn serve(self: &Arc<Self>) {
        loop {
            let mut state = self.now();
            state.line.retain(|waiting| !waiting.told.is_closed());
            let Some(first) = state.line.front() else { return };
            let decided = state.ledger.decide(&first.limits, &first.session, first.need, true);
            if decided == Decision::Wait {
                return;
            }
            let Some(first) = state.line.pop_front() else { return };
            let answer = match decided {
                Decision::Go(cost) => Ok(self.reservation(&mut state, &first.session, cost)),
                Decision::No(window) => Err(state.ledger.exhausted(window)),
                Decision::Wait => return,
            };
            drop(state);
            // Who has gone away meanwhile drops it, and so gives it back.
            drop(first.told.send(answer));
        }
    }

    fn settle(self: &Arc<Self>, held: &Held, charged: Cost) {
        {
            let mut state = self.now();
            state.ledger.settle(held, charged);
            state.note(charged);
        }
        self.serve();
    }
}

impl State {
    fn note(&mut self, charged: Cost) {
        self.unwritten = self.unwritten.saturating_add(charged.input).saturating_add(charged.output);
    }
}

/// What is held for one call. Dropped, it is given back and nothing is charged.
pub(in crate::gateway) struct Reservation {
    held: Option<Held>,
    purse: Arc<Purse>,
}

impl std::fmt::Debug for Reservation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Reservation").field(&self.held).finish()
    }
}

impl Reservation {
    /// How much.
    pub fn cost(&self) -> Cost {
        self.held.as_ref().map(|held| held.cost).unwrap_or_default()
    }

    /// The hour it counts in.
    pub fn hour(&self) -> u64 {
        self.held.as_ref().map(|held| held.hour).unwrap_or_default()
    }

    /// Charges what the call cost; the rest is given back.
    pub fn settle(mut self, charged: Cost) {
        if let Some(held) = self.held.take() {
            self.purse.settle(&held, charged);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            self.purse.settle(&held, Cost::default());
        }
    }
}

/// The account a session's model calls are charged to. Cheap to clone; the last one that goes ends the session's share in the book.
#[derive(Clone)]
pub struct Account(Option<Arc<Share>>);

/// A look at an account that doesn't keep it.
#[derive(Clone, Debug, Default)]
pub struct AccountLook(Weak<Share>);

/// One session's share in a purse.
struct Share {
    table: Arc<Table>,
    purse: Arc<Purse>,
    tier: Option<TierName>,
    session: SessionId,
}

impl std::fmt::Debug for Share {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Share")
            .field("session", &self.session)
            .field("tier", &self.tier)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Account").field(&self.0).finish()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.purse.now().ledger.end(&self.session);
    }
}

impl Share {
    fn limits(&self) -> Limits {
        self.table.of(self.tier.as_ref())
    }
}

impl Account {
    /// One without a limit, and without a book.
    #[must_use]
    pub const fn unlimited() -> Self {
        Self(None)
    }

    pub(super) fn new(
        table: Arc<Table>,
        purse: Arc<Purse>,
        tier: Option<TierName>,
        session: SessionId,
        spent: Cost,
    ) -> Self {
        purse.now().ledger.begin(session.clone(), spent);
        Self(Some(Arc::new(Share { table, purse, tier, session })))
    }

    /// The budget that binds its calls now; none: they are only counted.
    pub(in crate::gateway) fn limits(&self) -> Option<Limits> {
        self.0.as_ref().map(|share| share.limits()).filter(Limits::any)
    }

    /// Holds what a call may cost, or as much as there is. Waits in line for other calls where that gives hope. Safe to drop.
    pub(in crate::gateway) async fn reserve(
        &self,
        limits: Limits,
        need: Need,
    ) -> Result<Option<Reservation>, Exhausted> {
        let Some(share) = &self.0 else { return Ok(None) };
        share.purse.reserve(limits, &share.session, need).await.map(Some)
    }

    /// The hour a call that begins now counts in.
    pub(in crate::gateway) fn hour(&self) -> u64 {
        self.0.as_ref().map_or_else(|| hour_of(Timestamp::now()), |share| share.purse.now().ledger.hour())
    }

    /// Charges what nothing was held for.
    pub(in crate::gateway) fn spend(&self, hour: u64, cost: Cost) {
        if let Some(share) = &self.0 {
            let mut state = share.purse.now();
            state.ledger.spend(&share.session, hour, cost);
            state.note(cost);
        }
    }

    /// What was charged is written down.
    pub fn written(&self, cost: Cost) {
        if let Some(share) = &self.0 {
            let mut state = share.purse.now();
            state.unwritten = state.unwritten.saturating_sub(cost.input.saturating_add(cost.output));
        }
    }

    /// A look at it for those who only want to know.
    #[must_use]
    pub fn look(&self) -> AccountLook {
        AccountLook(self.0.as_ref().map(Arc::downgrade).unwrap_or_default())
    }
}

impl AccountLook {
    /// Whether anything is left to spend.
    ///
    /// # Errors
    /// A budget is used up, whatever is held of it.
    pub fn check(&self) -> Result<(), Exhausted> {
        let Some(share) = self.0.upgrade() else { return Ok(()) };
        let state = share.purse.now();
        let used_up = state.ledger.used_up(&share.limits(), &share.session);
        let refusal = used_up.map(|window| state.ledger.exhausted(window));
        drop(state);
        refusal.map_or(Ok(()), Err)
    }

    /// How it stands with the session's own budget; none: it has no account any more.
    #[must_use]
    pub fn standing(&self) -> Option<Standing> {
        let share = self.0.upgrade()?;
        let limits = share.limits();
        let standing = share.purse.now().ledger.standing(&limits, Window::Session, Some(&share.session));
        Some(standing)
    }
}
