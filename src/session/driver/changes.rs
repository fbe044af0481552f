//! Changes a user makes to a session: all of one or nothing, one at a time.
//!
//! Model and mode are the agent's to accept: it is asked, the session goes on meanwhile, and only when it has accepted both the change is written down.
//! If it takes the model and refuses the mode, it is given its former model back, where that is known.

use std::{collections::VecDeque, time::Duration};

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::Driver;
use crate::{
    agent::{AgentCommand, AgentError},
    session::{
        given::{ChangeError, ChosenKey, SessionChange},
        policy::{Refusal, Stage},
        status::Preferences,
    },
};

type Told = Result<(), AgentError>;

/// What the agent is asked to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Setting {
    Model,
    Mode,
}

/// A change the agent is asked about.
#[derive(Debug)]
pub(super) struct Changing {
    change: SessionChange,
    asked: Setting,
    answer: oneshot::Receiver<Told>,
    left: VecDeque<Setting>,
    reply: oneshot::Sender<Result<(), ChangeError>>,
}

impl Changing {
    pub(super) fn refuse(self, error: ChangeError) {
        let _caller_may_have_left = self.reply.send(Err(error));
    }
}

/// Waits for the agent's answer. Safe to drop.
pub(super) async fn answer(changing: &mut Option<Changing>) -> Told {
    match changing {
        Some(changing) => {
            (&mut changing.answer).await.unwrap_or_else(|_| Err(AgentError::Lost("its task ended".to_owned())))
        }
        None => std::future::pending().await,
    }
}

impl Driver {
    pub(super) fn begin_change(
        &mut self,
        change: SessionChange,
        versions: Option<&[u64]>,
        reply: oneshot::Sender<Result<(), ChangeError>>,
    ) {
        if let Err(error) = self.check_change(&change, versions) {
            let _caller_may_have_left = reply.send(Err(error));
            return;
        }
        let mut left = VecDeque::new();
        left.extend(change.model.is_some().then_some(Setting::Model));
        left.extend(change.mode.is_some().then_some(Setting::Mode));
        match left.pop_front() {
            None => {
                self.apply(change);
                self.journal.answer(reply, Ok(()));
            }
            Some(first) => {
                let answer = self.ask_to_take(first, &change);
                self.changing = Some(Changing { change, asked: first, answer, left, reply });
            }
        }
    }

    pub(super) fn agent_answered(&mut self, told: Told) {
        let Some(mut changing) = self.changing.take() else { return };
        if let Err(error) = told {
            if changing.asked == Setting::Mode && changing.change.model.is_some() {
                self.give_model_back();
            }
            let field = if changing.asked == Setting::Mode { "mode" } else { "model" };
            return changing.refuse(ChangeError::Agent { field, error });
        }
        if let Some(next) = changing.left.pop_front() {
            changing.asked = next;
            changing.answer = self.ask_to_take(next, &changing.change);
            self.changing = Some(changing);
            return;
        }
        let Changing { change, reply, .. } = changing;
        // It took its time to answer.
        let outcome = self.check_change(&change, None).map(|()| self.apply(change));
        self.journal.answer(reply, outcome);
    }

    fn check_change(&self, change: &SessionChange, versions: Option<&[u64]>) -> Result<(), ChangeError> {
        if self.changing.is_some() {
            return Err(ChangeError::Busy);
        }
        self.session.with_status(|status| {
            if status.stage == Stage::Ended {
                return Err(Refusal::Ended.into());
            }
            if versions.is_some_and(|versions| !versions.contains(&status.preferences.version)) {
                return Err(ChangeError::Stale);
            }
            match change.max_age {
                Some(age) if self.expiry(age) <= Timestamp::now() => Err(ChangeError::OverAlready),
                _ => Ok(()),
            }
        })
    }

    fn expiry(&self, age: Duration) -> Timestamp {
        self.session.identity.created_at.checked_add(age).unwrap_or(Timestamp::MAX)
    }

    fn ask_to_take(&mut self, setting: Setting, change: &SessionChange) -> oneshot::Receiver<Told> {
        let (reply, answer) = oneshot::channel();
        self.tell(match setting {
            Setting::Model => AgentCommand::SetModel { model: change.model.clone().unwrap_or_default(), reply },
            Setting::Mode => AgentCommand::SetMode { mode: change.mode.clone().unwrap_or_default(), reply },
        });
        answer
    }

    fn give_model_back(&mut self) {
        if let Some(model) = self.session.with_status(|status| status.preferences.model.clone()) {
            // It took this one before.
            let (reply, _taken) = oneshot::channel();
            self.tell(AgentCommand::SetModel { model, reply });
        }
    }

    fn apply(&mut self, change: SessionChange) {
        let SessionChange { labels, mode, model, idle, max_age, permissions, egress, key } = change;
        let expires_at = max_age.map(|age| self.expiry(age));
        if let Some(ChosenKey { key, .. }) = &key {
            self.binding.key = Some(key.clone());
            self.binding.key_missing = false;
            self.lease.bind(self.binding.clone());
        }
        {
            let mut status = self.session.locked();
            status.needs_credential &= key.is_none();
            let Preferences { version, mode: old_mode, model: old_model, labels: old_labels, .. } =
                &mut status.preferences;
            *version += 1;
            *old_mode = mode.or(old_mode.take());
            *old_model = model.or(old_model.take());
            if let Some(labels) = labels {
                *old_labels = labels;
            }
            let preferences = &mut status.preferences;
            if let Some(ChosenKey { name, .. }) = key {
                preferences.own_key = name.is_none();
                preferences.credential = name;
            }
            preferences.idle_timeout = idle.unwrap_or(preferences.idle_timeout);
            preferences.expires_at = expires_at.unwrap_or(preferences.expires_at);
            if let Some(permissions) = permissions {
                preferences.permissions = permissions;
            }
            if let Some(egress) = egress {
                self.binding.egress.replace(&egress);
                preferences.egress = egress;
            }
            self.clock.times_changed(&status);
        }
        self.journal.session_changed();
    }
}
