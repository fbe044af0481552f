//! Settings read again.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{OpenApi, payload::Json};

use super::{Group, Operators};
use crate::doors::{
    dto::operator::Reloaded,
    http::answer::{Answer, Reloading},
};

pub(super) struct Settings;

#[OpenApi(tag = "Group::Settings")]
impl Settings {
    /// Read the settings again
    ///
    /// As SIGHUP does. Templates and all of `pool` but `pool.sweep` apply at once; sessions that are open aren't touched. With
    /// any fault in the settings nothing is applied, and `detail` names all faults.
    #[oai(path = "/reload", method = "post", operation_id = "reload")]
    async fn reload(&self, door: Data<&Arc<Operators>>) -> Answer<Json<Reloaded>, Reloading> {
        (door.reload)().await.map(|changes| Json(changes.into())).into()
    }
}
