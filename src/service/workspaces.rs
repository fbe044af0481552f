//! The caller's workspaces: which there are, and how one goes.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use tracing::info;

use super::{Service, list::PAGE_MAX, view::Page};
use crate::{
    identity::{Actor, Caller},
    ids::{SessionId, WorkspaceName},
    problem::Problem,
};

/// A workspace as its owner sees it.
#[derive(Debug, Clone)]
pub struct WorkspaceView {
    /// Its name.
    pub name: WorkspaceName,
    /// The session that holds it.
    pub session: Option<SessionId>,
    /// When something was last added to or removed from its topmost folder.
    pub modified_at: Timestamp,
}

impl Service {
    /// The caller's workspaces, by name; `cursor` is the last name of the former page.
    ///
    /// # Errors
    /// The file system says no.
    pub async fn workspaces(
        &self,
        caller: &Caller,
        limit: usize,
        cursor: Option<String>,
    ) -> Result<Page<WorkspaceView>, Problem> {
        let (workspaces, user) = (Arc::clone(&self.workspaces), caller.user.clone());
        let limit = limit.clamp(1, PAGE_MAX);
        let (shelved, more) = self.desk.run(move || workspaces.list(&user, cursor, limit)).await?;
        let mut holders: HashMap<_, _> = self
            .around
            .registry
            .of(&caller.user)
            .into_iter()
            .filter(|session| !session.is_over())
            .map(|session| (session.identity.workspace.clone(), session.id.clone()))
            .collect();
        let view = |shelved: crate::workspace::Shelved| WorkspaceView {
            session: holders.remove(&shelved.name),
            name: shelved.name,
            modified_at: shelved.modified_at,
        };
        let items: Vec<_> = shelved.into_iter().map(view).collect();
        let next_cursor = items.last().filter(|_| more).map(|last| last.name.to_string());
        Ok(Page { items, next_cursor })
    }

    /// Removes a workspace with all that is in it.
    ///
    /// # Errors
    /// Not found, or in use.
    pub async fn delete_workspace(&self, caller: &Actor, name: &str) -> Result<(), Problem> {
        // What can't be a name names nothing.
        let name = WorkspaceName::parse(name).map_err(|_| Problem::not_found())?;
        let (workspaces, user, asked) = (Arc::clone(&self.workspaces), caller.user.clone(), name.clone());
        if !self.desk.run(move || workspaces.delete(&user, &asked)).await? {
            return Err(Problem::not_found());
        }
        info!(user = %caller.user, workspace = %name, "workspace removed by its user");
        Ok(())
    }
}
