//! What pools there are, how many they keep, and what they may do.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{ApiResponse, OpenApi, param::Path, payload::Json};

use super::{Group, Operators};
use crate::{
    doors::{
        dto::{
            operator::ResizePool,
            pool::{Pool, PoolList},
        },
        http::{
            answer::{Answer, Looking, Operating, Resizing},
            body::Bounded,
        },
    },
    service::view::PoolMode,
};

pub(super) struct Pools;

#[derive(ApiResponse)]
enum Drained {
    /// Nobody is served any more, and the stock is being destroyed.
    #[oai(status = 202)]
    Draining(Json<Pool>),
}

type Changed = Answer<Json<Pool>, Operating>;

#[OpenApi(tag = "Group::Pools")]
impl Pools {
    /// List the pools
    #[oai(path = "/pools", method = "get", operation_id = "list_pools")]
    async fn list(&self, door: Data<&Arc<Operators>>) -> Answer<Json<PoolList>, Looking> {
        let items = door.service.pools().into_iter().map(Into::into).collect();
        Ok(Json(PoolList { items })).into()
    }

    /// Resize a pool
    ///
    /// Holds until the settings are read again or the server is restarted. The target follows at once.
    #[oai(path = "/pools/:template", method = "patch", operation_id = "resize_pool")]
    async fn resize(
        &self,
        door: Data<&Arc<Operators>>,
        /// The template.
        template: Path<String>,
        body: Bounded<Json<ResizePool>>,
    ) -> Answer<Json<Pool>, Resizing> {
        door.service.resize_pool(&template.0, body.0.0.into()).map(|pool| Json(pool.into())).into()
    }

    /// Drain a pool
    ///
    /// The stock is destroyed, whoever waits and whoever comes is refused, open sessions go on. Ends with `resume`.
    #[oai(path = "/pools/:template/drain", method = "post", operation_id = "drain_pool")]
    async fn drain(
        &self,
        door: Data<&Arc<Operators>>,
        /// The template.
        template: Path<String>,
    ) -> Answer<Drained, Operating> {
        let drained = door.service.set_pool_mode(&template.0, PoolMode::Draining);
        drained.map(|pool| Drained::Draining(Json(pool.into()))).into()
    }

    /// Pause a pool's warmer
    ///
    /// Nothing is started; what is in stock is served, and nobody waits for more. Ends with `resume`.
    #[oai(path = "/pools/:template/pause", method = "post", operation_id = "pause_pool")]
    async fn pause(
        &self,
        door: Data<&Arc<Operators>>,
        /// The template.
        template: Path<String>,
    ) -> Changed {
        door.service.set_pool_mode(&template.0, PoolMode::Paused).map(|pool| Json(pool.into())).into()
    }

    /// Resume a pool
    ///
    /// Ends draining and pausing; the stock is filled again.
    #[oai(path = "/pools/:template/resume", method = "post", operation_id = "resume_pool")]
    async fn resume(
        &self,
        door: Data<&Arc<Operators>>,
        /// The template.
        template: Path<String>,
    ) -> Changed {
        door.service.set_pool_mode(&template.0, PoolMode::Active).map(|pool| Json(pool.into())).into()
    }
}
