//! Tickets: how one is got, and how a request is let in by one.
//!
//! A browser's `EventSource` and `WebSocket` send no header of ours. They show a ticket in the address instead, which is good once and for half a
//! minute, so that it is worth nothing in whatever log it comes to lie in; ours never holds an address's query.

use std::sync::Arc;

use poem::{Request, RequestBody, Result, http::header::AUTHORIZATION, web::Data};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ApiResponse, ExtractParamOptions, OpenApi,
    param::Path,
    payload::Json,
    registry::{MetaSecurityScheme, Registry},
};

use super::{
    Door, Group,
    answer::{Answer, Ticketing},
    audit::trail,
    dto::ticket::Ticket,
    refusal::{Refusal, given},
    token::{self, MayRead},
};
use crate::{
    identity::{Caller, Proven},
    ids::SessionId,
    problem::{Code, Problem},
    service::admission::Call,
};

/// The parameter, and the scheme's name in the document.
const TICKET: &str = "ticket";
/// What the router calls the first part of a path that is not fixed: the session.
const SESSION: &str = "param0";

pub(super) struct Tickets;

#[derive(ApiResponse)]
enum Issued {
    /// The ticket.
    #[oai(status = 201)]
    Ticket(
        Json<Ticket>,
        /// `no-store`.
        #[oai(header = "Cache-Control")]
        String,
    ),
}

#[OpenApi(prefix_path = "/v1", tag = "Group::Events")]
impl Tickets {
    /// Get a ticket for a session's events
    ///
    /// For clients that can't send a header, such as a browser's `EventSource`: `GET /v1/sessions/{id}/events?ticket=…` in place of a token. A ticket is good once,
    /// for this session, for 30 seconds; the stream opened with it ends when the token does it was got with. A restart of the server forgets it.
    #[oai(path = "/sessions/:id/tickets", method = "post", operation_id = "create_ticket")]
    async fn create(
        &self,
        door: Data<&Arc<Door>>,
        token: MayRead,
        /// The session.
        id: Path<String>,
    ) -> Answer<Issued, Ticketing> {
        let ticket = door.service.ticket(&token.0, &SessionId::from_client(&id.0));
        ticket.map(|ticket| Issued::Ticket(Json(ticket.into()), "no-store".to_owned())).into()
    }
}

/// Somebody who may look at the session in the path: by a token with the scope `read`, or by a ticket for it.
pub(super) struct MayFollow(pub(super) Caller);

impl<'a> ApiExtractor<'a> for MayFollow {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        MayRead::register(registry);
        registry.create_security_scheme(
            TICKET,
            MetaSecurityScheme {
                ty: "apiKey",
                description: Some("A ticket of `POST /v1/sessions/{id}/tickets`, in place of a token. Good once."),
                name: Some(TICKET),
                key_in: Some("query"),
                scheme: None,
                bearer_format: None,
                flows: None,
                openid_connect_url: None,
            },
        );
    }

    fn security_schemes() -> Vec<&'static str> {
        [MayRead::security_schemes(), vec![TICKET]].concat()
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        options: ExtractParamOptions<()>,
    ) -> Result<Self> {
        match redeemed(request)? {
            Some(proven) => {
                let proven = token::known(request, proven, Call::Other)?;
                Ok(Self(token::allowed(proven.reader())?.on(trail(request))))
            }
            None => MayRead::from_request(request, body, options).await.map(|token| Self(token.0)),
        }
    }
}

/// Who the request's ticket lets in; none: it has none. A door that wants more than a look asks for more of who this gives.
fn redeemed(request: &Request) -> Result<Option<Proven>> {
    let mut tickets = tickets_of(request);
    let Some(ticket) = tickets.pop() else { return Ok(None) };
    if !tickets.is_empty() || request.headers().contains_key(AUTHORIZATION) {
        let detail = "a request has either one ticket or a token";
        return Err(Refusal(Problem::new(Code::InvalidRequest, detail)).into());
    }
    let session = SessionId::from_client(request.raw_path_param(SESSION).unwrap_or_default());
    let proven = given::<Arc<Door>>(request)?.service.redeem(&ticket, &session);
    Ok(Some(proven.ok_or_else(|| Refusal(Problem::unauthenticated()))?))
}

/// Every value of the parameter. An address that can't be read has none.
fn tickets_of(request: &Request) -> Vec<String> {
    let all: Vec<(String, String)> = request.params().unwrap_or_default();
    all.into_iter().filter(|(name, _)| name == TICKET).map(|(_, value)| value).collect()
}
