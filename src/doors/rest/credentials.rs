//! The caller's keys for model APIs: keeping, listing and removing them.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{ApiResponse, OpenApi, param::Path, payload::Json};

use super::{
    Door, Group,
    answer::{Answer, Changing, Keeping, Stocktaking},
    confidential::Confidential,
    dto::credential::{CredentialList, PutCredential},
    token::{MayAct, MayRead},
};

pub(super) struct Credentials;

#[derive(ApiResponse)]
enum Kept {
    /// It is kept. Sessions that use it use the new one from their next call on.
    #[oai(status = 204)]
    Kept,
}

#[derive(ApiResponse)]
enum Removed {
    /// It is gone. Sessions that used it go on without a key.
    #[oai(status = 204)]
    Removed,
}

#[OpenApi(prefix_path = "/v1", tag = "Group::Credentials")]
impl Credentials {
    /// List the caller's keys for model APIs
    ///
    /// Names and times; nothing of the keys. 409 where this server doesn't keep them.
    #[oai(path = "/credentials", method = "get", operation_id = "list_credentials")]
    async fn list(&self, door: Data<&Arc<Door>>, token: MayRead) -> Answer<Json<CredentialList>, Stocktaking> {
        let listed = door.service.credentials(&token.0).await;
        listed.map(|items| Json(CredentialList { items: items.into_iter().map(Into::into).collect() })).into()
    }

    /// Keep a key for a model API
    ///
    /// Under a name, in place of the one that was there. It is kept encrypted; nobody is shown it again. 409 where this server doesn't keep keys.
    #[oai(path = "/credentials/:name", method = "put", operation_id = "put_credential")]
    async fn put(
        &self,
        door: Data<&Arc<Door>>,
        token: MayAct,
        /// Its name.
        #[oai(validator(pattern = "^[a-z0-9][a-z0-9._-]{0,63}$"))]
        name: Path<String>,
        body: Confidential<PutCredential>,
    ) -> Answer<Kept, Keeping> {
        let put = async {
            let key = body.0.api_key.checked("api_key")?;
            door.service.put_credential(&token.0, &name.0, key).await.map(|()| Kept::Kept)
        };
        put.await.into()
    }

    /// Remove a key for a model API
    #[oai(path = "/credentials/:name", method = "delete", operation_id = "delete_credential")]
    async fn delete(
        &self,
        door: Data<&Arc<Door>>,
        token: MayAct,
        /// Its name.
        name: Path<String>,
    ) -> Answer<Removed, Changing> {
        door.service.remove_credential(&token.0, &name.0).await.map(|()| Removed::Removed).into()
    }
}
