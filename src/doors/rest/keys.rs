//! API keys, for administrators.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{
    ApiResponse, OpenApi,
    param::{Path, Query},
    payload::Json,
};

use super::{
    Door, Group,
    answer::{Answer, Lookup, Minting, Plain},
    body::Bounded,
    dto::key::{CreateKey, CreatedKey, KeyPage},
    token::MayAdminister,
};
use crate::{
    ids::UserId,
    problem::{Code, Problem},
};

/// Keys on a page unless `limit` says otherwise.
const PAGE: usize = 50;
/// A token is in the answer: nothing on its way may keep it.
const NO_STORE: &str = "no-store";

pub(super) struct Keys;

#[derive(ApiResponse)]
enum Created {
    /// There is a new key; its token is here and nowhere else.
    #[oai(status = 201)]
    Key(
        Json<CreatedKey>,
        /// `no-store`.
        #[oai(header = "Cache-Control")]
        String,
    ),
}

#[derive(ApiResponse)]
enum Revoked {
    /// It doesn't work any more. Streams that are open with it end within seconds.
    #[oai(status = 204)]
    Revoked,
}

#[OpenApi(prefix_path = "/v1", tag = "Group::Keys")]
impl Keys {
    /// Make an API key
    ///
    /// It works at once. Its token is in this answer and kept nowhere, so a request that is sent again makes another key.
    #[oai(path = "/keys", method = "post", operation_id = "create_key")]
    async fn create(
        &self,
        door: Data<&Arc<Door>>,
        token: MayAdminister,
        body: Bounded<Json<CreateKey>>,
    ) -> Answer<Created, Minting> {
        let create = async {
            let wanted = body.0.0.into_key(|tier| door.config.tiers.contains_key(tier))?;
            let (key, secret) = door.service.create_key(&token.0, wanted).await?;
            Ok(Created::Key(Json(CreatedKey::new(key, &secret)), NO_STORE.to_owned()))
        };
        create.await.into()
    }

    /// List the API keys
    ///
    /// Everybody's, oldest first, without their tokens. Those that expired stay in the list for a month.
    #[oai(path = "/keys", method = "get", operation_id = "list_keys")]
    async fn list(
        &self,
        door: Data<&Arc<Door>>,
        token: MayAdminister,
        /// Those of this user only.
        user: Query<Option<String>>,
        /// Keys on a page.
        #[oai(default = "page", validator(minimum(value = "1"), maximum(value = "100")))]
        limit: Query<usize>,
        /// The `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> Answer<Json<KeyPage>, Plain> {
        let list = async {
            let user = user.0.as_deref().map(UserId::parse).transpose();
            let user = user.map_err(|why| Problem::new(Code::InvalidRequest, format!("user: {why}")))?;
            let page = door.service.keys(&token.0, user.as_ref(), limit.0, cursor.0.as_deref()).await?;
            Ok(Json(page.into()))
        };
        list.await.into()
    }

    /// Revoke an API key
    #[oai(path = "/keys/:id", method = "delete", operation_id = "revoke_key")]
    async fn revoke(
        &self,
        door: Data<&Arc<Door>>,
        token: MayAdminister,
        /// The key.
        id: Path<String>,
    ) -> Answer<Revoked, Lookup> {
        door.service.revoke_key(&token.0, &id.0).await.map(|()| Revoked::Revoked).into()
    }
}

fn page() -> usize {
    PAGE
}
