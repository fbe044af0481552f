//! Starting, showing and cancelling turns, and the simple door.

use std::sync::Arc;

use poem::web::{Accept, Data};
use poem_openapi::{
    ApiRequest, ApiResponse, OpenApi,
    param::Path,
    payload::{Form, Json},
};

use super::{
    Door, Group,
    answer::{Answer, Changing, Chatting, Lookup, Prompting},
    body::Bounded,
    dto::{
        prompt::{ChatForm, PromptInput, StartTurn},
        turn::Turn,
    },
    stream::{EventStream, Scope},
    token::Token,
};
use crate::{
    identity::Caller,
    ids::{SessionId, TurnId},
    problem::Problem,
    service::view::Prompt,
};

pub(super) struct Turns;

#[derive(ApiResponse)]
enum Started {
    /// With `Accept: text/event-stream`: the turn's events as they come, ended by `turn.ended`, `turn.failed` or `session.ended`.
    #[oai(status = 200)]
    Stream(EventStream),
    /// The turn runs; its events are in the session's log.
    #[oai(status = 202)]
    Turn(
        Json<Turn>,
        /// Where the turn is.
        #[oai(header = "Location")]
        String,
    ),
}

#[derive(ApiResponse)]
enum Cancelling {
    /// The agent was asked to end the turn; it ends with stop reason `cancelled`.
    #[oai(status = 202)]
    Turn(Json<Turn>),
}

#[derive(ApiRequest)]
enum Chat {
    Json(Bounded<Json<StartTurn>>),
    Form(Bounded<Form<ChatForm>>),
}

impl From<Chat> for PromptInput {
    fn from(chat: Chat) -> Self {
        match chat {
            Chat::Json(body) => body.0.0.prompt,
            Chat::Form(body) => body.0.0.into(),
        }
    }
}

#[OpenApi(prefix_path = "/v1", tag = "Group::Turns")]
impl Turns {
    /// Start a turn
    ///
    /// With `Accept: text/event-stream` the answer is the turn's event stream; leaving it does not end the turn. One turn at a
    /// time: 409 `TURN_IN_PROGRESS`.
    #[oai(path = "/sessions/:id/turns", method = "post", operation_id = "start_turn")]
    async fn start(
        &self,
        door: Data<&Arc<Door>>,
        token: Token,
        /// The session.
        id: Path<String>,
        accept: Accept,
        body: Bounded<Json<StartTurn>>,
    ) -> Answer<Started, Prompting> {
        let id = SessionId::from_client(&id.0);
        let prompt = body.0.0.prompt.try_into();
        let start = async {
            if wants_stream(&accept) {
                door.stream_turn(&token.0, &id, prompt?).await.map(Started::Stream)
            } else {
                let turn = door.service.prompt(&token.0, &id, prompt?).await?;
                let location = format!("/v1/sessions/{}/turns/{}", turn.session, turn.id);
                Ok(Started::Turn(Json(turn.into()), location))
            }
        };
        start.await.into()
    }

    /// Show a turn
    #[oai(path = "/sessions/:id/turns/:turn", method = "get", operation_id = "get_turn")]
    async fn show(
        &self,
        door: Data<&Arc<Door>>,
        token: Token,
        /// The session.
        id: Path<String>,
        /// The turn.
        turn: Path<String>,
    ) -> Answer<Json<Turn>, Lookup> {
        let (id, turn) = (SessionId::from_client(&id.0), TurnId::from_client(&turn.0));
        door.service.turn(&token.0, &id, &turn).await.map(|turn| Json(turn.into())).into()
    }

    /// Cancel a turn
    #[oai(path = "/sessions/:id/turns/:turn/cancel", method = "post", operation_id = "cancel_turn")]
    async fn cancel(
        &self,
        door: Data<&Arc<Door>>,
        token: Token,
        /// The session.
        id: Path<String>,
        /// The turn.
        turn: Path<String>,
    ) -> Answer<Cancelling, Changing> {
        let (id, turn) = (SessionId::from_client(&id.0), TurnId::from_client(&turn.0));
        door.service.cancel(&token.0, &id, &turn).await.map(|turn| Cancelling::Turn(Json(turn.into()))).into()
    }

    /// Chat
    ///
    /// The simple door: a prompt to the user's default session, which is opened when there is none; the answer is the turn's
    /// event stream.
    #[oai(path = "/chat", method = "post", operation_id = "chat")]
    async fn chat(&self, door: Data<&Arc<Door>>, token: Token, body: Chat) -> Answer<EventStream, Chatting> {
        let prompt = PromptInput::from(body).try_into();
        let chat = async {
            let prompt = prompt?;
            let session = door.service.default_session(&token.0).await?;
            door.stream_turn(&token.0, &session, prompt).await
        };
        chat.await.into()
    }
}

impl Door {
    /// Starts a turn and streams it. The stream is taken first: who may have no further stream gets no turn either.
    async fn stream_turn(&self, caller: &Caller, id: &SessionId, prompt: Prompt) -> Result<EventStream, Problem> {
        let last_seq = self.service.session(caller, id).await?.last_seq;
        let reader = self.service.events(caller, id, last_seq).await?;
        let turn = self.service.prompt(caller, id, prompt).await?;
        Ok(EventStream::start(reader, Scope::Turn(turn.id), &self.config.server))
    }
}

/// Whether the client likes a stream better than JSON.
fn wants_stream(Accept(types): &Accept) -> bool {
    let liked = types.iter().find(|kind| matches!(kind.essence_str(), "text/event-stream" | "application/json"));
    liked.is_some_and(|kind| kind.essence_str() == "text/event-stream")
}
