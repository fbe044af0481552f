//! What can be leased, how the pools are, and what is left to the caller.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{OpenApi, payload::Json};

use super::{
    Door, Group,
    answer::{Answer, Plain},
    dto::{
        catalog::{Me, TemplateList},
        pool::PoolList,
    },
    token::MayRead,
};

pub(super) struct Catalog;

#[OpenApi(prefix_path = "/v1", tag = "Group::Catalog")]
impl Catalog {
    /// List the templates
    #[oai(path = "/templates", method = "get", operation_id = "list_templates")]
    async fn templates(&self, door: Data<&Arc<Door>>, _token: MayRead) -> Answer<Json<TemplateList>, Plain> {
        let items = door.service.templates().into_iter().map(Into::into).collect();
        Ok(Json(TemplateList { items })).into()
    }

    /// List the pools
    #[oai(path = "/pools", method = "get", operation_id = "list_pools")]
    async fn pools(&self, door: Data<&Arc<Door>>, _token: MayRead) -> Answer<Json<PoolList>, Plain> {
        let items = door.service.pools().into_iter().map(Into::into).collect();
        Ok(Json(PoolList { items })).into()
    }

    /// Show the caller's limits and usage
    #[oai(path = "/me", method = "get", operation_id = "get_me")]
    async fn me(&self, door: Data<&Arc<Door>>, token: MayRead) -> Answer<Json<Me>, Plain> {
        door.service.me(&token.0).await.map(|me| Json(me.into())).into()
    }
}
