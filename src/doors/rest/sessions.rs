//! Opening, showing and closing sessions.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{
    ApiResponse, OpenApi,
    param::{Path, Query},
    payload::Json,
};

use super::{
    Door, Group,
    answer::{Answer, Lookup, Opening, Plain},
    body::Bounded,
    dto::{
        open::OpenSession,
        session::{Session, SessionPage, State},
    },
    token::Token,
};
use crate::{
    ids::SessionId,
    problem::{Code, Problem},
};

/// Sessions on a page unless `limit` says otherwise.
const PAGE: usize = 50;

pub(super) struct Sessions;

#[derive(ApiResponse)]
enum Opened {
    /// The session is open and takes a prompt.
    #[oai(status = 201)]
    Open(
        Json<Session>,
        /// Where the session is.
        #[oai(header = "Location")]
        String,
    ),
}

#[derive(ApiResponse)]
enum Closed {
    /// The session is over, its sandbox destroyed, its workspace kept.
    #[oai(status = 204)]
    Closed,
}

#[OpenApi(prefix_path = "/v1", tag = "Group::Sessions")]
impl Sessions {
    /// Open a session
    ///
    /// Takes a warm sandbox, or waits for one up to `queue_timeout_s`.
    #[oai(path = "/sessions", method = "post", operation_id = "open_session")]
    async fn open(
        &self,
        door: Data<&Arc<Door>>,
        token: Token,
        body: Bounded<Json<OpenSession>>,
    ) -> Answer<Opened, Opening> {
        let open = async {
            let session = door.service.open(&token.0, body.0.0.try_into()?).await?;
            let location = format!("/v1/sessions/{}", session.id);
            Ok(Opened::Open(Json(session.into()), location))
        };
        open.await.into()
    }

    /// List the caller's sessions
    ///
    /// Newest first. Those that are over stay for a while.
    #[oai(path = "/sessions", method = "get", operation_id = "list_sessions")]
    async fn list(
        &self,
        door: Data<&Arc<Door>>,
        token: Token,
        /// Only sessions in this state.
        state: Query<Option<State>>,
        /// Only sessions with this label, as `key:value`; may be given several times.
        #[oai(default)]
        label: Query<Vec<String>>,
        /// Sessions on a page.
        #[oai(default = "page", validator(minimum(value = "1"), maximum(value = "100")))]
        limit: Query<usize>,
        /// The `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> Answer<Json<SessionPage>, Plain> {
        let list = || {
            let labels = label.0.iter().map(|label| key_and_value(label)).collect::<Result<Vec<_>, _>>()?;
            let state = state.0.map(Into::into);
            let page = door.service.sessions(&token.0, state, &labels, limit.0, cursor.0.as_deref())?;
            Ok(Json(page.into()))
        };
        list().into()
    }

    /// Show a session
    #[oai(path = "/sessions/:id", method = "get", operation_id = "get_session")]
    async fn show(
        &self,
        door: Data<&Arc<Door>>,
        token: Token,
        /// The session.
        id: Path<String>,
    ) -> Answer<Json<Session>, Lookup> {
        let session = door.service.session(&token.0, &SessionId::from_client(&id.0)).await;
        session.map(|session| Json(session.into())).into()
    }

    /// Close a session
    ///
    /// A turn that runs is cancelled.
    #[oai(path = "/sessions/:id", method = "delete", operation_id = "close_session")]
    async fn close(
        &self,
        door: Data<&Arc<Door>>,
        token: Token,
        /// The session.
        id: Path<String>,
    ) -> Answer<Closed, Lookup> {
        door.service.close(&token.0, &SessionId::from_client(&id.0)).await.map(|()| Closed::Closed).into()
    }
}

fn page() -> usize {
    PAGE
}

fn key_and_value(label: &str) -> Result<(String, String), Problem> {
    let (key, value) = label
        .split_once(':')
        .ok_or_else(|| Problem::new(Code::InvalidRequest, "label must be written as key:value"))?;
    Ok((key.to_owned(), value.to_owned()))
}
