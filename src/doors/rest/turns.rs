//! Starting, showing and cancelling turns, and the simple door.

use std::sync::Arc;

use poem::web::{Accept, Data};
use poem_openapi::{
    ApiRequest, ApiResponse, OpenApi,
    param::Path,
    payload::{Form, Json},
    types::ToJSON as _,
};

use super::{
    Door, Group,
    answer::{Answer, Changing, Chatting, Lookup, Prompting},
    body::Bounded,
    dto::{
        prompt::{ChatForm, PromptInput, StartTurn},
        turn::Turn,
    },
    once::{Digested, OnceKey},
    rendered::Rendered,
    stream::{EventStream, Scope, Stop},
    token::{MayAct, MayPrompt, MayRead},
};
use crate::{
    identity::Actor,
    ids::{SessionId, TurnId},
    problem::Problem,
    service::{
        idempotency::{self, Claim, Created, Made, Ticket},
        view::{Prompt, TurnView},
    },
};

pub(super) struct Turns;

#[derive(ApiResponse)]
enum Started {
    /// With `Accept: text/event-stream`: the turn's events as they come, ended by `turn.ended`, `turn.failed` or `session.ended`.
    #[oai(status = 200)]
    Stream(
        EventStream,
        /// True: an earlier request with the same `Idempotency-Key` started this turn. The stream has all of its events.
        #[oai(header = "Idempotent-Replayed")]
        Option<bool>,
    ),
    /// The turn runs; its events are in the session's log.
    #[oai(status = 202)]
    Turn(
        Rendered<Turn>,
        /// Where the turn is.
        #[oai(header = "Location")]
        String,
        /// True: an earlier request with the same `Idempotency-Key` started this turn, and this is what was answered then.
        #[oai(header = "Idempotent-Replayed")]
        Option<bool>,
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
    #[expect(clippy::too_many_arguments, reason = "each is a parameter of the call")]
    async fn start(
        &self,
        door: Data<&Arc<Door>>,
        token: MayPrompt,
        /// The session.
        id: Path<String>,
        /// Makes it safe to send the request again: for 24 hours the same key with the same body starts nothing further and gets the same answer.
        #[oai(name = "Idempotency-Key")]
        once: OnceKey,
        accept: Accept,
        stop: Stop,
        body: Digested<Json<StartTurn>>,
    ) -> Answer<Started, Prompting> {
        let id = SessionId::from_client(&id.0);
        let start = async {
            // What isn't the caller's is not found, whatever else is wrong with the request.
            door.service.session(&token.0, &id).await?;
            let keyed = once.on(format!("POST /v1/sessions/{id}/turns"), &body);
            let prompt = body.payload.0.prompt.try_into()?;
            match (door.service.claim(&token.0, keyed).await?, wants_stream(&accept)) {
                (Claim::Fresh(ticket), streamed) => {
                    let started = door.start_turn(&token.0, &id, prompt, &ticket, streamed.then_some(stop)).await;
                    if started.is_err() {
                        ticket.failed().await;
                    }
                    started
                }
                (Claim::Made(made), true) => {
                    let stream = door.stream_again(&token.0, &id, &made, stop).await?;
                    Ok(Started::Stream(stream, Some(true)))
                }
                (Claim::Made(made), false) => {
                    let answer = door.started_before(&token.0, &id, made).await?;
                    Ok(Started::Turn(answer.body.into(), answer.location, Some(true)))
                }
            }
        };
        start.await.into()
    }

    /// Show a turn
    #[oai(path = "/sessions/:id/turns/:turn", method = "get", operation_id = "get_turn")]
    async fn show(
        &self,
        door: Data<&Arc<Door>>,
        token: MayRead,
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
        token: MayAct,
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
    async fn chat(
        &self,
        door: Data<&Arc<Door>>,
        token: MayPrompt,
        stop: Stop,
        body: Chat,
    ) -> Answer<EventStream, Chatting> {
        let prompt = PromptInput::from(body).try_into();
        let chat = async {
            let prompt = prompt?;
            let session = door.service.default_session(&token.0).await?;
            door.stream_turn(&token.0, &session, prompt, &Ticket::default(), stop).await
        };
        chat.await.into()
    }
}

impl Door {
    /// Starts a turn; with a stop it is streamed.
    async fn start_turn(
        &self,
        caller: &Actor,
        id: &SessionId,
        prompt: Prompt,
        ticket: &Ticket,
        streamed: Option<Stop>,
    ) -> Result<Started, Problem> {
        if let Some(stop) = streamed {
            return Ok(Started::Stream(self.stream_turn(caller, id, prompt, ticket, stop).await?, None));
        }
        let answer = answer_of(self.service.prompt(caller, id, prompt, ticket).await?);
        ticket.answered(&answer);
        Ok(Started::Turn(answer.body.into(), answer.location, None))
    }

    /// Starts a turn and streams it. The stream is taken first: who may have no further stream gets no turn either.
    async fn stream_turn(
        &self,
        caller: &Actor,
        id: &SessionId,
        prompt: Prompt,
        ticket: &Ticket,
        stop: Stop,
    ) -> Result<EventStream, Problem> {
        let last_seq = self.service.session(caller, id).await?.last_seq;
        let reader = self.service.events(caller, id, last_seq).await?;
        let turn = self.service.prompt(caller, id, prompt, ticket).await?;
        let scope = Scope::Turn(turn.id.clone());
        ticket.answered(&answer_of(turn));
        Ok(EventStream::start(reader, scope, stop, &self.config.server))
    }

    /// Streams a turn that was started before, from its beginning.
    async fn stream_again(
        &self,
        caller: &Actor,
        id: &SessionId,
        made: &Made,
        stop: Stop,
    ) -> Result<EventStream, Problem> {
        let turn = self.turn_of(caller, id, made).await?;
        let reader = self.service.events(caller, id, turn.first_seq - 1).await?;
        Ok(EventStream::start(reader, Scope::Turn(turn.id), stop, &self.config.server))
    }

    /// What was answered when the turn was started; as it is now, if its starter left before there was an answer.
    async fn started_before(&self, caller: &Actor, id: &SessionId, made: Made) -> Result<idempotency::Answer, Problem> {
        if let Some(answer) = made.answer {
            return Ok(answer);
        }
        let answer = answer_of(self.turn_of(caller, id, &made).await?);
        made.answered(&answer);
        Ok(answer)
    }

    async fn turn_of(&self, caller: &Actor, id: &SessionId, made: &Made) -> Result<TurnView, Problem> {
        let Created::Turn(turn) = &made.created else {
            return Err(Problem::internal("a turn's key was answered with something else"));
        };
        self.service.turn(caller, id, turn).await.map_err(idempotency::gone)
    }
}

fn answer_of(turn: TurnView) -> idempotency::Answer {
    let location = format!("/v1/sessions/{}/turns/{}", turn.session, turn.id);
    idempotency::Answer { location, version: None, body: Turn::from(turn).to_json_string() }
}

/// Whether the client likes a stream better than JSON.
fn wants_stream(Accept(types): &Accept) -> bool {
    let liked = types.iter().find(|kind| matches!(kind.essence_str(), "text/event-stream" | "application/json"));
    liked.is_some_and(|kind| kind.essence_str() == "text/event-stream")
}
