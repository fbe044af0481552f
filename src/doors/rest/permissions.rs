//! What agents want to be allowed, and the answers.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{ApiResponse, OpenApi, param::Path, payload::Json};

use super::{
    Door, Group,
    answer::{Answer, Answering, Lookup},
    body::Bounded,
    dto::permission::{PermissionAnswer, PermissionList},
    token::{MayAct, MayRead},
};
use crate::ids::{PermissionId, SessionId};

pub(super) struct Permissions;

#[derive(ApiResponse)]
enum Answered {
    /// The agent has the answer.
    #[oai(status = 204)]
    Answered,
}

#[OpenApi(prefix_path = "/v1", tag = "Group::Permissions")]
impl Permissions {
    /// List a session's open permissions
    #[oai(path = "/sessions/:id/permissions", method = "get", operation_id = "list_permissions")]
    async fn list(
        &self,
        door: Data<&Arc<Door>>,
        token: MayRead,
        /// The session.
        id: Path<String>,
    ) -> Answer<Json<PermissionList>, Lookup> {
        let permissions = door.service.permissions(&token.0, &SessionId::from_client(&id.0)).await;
        let list = |open: Vec<_>| Json(PermissionList { items: open.into_iter().map(Into::into).collect() });
        permissions.map(list).into()
    }

    /// Answer a permission
    ///
    /// Once: a second answer is refused with 409 `PERMISSION_ANSWERED`.
    #[oai(path = "/sessions/:id/permissions/:permission", method = "post", operation_id = "answer_permission")]
    async fn answer(
        &self,
        door: Data<&Arc<Door>>,
        token: MayAct,
        /// The session.
        id: Path<String>,
        /// The permission.
        permission: Path<String>,
        body: Bounded<Json<PermissionAnswer>>,
    ) -> Answer<Answered, Answering> {
        let (id, permission) = (SessionId::from_client(&id.0), PermissionId::from_client(&permission.0));
        let answer = async {
            door.service.answer(&token.0, &id, &permission, body.0.0.try_into()?).await?;
            Ok(Answered::Answered)
        };
        answer.await.into()
    }
}
