//! What sandboxes there are, and the end of one.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{ApiResponse, OpenApi, param::Path, payload::Json};

use super::{Group, Operators};
use crate::{
    doors::{
        dto::operator::SandboxList,
        http::answer::{Answer, Destroying, Looking},
    },
    ids::SlotId,
};

pub(super) struct Sandboxes;

#[derive(ApiResponse)]
enum Destroyed {
    /// It is being destroyed.
    #[oai(status = 204)]
    Destroyed,
}

#[OpenApi(tag = "Group::Sandboxes")]
impl Sandboxes {
    /// List the sandboxes
    ///
    /// Oldest first, in whatever state.
    #[oai(path = "/sandboxes", method = "get", operation_id = "list_sandboxes")]
    async fn list(&self, door: Data<&Arc<Operators>>) -> Answer<Json<SandboxList>, Looking> {
        let items = door.service.sandboxes().into_iter().map(Into::into).collect();
        Ok(Json(SandboxList { items })).into()
    }

    /// Destroy a sandbox
    ///
    /// Whatever it is doing. A session in it ends with the reason `sandbox_lost`.
    #[oai(path = "/sandboxes/:id", method = "delete", operation_id = "destroy_sandbox")]
    async fn destroy(
        &self,
        door: Data<&Arc<Operators>>,
        /// The sandbox.
        id: Path<String>,
    ) -> Answer<Destroyed, Destroying> {
        door.service.destroy_sandbox(&SlotId::from_client(&id.0)).map(|()| Destroyed::Destroyed).into()
    }
}
