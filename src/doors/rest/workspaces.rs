//! Workspaces: listing and removing them.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{
    ApiResponse, OpenApi,
    param::{Path, Query},
    payload::Json,
};

use super::{
    Door, Group,
    answer::{Answer, Plain, Removing},
    dto::workspace::WorkspacePage,
    token::{MayAct, MayRead},
};

/// Workspaces on a page unless `limit` says otherwise.
const PAGE: usize = 50;

pub(super) struct Workspaces;

#[derive(ApiResponse)]
enum Removed {
    /// It is gone.
    #[oai(status = 204)]
    Removed,
}

#[OpenApi(prefix_path = "/v1", tag = "Group::Files")]
impl Workspaces {
    /// List workspaces
    ///
    /// The caller's, by name; those that a session holds too.
    #[oai(path = "/workspaces", method = "get", operation_id = "list_workspaces")]
    async fn list(
        &self,
        door: Data<&Arc<Door>>,
        token: MayRead,
        /// For administrators: this user's workspaces. Anybody else may name themselves only: 403.
        user: Query<Option<String>>,
        /// Workspaces on a page.
        #[oai(default = "page", validator(minimum(value = "1"), maximum(value = "100")))]
        limit: Query<usize>,
        /// The `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> Answer<Json<WorkspacePage>, Plain> {
        door.service
            .workspaces(&token.0, user.0.as_deref(), limit.0, cursor.0)
            .await
            .map(|page| Json(page.into()))
            .into()
    }

    /// Remove a workspace
    ///
    /// With all that is in it, for good. One that a session holds: 409 `WORKSPACE_IN_USE`.
    #[oai(path = "/workspaces/:name", method = "delete", operation_id = "delete_workspace")]
    async fn delete(
        &self,
        door: Data<&Arc<Door>>,
        token: MayAct,
        /// The workspace.
        name: Path<String>,
        /// For administrators: whose it is. Anybody else may name themselves only: 403.
        user: Query<Option<String>>,
    ) -> Answer<Removed, Removing> {
        door.service.delete_workspace(&token.0, user.0.as_deref(), &name.0).await.map(|()| Removed::Removed).into()
    }
}

fn page() -> usize {
    PAGE
}
