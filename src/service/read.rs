//! What can be read: sessions, turns, permissions, events, pools, and what is left for the caller.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{
    Service,
    view::{MeView, PermissionView, PoolView, SessionState, SessionView, TemplateView, TurnView},
};
use crate::{
    config::Protocol,
    identity::{Caller, Scope, Standing},
    ids::{SessionId, TurnId},
    limits::{Permit, RateState},
    log::{CursorExpired, LogReader},
    pool::Pool,
    problem::{Code, Problem},
    session::{
        SessionHandle,
        event::Event,
        policy::Stage,
        status::{Permission, Preferences, Status, Tokens, Turn},
    },
    telemetry::metrics::Counted,
};

impl Service {
    /// One session of the caller's.
    ///
    /// # Errors
    /// Not found.
    pub async fn session(&self, caller: &Caller, id: &SessionId) -> Result<SessionView, Problem> {
        let session = self.find(caller, id)?;
        self.look_settled(&session).await;
        Ok(SessionView::of(&session))
    }

    /// One turn.
    ///
    /// # Errors
    /// Not found, or so long ago that only the log has it.
    pub async fn turn(&self, caller: &Caller, id: &SessionId, turn: &TurnId) -> Result<TurnView, Problem> {
        let session = self.find(caller, id)?;
        self.look_settled(&session).await;
        let found = session.with_status(|status| status.turns.iter().find(|one| one.id == *turn).cloned());
        found.map(|turn| TurnView::of(&session, &turn)).ok_or_else(Problem::not_found)
    }

    /// The permissions that are open.
    ///
    /// # Errors
    /// Not found.
    pub async fn permissions(&self, caller: &Caller, id: &SessionId) -> Result<Vec<PermissionView>, Problem> {
        let session = self.find(caller, id)?;
        self.look_settled(&session).await;
        let mut permissions: Vec<_> = session.with_status(|status| status.permissions.values().cloned().collect());
        permissions.sort_by_key(|open: &Permission| open.number);
        let view = |open: Permission| PermissionView {
            id: open.id,
            turn: open.turn,
            tool_call: open.tool_call,
            options: open.options,
            requested_at: open.requested_at,
            expires_at: open.expires_at,
        };
        Ok(permissions.into_iter().map(view).collect())
    }

    /// A reader that begins after `after` (0: at the beginning). It holds one of the caller's streams while it lives.
    ///
    /// # Errors
    /// Not found, too many streams, or a cursor that is no longer kept.
    pub async fn events(&self, caller: &Caller, id: &SessionId, after: u64) -> Result<EventReader, Problem> {
        let session = self.find(caller, id)?;
        let permit = self.allowance(caller).hold_stream(&caller.user)?;
        check_cursor(&session, after)?;
        session.log.read(after, 1).await?;
        let reader = session.log.follow(after);
        let standing = caller.standing.clone();
        Ok(EventReader { reader, standing, _permit: permit, _counted: self.metrics.event_stream() })
    }

    /// Events after `after`, up to `limit` and as many as one read of the log gives; if there are none yet, waits up to `wait` for the
    /// first. They hold one of the caller's streams, as a stream would: both keep bytes for a client who may not take them.
    ///
    /// # Errors
    /// Not found, too many streams, or a cursor that is no longer kept.
    pub async fn event_batch(
        &self,
        caller: &Caller,
        id: &SessionId,
        after: u64,
        limit: usize,
        wait: Duration,
    ) -> Result<EventBatch, Problem> {
        let session = self.find(caller, id)?;
        let permit = self.allowance(caller).hold_stream(&caller.user)?;
        check_cursor(&session, after)?;
        let mut events = session.log.read(after, limit).await?;
        if events.is_empty() && !wait.is_zero() {
            let mut follower = session.log.follow(after);
            let next = tokio::select! {
                next = timeout(wait, follower.next()) => next,
                () = caller.standing.ended() => return Err(Problem::unauthenticated()),
            };
            events = match next {
                Ok(Ok(Some(_))) => session.log.read(after, limit).await?,
                Ok(Err(error)) => return Err(error.into()),
                Ok(Ok(None)) | Err(_) => Vec::new(),
            };
        }
        Ok(EventBatch { events, standing: caller.standing.clone(), _permit: permit })
    }

    /// What can be leased.
    #[must_use]
    pub fn templates(&self) -> Vec<TemplateView> {
        let default = self.default_pool().map(|pool| pool.name().clone());
        let view = |pool: &Arc<Pool>| TemplateView {
            name: pool.name().clone(),
            protocol: match pool.recipe().template.protocol {
                Protocol::Acp => "acp",
                Protocol::Lines => "lines",
            },
            default: default.as_ref() == Some(pool.name()),
        };
        self.pools.serving().iter().map(view).collect()
    }

    /// Every pool.
    #[must_use]
    pub fn pools(&self) -> Vec<PoolView> {
        self.pools.all().iter().map(|pool| PoolView::of(pool)).collect()
    }

    /// The caller's limits and what is left.
    ///
    /// # Errors
    /// The store doesn't work.
    pub async fn me(&self, caller: &Caller) -> Result<MeView, Problem> {
        let (input, output) = self.store.spent(&caller.user).await?;
        let budgets = self.standings(&caller.user, caller.tier.as_ref()).await?;
        let (user, allowance) = (&caller.user, self.allowance(caller));
        let left = |state: RateState| (state.remaining, state.quota);
        Ok(MeView {
            user: user.to_string(),
            scopes: Scope::ALL.into_iter().filter(|scope| caller.scopes().allow(*scope)).collect(),
            tier: caller.tier.clone(),
            sessions: allowance.sessions(user),
            streams: allowance.streams(user),
            opens: left(allowance.opens(user)),
            prompts: left(allowance.prompts(user)),
            reads: left(allowance.reads(user)),
            files: allowance.files(),
            usage: Tokens { input, output },
            budgets,
        })
    }
}

/// A cursor from the future is a mistake, not a place to wait at.
fn check_cursor(session: &SessionHandle, after: u64) -> Result<(), Problem> {
    let last = session.log.last_seq();
    if after <= last {
        return Ok(());
    }
    Err(Problem::new(Code::InvalidRequest, format!("after: the newest event is number {last}")))
}

impl From<CursorExpired> for Problem {
    fn from(expired: CursorExpired) -> Self {
        let CursorExpired { earliest } = expired;
        let detail = format!("events before number {earliest} are no longer kept; read on from there");
        let mut problem = Self::new(Code::EventCursorExpired, detail);
        problem.earliest_seq = Some(earliest);
        problem
    }
}

/// Some events of one session. Holds one of the user's streams while it lives.
#[derive(Debug)]
pub struct EventBatch {
    /// In order, without holes.
    pub events: Vec<Arc<Event>>,
    /// How long they may go on being sent.
    pub standing: Standing,
    _permit: Permit,
}

/// A reader of one session's events: replay, then follow. Holds one of the user's streams while it lives.
#[derive(Debug)]
pub struct EventReader {
    reader: LogReader,
    /// How long they may go on being sent.
    pub standing: Standing,
    _permit: Permit,
    _counted: Counted,
}

impl EventReader {
    /// The next event, waiting for it; none: the session is over and everything was read. Safe to drop while it waits.
    pub async fn next(&mut self) -> Option<Result<Arc<Event>, Problem>> {
        self.reader.next().await.map_err(Problem::from).transpose()
    }
}

impl SessionView {
    pub(super) fn of(session: &SessionHandle) -> Self {
        let identity = &session.identity;
        // What an agent asks for may be megabytes: only what the view shows is copied.
        let looked = session.with_status(|status| {
            let Status {
                stage, last_active_at, permissions, tokens, egress, end, preferences, needs_credential, ..
            } = status;
            let kept = (*needs_credential, preferences.clone(), egress.clone());
            (*stage, *last_active_at, permissions.len(), *tokens, end.clone(), kept)
        });
        let (stage, last_active_at, pending_permissions, tokens, end, (needs_credential, preferences, egress)) = looked;
        let Preferences { version, mode, model, labels, expires_at, idle_timeout, permissions, credential, .. } =
            preferences;
        let state = match stage {
            Stage::Ready => SessionState::Ready,
            Stage::Turn { .. } if pending_permissions == 0 => SessionState::Running,
            Stage::Turn { .. } => SessionState::Waiting,
            Stage::Ended => SessionState::Ended,
        };
        Self {
            id: session.id.clone(),
            user: identity.user.clone(),
            state,
            template: identity.template.clone(),
            workspace: identity.workspace.clone(),
            mode,
            model,
            labels,
            permissions,
            egress: (egress.hosts(), egress.traffic()),
            version,
            credential,
            needs_credential,
            created_at: identity.created_at,
            last_active_at,
            expires_at,
            idle_timeout,
            lease: identity.lease,
            last_seq: session.log.last_seq(),
            pending_permissions,
            usage: tokens,
            budget: session.account().standing().filter(|budget| budget.limit != (None, None)),
            end,
        }
    }
}

impl TurnView {
    pub(super) fn of(session: &SessionHandle, turn: &Turn) -> Self {
        Self {
            id: turn.id.clone(),
            session: session.id.clone(),
            state: turn.state.clone(),
            usage: turn.tokens,
            first_seq: turn.first_seq,
            last_seq: turn.last_seq,
            created_at: turn.created_at,
        }
    }
}

impl PoolView {
    pub(super) fn of(pool: &Pool) -> Self {
        Self { template: pool.name().clone(), figures: pool.figures() }
    }
}
