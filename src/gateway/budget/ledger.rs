//! The sums of one user. Pure: no clock, no locks.

use std::collections::HashMap;

use super::{Cost, DAY, Exhausted, HourSpent, Standing, Window, begin_of};
use crate::{config::Budget, ids::SessionId};

/// More than any call writes. Reservations are cut to it, so that their sums stay numbers.
const OUTPUT_MAX: u64 = 1 << 40;

/// What may be spent in one window; none: as much as one likes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Limit {
    input: Option<u64>,
    output: Option<u64>,
}

impl Limit {
    fn less(self, used: Cost) -> Cost {
        let left = |limit: Option<u64>, used| limit.map_or(u64::MAX, |limit| limit.saturating_sub(used));
        Cost { input: left(self.input, used.input), output: left(self.output, used.output) }
    }
}

/// A user's budget.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::gateway) struct Limits {
    hour: Limit,
    day: Limit,
    session: Limit,
    bytes_per_token: u64,
}

impl From<&Budget> for Limits {
    fn from(budget: &Budget) -> Self {
        Self {
            hour: Limit { input: budget.input_tokens_per_hour, output: budget.output_tokens_per_hour },
            day: Limit { input: budget.input_tokens_per_day, output: budget.output_tokens_per_day },
            session: Limit { input: budget.input_tokens_per_session, output: budget.output_tokens_per_session },
            bytes_per_token: budget.bytes_per_token.unwrap_or(1).max(1),
        }
    }
}

impl Limits {
    /// Whether there is any.
    pub fn any(&self) -> bool {
        let nothing = Limit::default();
        [self.hour, self.day, self.session] != [nothing; 3]
    }

    /// The most tokens that so many bytes of a request are taken for.
    pub fn tokens(&self, bytes: u64) -> u64 {
        bytes.div_ceil(self.bytes_per_token.max(1))
    }

    const fn of(&self, window: Window) -> Limit {
        match window {
            Window::Hour => self.hour,
            Window::Day => self.day,
            Window::Session => self.session,
        }
    }
}

/// What a call may cost at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) struct Need {
    /// Tokens it has read, at most.
    pub input: u64,
    /// Tokens it writes, at most; less can be agreed on.
    pub output: u64,
    /// The least output that makes sense: one token for each of the answers it wants, and none where it writes none.
    pub output_min: u64,
    /// What it reads isn't all in the request: nobody can say what it costs, so all that is left of the input is held for it.
    pub boundless: bool,
}

/// What becomes of a need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// There is room for this.
    Go(Cost),
    /// There will be room if other calls cost less than was held for them.
    Wait,
    /// There is no room.
    No(Window),
}

/// What is spent and held in one window.
#[derive(Debug, Clone, Copy, Default)]
struct Pot {
    spent: Cost,
    reserved: Cost,
}

/// A reservation, as the ledger needs it back.
#[derive(Debug, Clone)]
pub(super) struct Held {
    /// The hour it was made in: it counts there, whenever it is settled.
    pub hour: u64,
    pub session: SessionId,
    pub cost: Cost,
}

/// One user's sums.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The hour of now. Never goes back: who sets the clock back gets no second budget.
    hour: u64,
    of_hour: Pot,
    of_day: Pot,
    sessions: HashMap<SessionId, Pot>,
}

/// In this order: what never begins anew first.
const WINDOWS: [Window; 3] = [Window::Session, Window::Day, Window::Hour];

impl Ledger {
    /// What the user has spent up to now.
    pub fn new(hour: u64, spent: &[HourSpent]) -> Self {
        let mut ledger = Self { hour, ..Self::default() };
        for HourSpent { hour, cost } in spent {
            ledger.each(*hour, None, |pot| pot.spent = pot.spent.plus(*cost));
        }
        ledger
    }

    /// It is this hour now.
    pub fn roll(&mut self, hour: u64) {
        if hour <= self.hour {
            return;
        }
        if hour / DAY != self.hour / DAY {
            self.of_day = Pot::default();
        }
        self.of_hour = Pot::default();
        self.hour = hour;
    }

    pub const fn hour(&self) -> u64 {
        self.hour
    }

    /// Whether nothing of it matters any more in this hour.
    pub const fn is_history(&self, hour: u64) -> bool {
        hour / DAY > self.hour / DAY
    }

    /// A session begins, having spent so much.
    pub fn begin(&mut self, session: SessionId, spent: Cost) {
        self.sessions.insert(session, Pot { spent, reserved: Cost::default() });
    }

    /// A session is over.
    pub fn end(&mut self, session: &SessionId) {
        self.sessions.remove(session);
    }

    fn pot(&self, window: Window, session: &SessionId) -> Pot {
        match window {
            Window::Hour => self.of_hour,
            Window::Day => self.of_day,
            Window::Session => self.sessions.get(session).copied().unwrap_or_default(),
        }
    }

    /// Every pot a call of that hour counts in.
    fn each(&mut self, hour: u64, session: Option<&SessionId>, change: impl Fn(&mut Pot)) {
        if hour == self.hour {
            change(&mut self.of_hour);
        }
        if hour / DAY == self.hour / DAY {
            change(&mut self.of_day);
        }
        if let Some(pot) = session.and_then(|session| self.sessions.get_mut(session)) {
            change(pot);
        }
    }

    /// Whether there is room. `patient`: the call can wait for others.
    pub fn decide(&self, limits: &Limits, session: &SessionId, need: Need, patient: bool) -> Decision {
        let (mut left, mut hope) =
            (Cost { input: u64::MAX, output: u64::MAX }, Cost { input: u64::MAX, output: u64::MAX });
        let mut fullest = None;
        let asked = need.output.min(OUTPUT_MAX);
        for window in WINDOWS {
            let (limit, pot) = (limits.of(window), self.pot(window, session));
            let (now, then) = (limit.less(pot.spent.plus(pot.reserved)), limit.less(pot.spent));
            if need.input > then.input || need.output_min > then.output {
                return Decision::No(window);
            }
            if fullest.is_none() && (need.input > now.input || need.output_min > now.output) {
                fullest = Some(window);
            }
            left = Cost { input: left.input.min(now.input), output: left.output.min(now.output) };
            hope = Cost { input: hope.input.min(then.input), output: hope.output.min(then.output) };
        }
        // What has no bound is held as a whole; where nothing is limited there is nothing to hold.
        let all = |of: Cost| if need.boundless && of.input != u64::MAX { of.input } else { need.input };
        let whole = Cost { input: all(hope), output: asked };
        if whole.input <= left.input && whole.output <= left.output {
            return Decision::Go(whole);
        }
        if let Some(window) = fullest {
            return if patient { Decision::Wait } else { Decision::No(window) };
        }
        // Some room there is. More comes only if others have reserved.
        let more_may_come = left.output < hope.output.min(asked) || left.input < whole.input;
        if patient && more_may_come {
            return Decision::Wait;
        }
        Decision::Go(Cost { input: all(left).min(left.input), output: asked.min(left.output) })
    }

    /// Holds what was decided.
    pub fn hold(&mut self, session: &SessionId, cost: Cost) -> Held {
        let hour = self.hour;
        self.each(hour, Some(session), |pot| pot.reserved = pot.reserved.plus(cost));
        Held { hour, session: session.clone(), cost }
    }

    /// Gives back what was held and charges what it cost.
    pub fn settle(&mut self, held: &Held, charged: Cost) {
        self.each(held.hour, Some(&held.session), |pot| {
            *pot = Pot { reserved: pot.reserved.less(held.cost), spent: pot.spent.plus(charged) };
        });
    }

    /// Charges what nothing was held for.
    pub fn spend(&mut self, session: &SessionId, hour: u64, cost: Cost) {
        self.each(hour, Some(session), |pot| pot.spent = pot.spent.plus(cost));
    }

    /// The budget of which nothing is left, whatever is held: the one that lasts longest.
    pub fn used_up(&self, limits: &Limits, session: &SessionId) -> Option<Window> {
        WINDOWS.into_iter().find(|window| {
            let left = limits.of(*window).less(self.pot(*window, session).spent);
            left.input == 0 || left.output == 0
        })
    }

    /// How it stands with one window.
    pub fn standing(&self, limits: &Limits, window: Window, session: Option<&SessionId>) -> Standing {
        let pot = match (window, session) {
            (Window::Session, None) => Pot::default(),
            (Window::Hour, _) => self.of_hour,
            (Window::Day, _) => self.of_day,
            (Window::Session, Some(session)) => self.pot(window, session),
        };
        let limit = limits.of(window);
        Standing {
            window,
            resets_at: self.exhausted(window).resets_at,
            limit: (limit.input, limit.output),
            spent: pot.spent,
            reserved: pot.reserved,
        }
    }

    /// The sentence for a window of now.
    pub fn exhausted(&self, window: Window) -> Exhausted {
        let resets_at = match window {
            Window::Hour => Some(begin_of(self.hour + 1)),
            Window::Day => Some(begin_of((self.hour / DAY + 1) * DAY)),
            Window::Session => None,
        };
        Exhausted { window, resets_at }
    }
}
