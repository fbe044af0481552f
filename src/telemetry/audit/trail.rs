//! One call of a door, from the moment it is asked to its answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{
    Audit, Shared,
    line::{CLIENT_LEFT, Facts, Line, OK},
    pace::Cause,
};
use crate::{
    ids::{PermissionId, SessionId, TemplateName, TurnId, UserId, WorkspaceName},
    problem::Code,
    telemetry::traces::trace_id,
};

/// What is known of a call before anybody looked at it.
#[derive(Debug)]
pub struct Asked {
    /// The operation's id in the document.
    pub operation: &'static str,
    /// It is an operator's.
    pub operators: bool,
    /// It may change something.
    pub changes: bool,
    /// The request's id.
    pub request_id: String,
    /// Where it came from.
    pub remote: Option<String>,
}

/// What is found out on a call's way: left by those who find it, for its line. The default is of a call nobody writes down.
#[derive(Debug, Clone, Default)]
pub struct Trail(Option<Arc<Mutex<Facts>>>);

impl Trail {
    /// Who calls, and what proved it.
    pub fn caller(&self, user: &UserId, credential: &str) {
        self.note(|facts| {
            facts.user = Some(user.clone());
            facts.credential = Some(credential.to_owned());
        });
    }

    /// The session it is about.
    pub fn session(&self, owner: &UserId, id: &SessionId, template: &TemplateName, workspace: &WorkspaceName) {
        self.note(|facts| {
            facts.owned_by(owner);
            facts.session = Some(id.clone());
            facts.template = Some(template.clone());
            facts.workspace = Some(workspace.clone());
        });
    }

    /// The session it is about, by what the client says: it may not be there, or not be the caller's.
    pub fn asked_for(&self, id: &SessionId) {
        self.note(|facts| facts.session = Some(id.clone()));
    }

    /// The turn it is about.
    pub fn turn(&self, id: &TurnId) {
        self.note(|facts| facts.turn = Some(id.clone()));
    }

    /// The permission it is about.
    pub fn permission(&self, id: &PermissionId) {
        self.note(|facts| facts.permission = Some(id.clone()));
    }

    /// The workspace it is about.
    pub fn workspace(&self, owner: &UserId, name: &WorkspaceName) {
        self.note(|facts| {
            facts.owned_by(owner);
            facts.workspace = Some(name.clone());
        });
    }

    /// The template it is about.
    pub fn template(&self, name: &TemplateName) {
        self.note(|facts| facts.template = Some(name.clone()));
    }

    /// The API key it is about, and whose it is.
    pub fn key(&self, owner: &UserId, id: &str) {
        self.note(|facts| {
            facts.owned_by(owner);
            facts.object = Some(id.to_owned());
        });
    }

    /// The API key (its id), the stored key (its name) or the sandbox (its id) it is about. Never anything a client sent unchecked.
    pub fn object(&self, name: &str) {
        self.note(|facts| facts.object = Some(name.to_owned()));
    }

    fn note(&self, change: impl FnOnce(&mut Facts)) {
        if let Some(facts) = &self.0 {
            change(&mut locked(facts));
        }
    }
}

impl Facts {
    fn owned_by(&mut self, owner: &UserId) {
        self.owner = (self.user.as_ref() != Some(owner)).then(|| owner.clone());
    }
}

fn locked(facts: &Mutex<Facts>) -> MutexGuard<'_, Facts> {
    facts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A call under way. Dropped without an answer, its client has left.
#[derive(Debug)]
pub struct Call {
    audit: Audit,
    asked: Asked,
    trail: Trail,
    trace_id: Option<String>,
    answered: bool,
}

impl Call {
    pub(super) fn new(audit: Audit, asked: Asked) -> Self {
        let trail = Trail(audit.0.is_some().then(Arc::default));
        let trace_id = audit.0.as_ref().and_then(|_| trace_id());
        Self { audit, asked, trail, trace_id, answered: false }
    }

    /// Where what is found out is left.
    #[must_use]
    pub fn trail(&self) -> Trail {
        self.trail.clone()
    }

    /// It is being answered: with success, or with this code. Waits a moment if the log doesn't keep up.
    pub async fn answered(mut self, status: u16, code: Option<Code>) {
        self.answered = true;
        let Some(shared) = self.audit.0.clone() else { return };
        if let Some(line) = self.line(&shared, status, code) {
            shared.put_patiently(line).await;
        }
    }

    /// The line this is worth.
    fn line(&mut self, shared: &Shared, status: u16, code: Option<Code>) -> Option<Line> {
        let mut facts = self.facts();
        facts.status = Some(status);
        let mut action = self.asked.operation;
        if code == Some(Code::Unauthenticated) {
            facts.call = Some(action);
            action = "auth.failed";
        } else if !(self.asked.changes || shared.reads || code == Some(Code::Forbidden)) {
            return None;
        }
        if code.is_some() && !shared.allows(self.cause(&facts)) {
            return None;
        }
        Some(Line::new(action, code.map_or(OK, Code::as_str), facts))
    }

    fn cause(&self, facts: &Facts) -> Cause {
        match &facts.user {
            Some(user) => Cause::User(user.clone()),
            None if self.asked.operators => Cause::Operators,
            None => Cause::Nobody,
        }
    }

    fn facts(&mut self) -> Facts {
        let known = self.trail.0.as_ref().map(|facts| locked(facts).clone()).unwrap_or_default();
        Facts {
            door: self.asked.operators.then_some("operators"),
            request_id: Some(std::mem::take(&mut self.asked.request_id)),
            trace_id: self.trace_id.take(),
            remote: self.asked.remote.take(),
            ..known
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.answered || !self.asked.changes {
            return;
        }
        let facts = self.facts();
        let (cause, operation) = (self.cause(&facts), self.asked.operation);
        self.audit.happened_to(cause, || Line::new(operation, CLIENT_LEFT, facts));
    }
}
