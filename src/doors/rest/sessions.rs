//! Opening, showing, changing and closing sessions.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{
    ApiResponse, OpenApi,
    param::{Path, Query},
    payload::Json,
    types::ToJSON as _,
};

use super::{
    Door, Group,
    answer::{Amending, Answer, Lookup, Opening, Plain},
    confidential::Confidential,
    dto::{
        change::ChangeSession,
        open::OpenSession,
        session::{Session, SessionPage, State},
    },
    etag::{IfMatch, etag},
    once::{Digested, OnceKey},
    rendered::Rendered,
    token::{MayAct, MayOpen, MayRead},
};
use crate::{
    identity::Actor,
    ids::SessionId,
    problem::{Code, Problem},
    service::{
        idempotency::{self, Claim, Created, Made},
        view::SessionView,
    },
};

/// Sessions on a page unless `limit` says otherwise.
const PAGE: usize = 50;

pub(super) struct Sessions;

#[derive(ApiResponse)]
enum Opened {
    /// The session is open and takes a prompt.
    #[oai(status = 201)]
    Open(
        Rendered<Session>,
        /// Where the session is.
        #[oai(header = "Location")]
        String,
        /// Its version, for `If-Match`.
        #[oai(header = "ETag")]
        Option<String>,
        /// True: this was opened by an earlier request with the same `Idempotency-Key`, and this is what was answered then.
        #[oai(header = "Idempotent-Replayed")]
        Option<bool>,
    ),
}

#[derive(ApiResponse)]
enum Shown {
    /// The session.
    #[oai(status = 200)]
    Session(
        Json<Session>,
        /// Its version, for `If-Match`. It counts the changes of what `PATCH` can change, and nothing else.
        #[oai(header = "ETag")]
        String,
    ),
}

impl From<SessionView> for Shown {
    fn from(session: SessionView) -> Self {
        let version = etag(session.version);
        Self::Session(Json(session.into()), version)
    }
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
        token: MayOpen,
        /// Makes it safe to send the request again: for 24 hours the same key with the same body opens nothing further and gets the same answer.
        #[oai(name = "Idempotency-Key")]
        once: OnceKey,
        body: Digested<Confidential<OpenSession>>,
    ) -> Answer<Opened, Opening> {
        let open = async {
            let keyed = once.on("POST /v1/sessions", &body);
            let request = body.payload.0.try_into()?;
            match door.service.claim(&token.0, keyed).await? {
                Claim::Fresh(ticket) => match door.service.open(&token.0, request, &ticket).await {
                    Ok(session) => {
                        let answer = answer_of(session);
                        ticket.answered(&answer);
                        Ok(Opened::of(answer, None))
                    }
                    Err(problem) => {
                        ticket.failed().await;
                        Err(problem)
                    }
                },
                Claim::Made(made) => {
                    door.opened_before(&token.0, made).await.map(|answer| Opened::of(answer, Some(true)))
                }
            }
        };
        open.await.into()
    }

    /// List sessions
    ///
    /// The caller's, newest first. Those that are over stay for a while.
    #[oai(path = "/sessions", method = "get", operation_id = "list_sessions")]
    #[expect(clippy::too_many_arguments, reason = "each is a parameter of the call")]
    async fn list(
        &self,
        door: Data<&Arc<Door>>,
        token: MayRead,
        /// For administrators: this user's sessions, or those of all users with `*`. Anybody else may name themselves only: 403.
        user: Query<Option<String>>,
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
        let list = async {
            let labels = label.0.iter().map(|label| key_and_value(label)).collect::<Result<Vec<_>, _>>()?;
            let state = state.0.map(Into::into);
            let (user, cursor) = (user.0.as_deref(), cursor.0.as_deref());
            let page = door.service.sessions(&token.0, user, state, &labels, limit.0, cursor).await?;
            Ok(Json(page.into()))
        };
        list.await.into()
    }

    /// Show a session
    #[oai(path = "/sessions/:id", method = "get", operation_id = "get_session")]
    async fn show(
        &self,
        door: Data<&Arc<Door>>,
        token: MayRead,
        /// The session.
        id: Path<String>,
    ) -> Answer<Shown, Lookup> {
        door.service.session(&token.0, &SessionId::from_client(&id.0)).await.map(Shown::from).into()
    }

    /// Change a session
    ///
    /// All of it or, where something of it is refused, nothing. With `If-Match` only a session that nobody else has changed meanwhile.
    #[oai(path = "/sessions/:id", method = "patch", operation_id = "change_session")]
    async fn change(
        &self,
        door: Data<&Arc<Door>>,
        token: MayAct,
        /// The session.
        id: Path<String>,
        /// `*`, or the ETags of the versions this change is meant for: any other is answered 412.
        #[oai(name = "If-Match")]
        if_match: IfMatch,
        body: Confidential<ChangeSession>,
    ) -> Answer<Shown, Amending> {
        let id = SessionId::from_client(&id.0);
        let change = async {
            let wish = body.0.try_into()?;
            door.service.change(&token.0, &id, wish, if_match.0).await.map(Shown::from)
        };
        change.await.into()
    }

    /// Close a session
    ///
    /// A turn that runs is cancelled.
    #[oai(path = "/sessions/:id", method = "delete", operation_id = "close_session")]
    async fn close(
        &self,
        door: Data<&Arc<Door>>,
        token: MayAct,
        /// The session.
        id: Path<String>,
    ) -> Answer<Closed, Lookup> {
        door.service.close(&token.0, &SessionId::from_client(&id.0)).await.map(|()| Closed::Closed).into()
    }
}

impl Opened {
    fn of(answer: idempotency::Answer, replayed: Option<bool>) -> Self {
        let idempotency::Answer { location, version, body } = answer;
        Self::Open(body.into(), location, version.map(etag), replayed)
    }
}

impl Door {
    /// What was answered when the session was opened; as it is now, if its opener left before there was an answer.
    async fn opened_before(&self, caller: &Actor, made: Made) -> Result<idempotency::Answer, Problem> {
        if let Some(answer) = made.answer {
            return Ok(answer);
        }
        let Created::Session(id) = &made.created else {
            return Err(Problem::internal("an open's key was answered with something else"));
        };
        let session = self.service.session(caller, id).await.map_err(idempotency::gone)?;
        let answer = answer_of(session);
        made.answered(&answer);
        Ok(answer)
    }
}

fn answer_of(session: SessionView) -> idempotency::Answer {
    let location = format!("/v1/sessions/{}", session.id);
    let version = Some(session.version);
    idempotency::Answer { location, version, body: Session::from(session).to_json_string() }
}

fn page() -> usize {
    PAGE
}

fn key_and_value(label: &str) -> Result<(String, String), Problem> {
    let (key, value) = label
        .split_once(':')
        .filter(|(key, _)| !key.is_empty())
        .ok_or_else(|| Problem::new(Code::InvalidRequest, "label must be written as key:value"))?;
    Ok((key.to_owned(), value.to_owned()))
}
