//! A driver's deadlines. Only the driver's own task looks at them.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use tokio::time::{Instant, sleep_until};

use crate::{
    ids::PermissionId,
    session::{Settings, status::Status},
};

/// Later than any session lives.
const FAR: Duration = Duration::from_secs(10 * 365 * 86_400);

/// What is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Due {
    /// The turn has said nothing yet.
    FirstOutput,
    /// The turn takes too long.
    Turn,
    /// The turn was asked to end and didn't.
    Kill,
    /// Nobody answered.
    Permission(PermissionId),
    /// Nobody prompted.
    Idle,
    /// The session is too old.
    Expired,
}

/// All deadlines of one session. Monotonic: a clock that jumps ends nothing.
#[derive(Debug)]
pub(super) struct Clock {
    settings: Settings,
    expires: Instant,
    idle: Option<Instant>,
    first_output: Option<Instant>,
    turn: Option<Instant>,
    kill: Option<Instant>,
    permissions: BTreeMap<PermissionId, Instant>,
}

impl Clock {
    /// Of a session that was just opened, or, when it is taken up again, as it stands by the wall clock: the time a server was away counts.
    pub(super) fn new(settings: Settings, status: &Status) -> Self {
        let begun = Instant::now();
        let mut clock = Self {
            settings,
            expires: at(status.preferences.expires_at),
            idle: None,
            first_output: None,
            turn: None,
            kill: None,
            permissions: BTreeMap::new(),
        };
        match status.running() {
            None => clock.idle = Some(idle_ends(status)),
            Some(turn) if turn.cancelling => clock.kill = Some(begun + settings.cancel_grace),
            Some(turn) => {
                clock.turn = Some(at(later(turn.created_at, settings.turn)));
                clock.permissions =
                    status.permissions.iter().map(|(id, open)| (id.clone(), at(open.expires_at))).collect();
            }
        }
        clock
    }

    /// The session's times were changed.
    pub(super) fn times_changed(&mut self, status: &Status) {
        self.expires = at(status.preferences.expires_at);
        if self.idle.is_some() {
            self.idle = Some(idle_ends(status));
        }
    }

    /// The agent's task is told of a prompt; whether it hears is seen by the same deadline as its first output.
    pub(super) fn prompt_is_planned(&mut self) {
        self.idle = None;
        self.first_output = Some(Instant::now() + self.settings.first_output);
    }

    pub(super) fn turn_begins(&mut self) {
        let now = Instant::now();
        self.idle = None;
        self.first_output = Some(now + self.settings.first_output);
        self.turn = Some(now + self.settings.turn);
    }

    /// The prompt waits to be written down before it is sent: that is not the agent's time.
    pub(super) const fn prompt_waits(&mut self) {
        self.first_output = None;
    }

    /// What is due of a turn is given a grace again.
    pub(super) fn postpone(&mut self) {
        let now = Instant::now();
        for deadline in [&mut self.first_output, &mut self.turn, &mut self.kill].into_iter().flatten() {
            *deadline = (*deadline).max(now + self.settings.cancel_grace);
        }
    }

    pub(super) const fn turn_speaks(&mut self) {
        self.first_output = None;
    }

    pub(super) fn turn_is_cancelled(&mut self) {
        self.first_output = None;
        self.turn = None;
        self.kill = Some(Instant::now() + self.settings.cancel_grace);
    }

    pub(super) fn turn_is_over(&mut self, status: &Status) {
        self.first_output = None;
        self.turn = None;
        self.kill = None;
        self.permissions.clear();
        self.idle = Some(idle_ends(status));
    }

    /// How long a permission stays open.
    pub(super) const fn permission_patience(&self) -> Duration {
        self.settings.permission
    }

    pub(super) fn permission_opens(&mut self, permission: PermissionId) {
        self.permissions.insert(permission, Instant::now() + self.settings.permission);
    }

    pub(super) fn permission_closes(&mut self, permission: &PermissionId) {
        self.permissions.remove(permission);
    }

    /// Waits for the next deadline.
    pub(super) async fn next(&self) {
        sleep_until(self.earliest()).await;
    }

    /// What is due now.
    pub(super) fn due(&self) -> Option<Due> {
        let now = Instant::now();
        let is_due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        let permission = self.permissions.iter().find(|(_, deadline)| **deadline <= now);
        if is_due(self.kill) {
            Some(Due::Kill)
        } else if let Some((permission, _)) = permission {
            Some(Due::Permission(permission.clone()))
        } else if is_due(self.first_output) {
            Some(Due::FirstOutput)
        } else if is_due(self.turn) {
            Some(Due::Turn)
        } else if is_due(Some(self.expires)) {
            Some(Due::Expired)
        } else if is_due(self.idle) {
            Some(Due::Idle)
        } else {
            None
        }
    }

    fn earliest(&self) -> Instant {
        [self.idle, self.first_output, self.turn, self.kill]
            .into_iter()
            .flatten()
            .chain(self.permissions.values().copied())
            .fold(self.expires, Instant::min)
    }
}

/// When nobody has used it for too long.
fn idle_ends(status: &Status) -> Instant {
    at(later(status.last_active_at, status.preferences.idle_timeout))
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// A wall-clock time on the monotonic clock, as far as it is in the future.
fn at(time: Timestamp) -> Instant {
    let left = Duration::try_from(time.duration_since(Timestamp::now())).unwrap_or_default();
    let now = Instant::now();
    now.checked_add(left).unwrap_or_else(|| now + FAR)
}
