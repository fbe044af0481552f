//! Workspaces.

use poem_openapi::Object;

use super::Time;
use crate::service::{view::Page, workspaces::WorkspaceView};

/// One of the user's folders.
#[derive(Debug, Clone, Object)]
pub struct Workspace {
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub user: String,
    /// The session that holds it.
    #[oai(nullable)]
    pub session: Option<String>,
    /// When something was last added to or removed from its topmost folder.
    pub modified_at: Time,
}

impl From<WorkspaceView> for Workspace {
    fn from(workspace: WorkspaceView) -> Self {
        Self {
            name: workspace.name.to_string(),
            user: workspace.owner.to_string(),
            session: workspace.session.map(|session| session.to_string()),
            modified_at: Time(workspace.modified_at),
        }
    }
}

/// A page of workspaces.
#[derive(Debug, Clone, Object)]
pub struct WorkspacePage {
    /// The workspaces, by name.
    pub items: Vec<Workspace>,
    /// For the next page; null: this was the last.
    #[oai(nullable)]
    pub next_cursor: Option<String>,
}

impl From<Page<WorkspaceView>> for WorkspacePage {
    fn from(page: Page<WorkspaceView>) -> Self {
        Self { items: page.items.into_iter().map(Into::into).collect(), next_cursor: page.next_cursor }
    }
}
