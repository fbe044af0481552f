//! Opens and closes sessions.
//!
//! The order of an open: limits, workspace, sandbox, key, folder, agent, driver. Whatever step fails or is dropped, the steps before it undo
//! themselves: permits and holds are guards, and a lease that is dropped ends its sandbox, after which its workspace goes home.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tracing::{Instrument as _, field, info, info_span};

use super::{
    Service,
    idempotency::{Created, Ticket},
    settle, terms,
    view::{OpenSession, SessionView},
};
use crate::{
    gateway::{Binding, Egress, REPORTS_CAPACITY, Traffic},
    identity::Actor,
    ids::{SessionId, TemplateName, WorkspaceName, random_fraction},
    log::EventLog,
    pool::{Leased, Miss, Pool},
    problem::{Code, Problem},
    session::{
        self, ChosenKey, Command, Opened, SessionHandle, Settings,
        permission::within,
        policy,
        status::{ColdReason, Identity, LeaseTimes, Preferences, Tokens},
    },
    telemetry::labels::{OpenOutcome, OpenStart},
    workspace::WorkspaceHold,
};

/// How long an open waits for its workspace, whose former session is over, to come home.
const HOMECOMING_PATIENCE: Duration = Duration::from_secs(10);
/// How often it looks whether somebody else has it by now.
const HOMECOMING_LOOK: Duration = Duration::from_millis(100);

/// The template an open gets that names none, if there are several.
const DEFAULT_TEMPLATE: &str = "gemini";
/// By how much the configured age of a session may be shortened.
const AGE_SPREAD: f64 = 0.1;

impl Service {
    /// Opens a session: limits, then a sandbox from stock, then the user's key, workspace and settings bound to it.
    ///
    /// # Errors
    /// The problem tells which limit, name or part stood in the way.
    pub async fn open(&self, caller: &Actor, request: OpenSession, ticket: &Ticket) -> Result<SessionView, Problem> {
        self.open_handle(caller, request, ticket).await.map(|session| SessionView::of(&session))
    }

    pub(super) async fn open_handle(
        &self,
        caller: &Actor,
        request: OpenSession,
        ticket: &Ticket,
    ) -> Result<Arc<SessionHandle>, Problem> {
        self.check_new_work()?;
        self.allowance(caller).check_open(&caller.user)?;
        terms::check(&request.labels, request.idle_timeout, request.max_age)?;
        let pool = self.pool(request.template.as_ref())?;
        let egress = Egress::new(pool.egress(), &request.egress, Traffic::default());
        terms::egress(&egress, &request.egress)?;
        let span = info_span!(
            "session.open", template = %pool.name(), session.id = field::Empty, lease.start = field::Empty,
            lease.wait_ms = field::Empty, otel.status_code = field::Empty
        );
        let begun = Instant::now();
        let outcome = self.open_in(caller, request, egress, ticket, &pool, begun).instrument(span.clone()).await;
        match &outcome {
            Ok(session) => {
                self.trace(caller, session);
                let lease = &session.identity.lease;
                let start = if lease.cold.is_none() { OpenStart::Warm } else { OpenStart::Cold };
                span.record("session.id", session.id.as_str());
                span.record("lease.start", start.as_str());
                span.record("lease.wait_ms", lease.wait.as_secs_f64() * 1e3);
                self.metrics.opened(pool.name(), start, OpenOutcome::Ok, lease.wait, lease.total);
                span.in_scope(|| info!(user = %caller.user, "session opened"));
            }
            Err(problem) => {
                span.record("otel.status_code", "ERROR");
                let failed = OpenOutcome::Failed(problem.code);
                self.metrics.opened(pool.name(), OpenStart::None, failed, Duration::ZERO, begun.elapsed());
            }
        }
        outcome
    }

    async fn open_in(
        &self,
        caller: &Actor,
        request: OpenSession,
        egress: Egress,
        ticket: &Ticket,
        pool: &Pool,
        begun: Instant,
    ) -> Result<Arc<SessionHandle>, Problem> {
        let permit = self.allowance(caller).hold_session(&caller.user)?;
        // Before anything is held that others may wait for.
        let chosen = self.chosen_key(&caller.whose(), request.credential.clone()).await?;
        let (name, hold) = self.hold_workspace(caller, request.workspace.clone(), request.queue_timeout).await?;
        // A session that is being left to the next server lets go of its workspace here, and keeps it all the same.
        self.check_serving()?;
        let Leased { mut lease, miss, wait } = match pool.lease_now(&caller.user).await? {
            Some(leased) => leased,
            None => {
                let _place = self.allowance(caller).hold_waiting(&caller.user)?;
                pool.lease(&caller.user, request.queue_timeout).await?
            }
        };

        let id = SessionId::random();
        let (report_sender, reports) = mpsc::channel(REPORTS_CAPACITY);
        let own_key = chosen.as_ref().is_some_and(|chosen| chosen.name.is_none());
        let (key, credential) = match chosen {
            Some(ChosenKey { key, name }) => (Some(key), name),
            None => (self.model_key.clone(), None),
        };
        let (user, session) = (caller.user.clone(), id.clone());
        let account = self.account(&user, caller.tier.clone(), &id, Tokens::default()).await?;
        let audit = self.around.audit.of_session(&user, &session, pool.name(), &name);
        let binding =
            Binding { user, session, key, key_missing: false, account, egress, audit, reports: report_sender };
        lease.bind(binding.clone());

        let clock = Instant::now();
        let (exists, gone) = settle::settle_in(&mut lease, hold)?;
        let workspace_time = clock.elapsed();
        let clock = Instant::now();
        let (agent, early) = settle::tune(&mut lease, exists, request.mode.as_ref(), request.model.as_ref()).await?;
        let agent_time = clock.elapsed();

        let cold = match miss {
            Some(Miss::Empty) => Some(ColdReason::Empty),
            Some(Miss::TemplateChanged) => Some(ColdReason::TemplateChanged),
            Some(Miss::OverTarget) => Some(ColdReason::OverTarget),
            None if exists => {
                pool.needed_a_session();
                Some(ColdReason::Workspace)
            }
            None => None,
        };
        let idle = terms::capped(request.idle_timeout, self.settings.idle_timeout);
        // Sessions that were opened together must not all end together, unless somebody asked for that very age.
        let usual_age = self.settings.max_age.mul_f64(1.0 - AGE_SPREAD * random_fraction());
        let max_age = request.max_age.map_or(usual_age, |asked| asked.min(self.settings.max_age));
        let created_at = Timestamp::now();
        let identity = Identity {
            user: caller.user.clone(),
            tier: caller.tier.clone(),
            template: pool.name().clone(),
            workspace: name,
            named: request.workspace.is_some(),
            slot: lease.slot().id().clone(),
            memory: agent.memory.clone(),
            default: request.default,
            created_at,
            lease: LeaseTimes { cold, wait, workspace: workspace_time, agent: agent_time, total: begun.elapsed() },
        };
        let template = pool.recipe().template.permissions.clone();
        let preferences = Preferences {
            version: 1,
            mode: request.mode,
            model: request.model,
            labels: request.labels,
            expires_at: created_at.checked_add(max_age).unwrap_or(Timestamp::MAX),
            idle_timeout: idle,
            permissions: request.permissions.map_or(template.clone(), |asked| within(&asked, &template)),
            egress: request.egress,
            own_key,
            credential,
        };
        let permit = Box::new((permit, self.metrics.session()));
        let (settings, also) = (self.times(), ticket.created(Created::Session(id.clone())));
        let log = EventLog::new(id.clone(), Arc::clone(&self.store), self.settings.log_bytes);
        let opened = Opened {
            id,
            identity,
            preferences,
            log,
            agent,
            early,
            lease,
            gone,
            binding,
            reports,
            permit,
            settings,
            also,
        };
        let session = session::spawn(opened, &self.around);
        if exists && let Some(workspace) = self.workspaces.live(&caller.whose(), &session.identity.workspace) {
            // What it takes is known by the time its first turn begins.
            self.weigh_soon(&workspace);
        }
        // Nobody is told of a session that a crash could take back.
        if let Err(problem) = self.settled(&session).await {
            let (reply, _nobody_waits) = oneshot::channel();
            let _over_already = session.send(Command::Close { reply }).await;
            ticket.nothing_created();
            return Err(problem);
        }
        Ok(session)
    }

    /// The times all drivers keep.
    pub(super) const fn times(&self) -> Settings {
        Settings {
            first_output: self.settings.first_output_timeout,
            turn: self.settings.turn_timeout,
            cancel_grace: self.settings.cancel_grace,
            permission: self.settings.permission_timeout,
        }
    }

    /// Closes a session: a turn that runs is cancelled, the sandbox is destroyed, the workspace goes home.
    ///
    /// # Errors
    /// Not found, also when it has ended already.
    pub async fn close(&self, caller: &Actor, id: &SessionId) -> Result<(), Problem> {
        let session = self.find(caller, id)?;
        if session.is_over() {
            return Err(Problem::not_found());
        }
        let (reply, done) = oneshot::channel();
        let left = || if session.is_over() { Problem::not_found() } else { policy::Refusal::HandedOver.into() };
        session.send(Command::Close { reply }).await.map_err(|_| left())?;
        done.await.map_err(|_| left())
    }

    pub(super) fn pool(&self, asked: Option<&TemplateName>) -> Result<Arc<Pool>, Problem> {
        let found = match asked {
            Some(name) => self.pools.get(name),
            None => self.default_pool(),
        };
        found.ok_or_else(|| {
            let known: Vec<_> = self.pools.serving().iter().map(|pool| pool.name().to_string()).collect();
            let what =
                asked.map_or_else(|| "name a template".to_owned(), |name| format!("there is no template {name}"));
            Problem::new(Code::InvalidRequest, format!("{what}; there are: {}", known.join(", ")))
        })
    }

    pub(super) fn default_pool(&self) -> Option<Arc<Pool>> {
        let mut serving = self.pools.serving();
        let named = serving.iter().position(|pool| pool.name().as_str() == DEFAULT_TEMPLATE);
        let only = (serving.len() == 1).then_some(0);
        named.or(only).map(|place| serving.swap_remove(place))
    }

    async fn hold_workspace(
        &self,
        caller: &Actor,
        named: Option<WorkspaceName>,
        patience: Option<Duration>,
    ) -> Result<(WorkspaceName, WorkspaceHold), Problem> {
        if let Some(name) = named {
            let hold = self.hold_named(caller, &name, patience).await?;
            return Ok((name, hold));
        }
        let made_up = SessionId::random().as_str().replace('_', "-");
        let name = WorkspaceName::parse(&made_up).map_err(Problem::internal)?;
        let mut hold = self.workspaces.hold(&caller.whose(), &name)?;
        hold.forget_if_empty();
        Ok((name, hold))
    }

    /// A workspace whose session is over is on its way home: that is waited for. One of a session that lives is in use.
    async fn hold_named(
        &self,
        caller: &Actor,
        name: &WorkspaceName,
        patience: Option<Duration>,
    ) -> Result<WorkspaceHold, Problem> {
        let deadline = Instant::now() + terms::capped(patience, HOMECOMING_PATIENCE);
        let mut freed = self.workspaces.freed();
        let (whose, own) = (caller.whose(), caller.own());
        loop {
            let refused = match self.workspaces.hold(&whose, name) {
                Ok(hold) => return Ok(hold),
                Err(refused) => refused,
            };
            let lives = |session: &Arc<SessionHandle>| session.identity.workspace == *name && !session.is_over();
            if self.around.registry.all(&own).iter().any(lives) || Instant::now() >= deadline {
                return Err(refused.into());
            }
            let _looks_again = timeout(HOMECOMING_LOOK, freed.changed()).await;
        }
    }
}
