//! What a handler gives back: its result or a problem, and the document's words for both.

use std::marker::PhantomData;

use poem::{Error, IntoResponse, Response};
use poem_openapi::{
    ApiResponse,
    registry::{MetaHeader, MetaMediaType, MetaResponse, MetaResponses, MetaSchemaRef, Registry},
    types::Type,
};

use super::refusal::Refusal;
use crate::{doors::dto::problem::ProblemBody, problem::Problem};

/// A result or a problem of one of the statuses `F` names.
pub(in crate::doors) struct Answer<T, F> {
    outcome: Result<T, Problem>,
    failures: PhantomData<fn() -> F>,
}

/// The statuses a call can fail with.
pub(in crate::doors) trait Failures {
    const STATUSES: &'static [u16];
}

macro_rules! failures {
    ($($(#[$doc:meta])* $name:ident: $($status:literal)+;)*) => {
        $($(#[$doc])*
        pub(in crate::doors) struct $name;

        impl Failures for $name {
            const STATUSES: &'static [u16] = &[$($status),+];
        })*
    };
}

failures! {
    /// Calls that only need a token.
    Plain: 400 401 429 500 503;
    /// Calls about one thing of the caller's.
    Lookup: 400 401 404 429 500 503;
    /// Calls that open a session.
    Opening: 400 401 409 413 415 422 429 500 502 503 504;
    /// Calls that change a session.
    Amending: 400 401 404 409 412 413 415 429 500 502 503 504;
    /// Calls that list what may be kept elsewhere.
    Stocktaking: 400 401 409 429 500 503;
    /// Calls that keep something small.
    Keeping: 400 401 404 409 413 415 429 500 503;
    /// Calls that start a turn.
    Prompting: 400 401 404 409 413 415 422 429 500 503;
    /// The call that may do both.
    Chatting: 400 401 409 413 415 429 500 502 503 504;
    /// Calls without a body that change something.
    Changing: 400 401 404 409 429 500 503;
    /// Calls with a body that change something.
    Answering: 400 401 404 409 413 415 429 500 503;
    /// Calls that read events.
    Reading: 400 401 404 410 429 500 503;
    /// The call that gives a ticket.
    Ticketing: 400 401 404 429 500;
    /// Calls that read a file or a folder.
    Fetching: 400 401 404 409 429 500;
    /// Calls that write a file, which may be called anything.
    Storing: 400 401 404 409 413 429 500;
    /// Calls that make an API key.
    Minting: 400 401 413 415 500;
    /// Calls that remove something.
    Removing: 400 401 404 409 429 500;
    /// Calls that give a whole workspace.
    Packing: 400 401 404 409 413 429 500;
    /// Calls that take a whole workspace.
    Unpacking: 400 401 404 409 413 415 429 500;
    /// Calls without a token.
    Open: 500;
    /// An operator's calls that only look.
    Looking: 403 500;
    /// An operator's calls with a body.
    Resizing: 400 403 404 413 415 500;
    /// An operator's calls about one thing.
    Operating: 403 404 500;
    /// An operator's call that asks something of the engine.
    Destroying: 403 404 500 503;
    /// An operator's call that reads the settings again.
    Reloading: 400 403 409 500;
}

impl<T, F> From<Result<T, Problem>> for Answer<T, F> {
    fn from(outcome: Result<T, Problem>) -> Self {
        Self { outcome, failures: PhantomData }
    }
}

impl<T: IntoResponse, F> IntoResponse for Answer<T, F> {
    fn into_response(self) -> Response {
        match self.outcome {
            Ok(result) => result.into_response(),
            Err(problem) => Refusal(problem).into_response(),
        }
    }
}

impl<T: ApiResponse, F: Failures> ApiResponse for Answer<T, F> {
    const BAD_REQUEST_HANDLER: bool = true;

    fn meta() -> MetaResponses {
        let mut responses = T::meta().responses;
        for response in responses.iter_mut().filter(|response| response.description.is_empty()) {
            response.description = "Done.";
        }
        for status in F::STATUSES.iter().copied() {
            let for_operators = !F::STATUSES.contains(&401);
            responses.push(problem_response(status, for_operators));
            // Whoever may be asked for a token may have one that doesn't allow this.
            responses.extend((status == 401).then(|| problem_response(403, for_operators)));
        }
        MetaResponses { responses }
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
        ProblemBody::register(registry);
    }

    fn from_parse_request_error(fault: Error) -> Self {
        Err(Refusal::from_poem(fault).0).into()
    }
}

fn problem_response(status: u16, for_operators: bool) -> MetaResponse {
    let description = match status {
        400 => "The request is malformed or breaks a stated rule.",
        401 => {
            "No token, or one that is good for nothing here, whatever the reason; or the model API refused the user's key."
        }
        403 if !for_operators => "The token is good, but lacks the scope that this call needs.",
        403 => "The request comes from a web page, or it names a host that isn't an IP address or `localhost`.",
        404 => "There is nothing there, or it is somebody else's.",
        409 => "In conflict with the present state; `code` says how.",
        410 => "The events after the cursor are no longer kept; `earliest_seq` says where what is kept begins.",
        412 => "`If-Match` names other versions than the present one.",
        413 => "The body is too large, or what is asked for is.",
        415 => "The body isn't of a media type this call takes.",
        422 => "The idempotency key came with another body before.",
        429 => "Too fast or too many; `code` and the `RateLimit` fields say what.",
        500 => "A fault of ours.",
        502 => "The agent failed.",
        503 => {
            "Not now: no sandbox is free, the engine, the store or a named key is unavailable, or the server is stopping."
        }
        504 => "The agent did not answer in time.",
        _ => "A problem.",
    };
    let headers = match status {
        401 => vec![header("WWW-Authenticate", "`Bearer`.", String::schema_ref())],
        429 => vec![
            header("Retry-After", "Seconds to wait before trying again.", u32::schema_ref()),
            header(
                "RateLimit",
                "The limit that was met: what is left (`r`) and when more comes, in seconds (`t`).",
                String::schema_ref(),
            ),
            header(
                "RateLimit-Policy",
                "The limit that was met: its quota (`q`) and window in seconds (`w`).",
                String::schema_ref(),
            ),
        ],
        503 => vec![header("Retry-After", "Seconds to wait before trying again.", u32::schema_ref())],
        _ => vec![],
    };
    let content = vec![MetaMediaType { content_type: "application/problem+json", schema: ProblemBody::schema_ref() }];
    MetaResponse { description, status: Some(status), status_range: None, content, headers }
}

fn header(name: &str, description: &str, schema: MetaSchemaRef) -> MetaHeader {
    MetaHeader {
        name: name.to_owned(),
        description: Some(description.to_owned()),
        required: false,
        deprecated: false,
        schema,
    }
}
