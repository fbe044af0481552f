//! A driver's deadlines. Only the driver's own task looks at them.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::{Instant, sleep_until};

use crate::ids::PermissionId;
use crate::session::Settings;

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
    pub(super) fn new(settings: Settings) -> Self {
        let now = Instant::now();
        Self {
            settings,
            expires: now + settings.max_age,
            idle: Some(now + settings.idle),
            first_output: None,
            turn: None,
            kill: None,
            permissions: BTreeMap::new(),
        }
    }

    pub(super) fn turn_begins(&mut self) {
        let now = Instant::now();
        self.idle = None;
        self.first_output = Some(now + self.settings.first_output);
        self.turn = Some(now + self.settings.turn);
    }

    pub(super) const fn turn_speaks(&mut self) {
        self.first_output = None;
    }

    pub(super) fn turn_is_cancelled(&mut self) {
        self.first_output = None;
        self.turn = None;
        self.kill = Some(Instant::now() + self.settings.cancel_grace);
    }

    pub(super) fn turn_is_over(&mut self) {
        self.first_output = None;
        self.turn = None;
        self.kill = None;
        self.permissions.clear();
        self.idle = Some(Instant::now() + self.settings.idle);
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
