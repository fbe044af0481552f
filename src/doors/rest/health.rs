//! Whether the process lives and whether it can serve. No token: load balancers have none.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{
    ApiResponse, OpenApi,
    payload::{Json, PlainText},
};

use super::{
    Door, Group,
    answer::{Answer, Open},
    dto::catalog::Ready,
};

pub(super) struct Health;

#[derive(ApiResponse)]
enum Alive {
    /// The process lives.
    #[oai(status = 200)]
    Alive(PlainText<&'static str>),
}

#[derive(ApiResponse)]
enum Readiness {
    /// The server can serve.
    #[oai(status = 200)]
    Ready(Json<Ready>),
    /// It can't; the body says why.
    #[oai(status = 503)]
    NotReady(Json<Ready>),
}

#[OpenApi(tag = "Group::Health")]
impl Health {
    /// Is the process alive?
    #[oai(path = "/healthz", method = "get", operation_id = "healthz")]
    async fn alive(&self) -> Answer<Alive, Open> {
        Ok(Alive::Alive(PlainText("alive\n"))).into()
    }

    /// Can the server serve?
    ///
    /// The engine answers, the stock is not empty, and what happens can be written down.
    #[oai(path = "/readyz", method = "get", operation_id = "readyz")]
    async fn ready(&self, door: Data<&Arc<Door>>) -> Answer<Readiness, Open> {
        let readiness = door.service.readiness().await;
        let answer = if readiness.ready { Readiness::Ready } else { Readiness::NotReady };
        Ok(answer(Json(readiness.into()))).into()
    }
}
