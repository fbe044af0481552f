//! Workspaces: which there are, and how one goes. The caller's own, or, for administrators, somebody's.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use tracing::info;

use super::{Service, list::PAGE_MAX, view::Page};
use crate::{
    identity::{Actor, Caller},
    ids::{SessionId, UserId, WorkspaceName},
    problem::Problem,
};

/// A workspace as its owner sees it.
#[derive(Debug, Clone)]
pub struct WorkspaceView {
    /// Its name.
    pub name: WorkspaceName,
    /// Whose it is.
    pub owner: UserId,
    /// The session that holds it.
    pub session: Option<SessionId>,
    /// When something was last added to or removed from its topmost folder.
    pub modified_at: Timestamp,
}

impl Service {
    /// The workspaces of the caller, or of `user`, by name; `cursor` is the last name of the former page.
    ///
    /// # Errors
    /// Somebody whose workspaces they may not see, or the file system says no.
    pub async fn workspaces(
        &self,
        caller: &Caller,
        user: Option<&str>,
        limit: usize,
        cursor: Option<String>,
    ) -> Result<Page<WorkspaceView>, Problem> {
        let whose = caller.whose_named(user)?;
        let (workspaces, theirs) = (Arc::clone(&self.workspaces), whose.clone());
        let limit = limit.clamp(1, PAGE_MAX);
        let (shelved, more) = self.desk.run(move || workspaces.list(&theirs, cursor, limit)).await?;
        let mut holders: HashMap<_, _> = self
            .around
            .registry
            .all(&whose.reach())
            .into_iter()
            .filter(|session| !session.is_over())
            .map(|session| (session.identity.workspace.clone(), session.id.clone()))
            .collect();
        let view = |shelved: crate::workspace::Shelved| WorkspaceView {
            session: holders.remove(&shelved.name),
            name: shelved.name,
            owner: whose.user().clone(),
            modified_at: shelved.modified_at,
        };
        let items: Vec<_> = shelved.into_iter().map(view).collect();
        let next_cursor = items.last().filter(|_| more).map(|last| last.name.to_string());
        Ok(Page { items, next_cursor })
    }

    /// Removes a workspace with all that is in it.
    ///
    /// # Errors
    /// Somebody whose workspaces they may not remove, not found, or in use.
    pub async fn delete_workspace(&self, caller: &Actor, user: Option<&str>, name: &str) -> Result<(), Problem> {
        let whose = caller.whose_named(user)?;
        // What can't be a name names nothing.
        let name = WorkspaceName::parse(name).map_err(|_| Problem::not_found())?;
        caller.trail().workspace(whose.user(), &name);
        let (workspaces, theirs, asked) = (Arc::clone(&self.workspaces), whose.clone(), name.clone());
        if !self.desk.run(move || workspaces.delete(&theirs, &asked)).await? {
            return Err(Problem::not_found());
        }
        info!(user = %whose.user(), by = %caller.user, workspace = %name, "workspace removed");
        Ok(())
    }
}
