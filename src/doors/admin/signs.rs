//! Signs of life: for Prometheus, and for whoever only wants to know that the process lives.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{ApiResponse, OpenApi, payload::PlainText};

use super::{Group, Operators};
use crate::doors::http::answer::{Answer, Looking};

pub(super) struct Signs;

#[derive(ApiResponse)]
enum Exposition {
    /// Prometheus' text format.
    #[oai(status = 200, content_type = "text/plain; version=0.0.4; charset=utf-8")]
    Metrics(PlainText<String>),
}

#[derive(ApiResponse)]
enum Alive {
    /// The process lives.
    #[oai(status = 200)]
    Alive(PlainText<&'static str>),
}

#[OpenApi(tag = "Group::Signs")]
impl Signs {
    /// Read the metrics
    #[oai(path = "/metrics", method = "get", operation_id = "metrics")]
    async fn metrics(&self, door: Data<&Arc<Operators>>) -> Answer<Exposition, Looking> {
        Ok(Exposition::Metrics(PlainText((door.render_metrics)()))).into()
    }

    /// Is the process alive?
    #[oai(path = "/healthz", method = "get", operation_id = "healthz")]
    async fn alive(&self) -> Answer<Alive, Looking> {
        Ok(Alive::Alive(PlainText("alive\n"))).into()
    }
}
