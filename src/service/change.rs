//! Changes what a user may change of a session that is open. All of a change or nothing of it is made.

use std::collections::BTreeMap;

use tracing::info;

use super::{
    Service, terms,
    turns::in_time,
    view::{ChangeSession, SessionView},
};
use crate::{
    config::PermissionPolicy,
    identity::Actor,
    ids::SessionId,
    problem::Problem,
    session::{Command, SessionChange, SessionHandle, permission},
};

impl Service {
    /// Changes a session: only if its version is one of these, where any are given.
    ///
    /// # Errors
    /// Not found, over, another version, a wish that can't be granted, an agent that refuses.
    pub async fn change(
        &self,
        caller: &Actor,
        id: &SessionId,
        wish: ChangeSession,
        versions: Option<Vec<u64>>,
    ) -> Result<SessionView, Problem> {
        let session = self.find(caller, id)?;
        self.check_new_work()?;
        terms::check(wish.labels.as_ref().unwrap_or(&BTreeMap::new()), wish.idle_timeout, wish.max_age)?;
        if let Some(asked) = &wish.egress {
            terms::egress(&session.with_status(|status| status.egress.clone()), asked)?;
        }
        let change = SessionChange {
            labels: wish.labels,
            mode: wish.mode,
            model: wish.model,
            idle: wish.idle_timeout.map(|asked| asked.min(self.settings.idle_timeout)),
            max_age: wish.max_age.map(|asked| asked.min(self.settings.max_age)),
            permissions: wish.permissions.map(|asked| permission::within(&asked, &self.bound(&session))),
            egress: wish.egress,
            key: self.chosen_key(&session.whose(), wish.credential).await?,
        };
        in_time(session.ask(|reply| Command::Change { change, versions, reply })).await??;
        info!(session.id = %session.id, "session changed");
        Ok(SessionView::of(&session))
    }

    /// What binds a session's policy: its template's. Where that is gone from the settings, the policy in force binds the next one.
    fn bound(&self, session: &SessionHandle) -> PermissionPolicy {
        match self.pools.get(&session.identity.template) {
            Some(pool) => pool.recipe().template.permissions.clone(),
            None => SessionView::of(session).permissions,
        }
    }
}
