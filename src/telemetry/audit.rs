//! The audit log: who did what, to which session, with what outcome. For those who have to answer for it, and never with content: no prompt, no
//! answer, no file's name, no label, no key.
//!
//! Whoever has something to say holds an [`Audit`], or, where it is about one session, a [`SessionAudit`]; both are cheap to clone, and say
//! nothing at all when there is no log. Calls of the doors are one [`Call`] each: what the use cases find on their way they leave in its
//! [`Trail`].
//!
//! ```text
//!   calls ──────(wait up to WAIT)──┐
//!                                  ├──► queue (QUEUE lines) ──► one thread ──► audit.jsonl ──► audit.jsonl.1 …
//!   sessions, gateways (no wait) ──┘
//! ```
//!
//! What goes wrong: a full queue, or a file that can't be written, loses lines. They are counted (`greenroom_audit_lines_total`), an error
//! says so once, and as soon as lines can be written again one of them says how many are missing. Nothing else stops: users don't pay for a
//! full disk of the log's. A line is in the file before long after its call was answered, not before: a server that is killed may lose the last.

mod file;
mod line;
mod pace;
mod trail;
mod writer;

use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{
        mpsc::{self, error::TrySendError},
        oneshot,
    },
    time::timeout,
};

use self::{
    file::AuditFile,
    line::{Facts, Line, OK},
    pace::{Cause, Pace},
    writer::Message,
};
use super::{Metrics, labels::AuditOutcome, traces::trace_id};
use crate::{
    config,
    ids::{PermissionId, SessionId, TemplateName, TurnId, UserId, WorkspaceName},
    problem::Code,
};

pub use trail::{Asked, Call, Trail};

/// Lines that may wait for the thread: a second's worth at a pace no server has.
const QUEUE: usize = 8192;
/// How long an answer waits for a place in the queue.
const WAIT: Duration = Duration::from_millis(250);

/// Takes lines for the audit log. The default takes them and forgets them.
#[derive(Debug, Clone, Default)]
pub struct Audit(Option<Arc<Shared>>);

/// What all handles share with the thread.
#[derive(Debug)]
struct Shared {
    queue: mpsc::Sender<Message>,
    reads: bool,
    /// A few lines at a time, never across an await.
    pace: Mutex<Pace>,
    /// Lines that are lost and not told of in the file yet.
    lost: AtomicU64,
    /// The log has been told that the queue is full.
    told: AtomicBool,
    metrics: Metrics,
}

impl Audit {
    /// No log at all.
    #[must_use]
    pub const fn off() -> Self {
        Self(None)
    }

    /// Opens the log, if there is to be one, and starts its thread. That ends when the last handle is gone and everything is written.
    ///
    /// # Errors
    /// The file can't be opened, or the thread not be started.
    pub fn open(settings: &config::Audit, state: &Path, metrics: Metrics) -> io::Result<Self> {
        let Some(path) = settings.path(state) else { return Ok(Self::off()) };
        let file = AuditFile::open(path, settings.max_bytes, settings.keep)?;
        let (queue, messages) = mpsc::channel(QUEUE);
        let shared = Shared {
            queue,
            reads: settings.reads,
            pace: Mutex::default(),
            lost: AtomicU64::new(0),
            told: AtomicBool::new(false),
            metrics,
        };
        let shared = Arc::new(shared);
        writer::start(file, messages, &shared)?;
        Ok(Self(Some(shared)))
    }

    /// A call that was asked for; what becomes of it is told to what this gives.
    #[must_use]
    pub fn call(&self, asked: Asked) -> Call {
        Call::new(self.clone(), asked)
    }

    /// For what happens in one session.
    #[must_use]
    pub fn of_session(
        &self,
        owner: &UserId,
        session: &SessionId,
        template: &TemplateName,
        workspace: &WorkspaceName,
    ) -> SessionAudit {
        let audit = self.clone();
        SessionAudit(self.0.is_some().then(|| {
            let (user, session) = (owner.clone(), session.clone());
            Arc::new(OfSession { audit, user, session, template: template.clone(), workspace: workspace.clone() })
        }))
    }

    /// The server serves.
    pub fn server_started(&self) {
        self.happened(|| Line::new("server.started", OK, Facts::default()));
    }

    /// The server stops; `reason`: what becomes of its sessions.
    pub fn server_stopping(&self, reason: &'static str) {
        self.happened(|| Line::new("server.stopping", OK, Facts { reason: Some(reason), ..Facts::default() }));
    }

    /// The settings were read again at a signal.
    pub fn reloaded(&self, outcome: Result<(), Code>) {
        let outcome = outcome.map_or_else(Code::as_str, |()| OK);
        self.happened(|| Line::new("reload", outcome, Facts { by: Some("signal"), ..Facts::default() }));
    }

    /// Waits until all that was said so far is on the disk, for at most this long.
    pub async fn settle(&self, patience: Duration) {
        let Some(shared) = &self.0 else { return };
        let (done, written) = oneshot::channel();
        let settle = async {
            // Nobody answers when the thread is gone: then there is nothing to wait for.
            if shared.queue.send(Message::Settle(done)).await.is_ok() {
                let _written_or_gone = written.await;
            }
        };
        if timeout(patience, settle).await.is_err() {
            tracing::error!("the last lines of the audit log are not written yet");
        }
    }

    /// Something nobody waits for.
    fn happened(&self, line: impl FnOnce() -> Line) {
        if let Some(shared) = &self.0 {
            shared.put(line());
        }
    }

    /// Something that may happen as often as its cause likes.
    fn happened_to(&self, cause: Cause, line: impl FnOnce() -> Line) {
        if let Some(shared) = self.0.as_ref().filter(|shared| shared.allows(cause)) {
            shared.put(line());
        }
    }
}

impl Shared {
    fn allows(&self, cause: Cause) -> bool {
        let allowed = self.pace.lock().unwrap_or_else(PoisonError::into_inner).allows(cause, Instant::now());
        if !allowed {
            self.metrics.audit_lines(AuditOutcome::LeftOut, 1);
        }
        allowed
    }

    fn put(&self, line: Line) {
        match self.queue.try_send(Message::Line(Box::new(line))) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => self.lose(),
        }
    }

    /// Waits a while for a place.
    async fn put_patiently(&self, line: Line) {
        if self.queue.send_timeout(Message::Line(Box::new(line)), WAIT).await.is_err() {
            self.lose();
        }
    }

    fn lose(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        self.metrics.audit_lines(AuditOutcome::Lost, 1);
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::error!("the audit log doesn't keep up: lines are lost, and counted");
        }
    }
}

/// Takes lines about one session. The default takes them and forgets them.
#[derive(Debug, Clone, Default)]
pub struct SessionAudit(Option<Arc<OfSession>>);

#[derive(Debug)]
struct OfSession {
    audit: Audit,
    user: UserId,
    session: SessionId,
    template: TemplateName,
    workspace: WorkspaceName,
}

impl SessionAudit {
    /// The session is over.
    pub fn ended(&self, reason: &'static str) {
        if let Some(of) = &self.0 {
            let facts = Facts { reason: Some(reason), ..of.facts() };
            of.audit.happened(|| Line::new("session.ended", OK, facts));
        }
    }

    /// A permission has its answer: the kind of the chosen option, or `cancelled`. `by`: `user`, `policy` or `timeout`.
    pub fn permission_resolved(
        &self,
        permission: &PermissionId,
        turn: &TurnId,
        by: &'static str,
        answer: &'static str,
    ) {
        self.noted("permission.resolved", OK, |facts| Facts {
            permission: Some(permission.clone()),
            turn: Some(turn.clone()),
            by: Some(by),
            reason: Some(answer),
            ..facts
        });
    }

    /// The session's tools were let out to this host and port.
    pub fn egress_allowed(&self, target: &str) {
        self.noted("egress.allowed", OK, |facts| Facts { target: Some(host(target)), ..facts });
    }

    /// They were not, and why not in a word.
    pub fn egress_refused(&self, target: &str, reason: &'static str) {
        let outcome = Code::Forbidden.as_str();
        self.noted("egress.refused", outcome, |facts| Facts {
            target: Some(host(target)),
            reason: Some(reason),
            ..facts
        });
    }

    /// A model call was refused because this budget is spent.
    pub fn budget_exhausted(&self, budget: &'static str) {
        let outcome = Code::BudgetExhausted.as_str();
        self.noted("budget.exhausted", outcome, |facts| Facts { reason: Some(budget), ..facts });
    }

    /// The model API refused the key.
    pub fn key_refused(&self) {
        self.noted("key.refused", Code::ApiKeyInvalid.as_str(), |facts| facts);
    }

    /// What an agent can set off as often as it likes.
    fn noted(&self, action: &'static str, outcome: &'static str, more: impl FnOnce(Facts) -> Facts) {
        if let Some(of) = &self.0 {
            let cause = Cause::Session(of.session.clone(), action);
            of.audit.happened_to(cause, || Line::new(action, outcome, more(of.facts())));
        }
    }
}

impl OfSession {
    fn facts(&self) -> Facts {
        Facts {
            user: Some(self.user.clone()),
            session: Some(self.session.clone()),
            template: Some(self.template.clone()),
            workspace: Some(self.workspace.clone()),
            trace_id: trace_id(),
            ..Facts::default()
        }
    }
}

/// An agent chooses what it asks for: only what can be a host and a port is repeated, and no more of it than a host's name may have.
fn host(target: &str) -> String {
    const LENGTH_MAX: usize = 253 + 6;
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-._:[]*".contains(letter);
    target.chars().filter(|letter| plain(*letter)).take(LENGTH_MAX).collect()
}

#[cfg(test)]
mod tests;
