//! How a failure looks on HTTP: one rendering for problems of ours, of the parser, of the router and of panics.
//!
//! A handler's [`Refusal`] travels as data of an empty response. [`render`] goes around all handlers, knows the request's path and id, writes the
//! body, and logs the private cause once.

use std::{error::Error as StdError, fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use poem::{
    Endpoint, Error, IntoResponse, Request, Response, Result,
    error::ResponseError,
    http::{HeaderName, HeaderValue, StatusCode, header},
};
use poem_openapi::{
    error::{AuthorizationError, ContentTypeError, ParseParamError, ParsePathError, ParseRequestPayloadError},
    types::ToJSON as _,
};

use super::{routes::Routes, trace::RequestId};
use crate::{
    doors::dto::problem::ProblemBody,
    ids::random_fraction,
    problem::{Code, Problem, RateState},
};

/// The longest text of a parser that is passed on, in characters: it may quote the request.
const QUOTE_MAX: usize = 300;
/// By how many seconds callers are spread at least who are all told to come back.
const SPREAD: u64 = 2;
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// A problem on its way out.
#[derive(Debug)]
pub(in crate::doors) struct Refusal(pub(in crate::doors) Problem);

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl StdError for Refusal {}

impl ResponseError for Refusal {
    fn status(&self) -> StatusCode {
        status(self.0.code)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = status(self.0.code).into_response();
        response.set_data(Arc::new(self.0));
        response
    }
}

impl Refusal {
    /// Gives a fault of poem's parser or security scheme its code.
    pub(in crate::doors) fn from_poem(fault: Error) -> Self {
        let fault = match fault.downcast::<Self>() {
            Ok(refusal) => return refusal,
            Err(fault) => fault,
        };
        let invalid = |text: String| Problem::new(Code::InvalidRequest, shortened(text));
        Self(if fault.is::<AuthorizationError>() {
            Problem::unauthenticated()
        } else if let Some(fault) = fault.downcast_ref::<ContentTypeError>() {
            Problem::new(Code::UnsupportedMediaType, shortened(fault.to_string()))
        } else if let Some(fault) = fault.downcast_ref::<ParseRequestPayloadError>() {
            invalid(format!("the body can't be used: {}", fault.reason))
        } else if let Some(fault) = fault.downcast_ref::<ParseParamError>() {
            invalid(format!("the parameter {} can't be used: {}", fault.name, fault.reason))
        } else if let Some(fault) = fault.downcast_ref::<ParsePathError>() {
            invalid(format!("the path can't be used: {}", fault.reason))
        } else {
            of_status(fault.status())
        })
    }
}

/// Who is known, but may not do this.
pub(in crate::doors) fn forbidden(why: impl fmt::Display) -> Problem {
    Problem::new(Code::Forbidden, why.to_string())
}

/// Writes every failed answer's body. A panic is one request's misfortune: the connection may carry others.
pub(in crate::doors) async fn render<E: Endpoint>(
    app: Arc<E>,
    request: Request,
    routes: Arc<Routes>,
) -> Result<Response> {
    let instance = request.uri().path().to_owned();
    let id = request.data::<RequestId>().map(|id| id.as_str().to_owned()).unwrap_or_default();
    let answer = AssertUnwindSafe(app.get_response(request)).catch_unwind().await;
    let mut response =
        answer.unwrap_or_else(|_panic| Refusal(Problem::internal("the handler panicked")).into_response());
    if !response.status().is_client_error() && !response.status().is_server_error() {
        return Ok(response);
    }
    let problem = match response.data::<Arc<Problem>>() {
        Some(problem) => Arc::clone(problem),
        // A whole answer of a handler that isn't a problem, such as that of `/readyz`.
        None if response.content_type().is_some_and(|kind| kind.starts_with("application/json")) => {
            return Ok(response);
        }
        None => Arc::new(of_status(response.status())),
    };
    log(&problem);
    response.set_data(Arc::clone(&problem));
    add_headers(&problem, &mut response);
    if problem.code == Code::MethodNotAllowed {
        let allow = text_value(routes.methods(&response));
        response.headers_mut().insert(header::ALLOW, allow);
    }
    let body = ProblemBody::new(&problem, instance, id).to_json_string();
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response.set_body(body);
    Ok(response)
}

fn status(code: Code) -> StatusCode {
    StatusCode::from_u16(code.status()).expect("every code has a valid status")
}

/// For failures that poem answers by itself.
fn of_status(status: StatusCode) -> Problem {
    match status.as_u16() {
        401 => Problem::unauthenticated(),
        404 => Problem::not_found(),
        405 => Problem::new(Code::MethodNotAllowed, "this method isn't offered here"),
        413 => Problem::new(Code::PayloadTooLarge, "the body is too large"),
        415 => Problem::new(Code::UnsupportedMediaType, "this call doesn't take that media type"),
        500.. => Problem::internal(format!("answered {status} without a problem")),
        _ => Problem::new(Code::InvalidRequest, "the request can't be understood"),
    }
}

fn shortened(text: String) -> String {
    match text.char_indices().nth(QUOTE_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// The one place where a private cause is told: to the log.
fn log(problem: &Problem) {
    let code = problem.code.as_str();
    let cause = problem.cause.as_deref().map(|cause| cause as &dyn StdError);
    match problem.code.status() {
        500 => tracing::error!(code, cause, "request failed"),
        501.. => tracing::warn!(code, cause, "request failed"),
        _ => tracing::debug!(code, cause, "request refused"),
    }
}

fn add_headers(problem: &Problem, response: &mut Response) {
    let headers = response.headers_mut();
    if problem.code.status() == 401 {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(delay) = problem.retry_after {
        headers.insert(header::RETRY_AFTER, spread(whole_seconds(delay), random_fraction()).into());
    }
    if let Some(state) = &problem.rate {
        headers.insert(RATE_LIMIT_POLICY, text_value(policy_field(state)));
        headers.insert(RATE_LIMIT, text_value(rate_field(state)));
    }
}

/// `"open";q=20;w=20` (draft-ietf-httpapi-ratelimit-headers).
fn policy_field(state: &RateState) -> String {
    let window = state.window.map(|window| format!(";w={}", whole_seconds(window))).unwrap_or_default();
    format!("\"{}\";q={}{window}", state.policy, state.quota)
}

/// `"open";r=0;t=3`.
fn rate_field(state: &RateState) -> String {
    let reset = state.reset.map(|reset| format!(";t={}", whole_seconds(reset))).unwrap_or_default();
    format!("\"{}\";r={}{reset}", state.policy, state.remaining)
}

fn text_value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("names of limits and methods are ASCII")
}

/// Rounded up: who comes back a moment early would be refused again.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// A time to come back that is never too early, and not the same for all who are sent away at once: later by up to a quarter, and by up to
/// [`SPREAD`] where that is longer. `chance`: from 0 to 1.
fn spread(seconds: u64, chance: f64) -> u64 {
    let seconds = seconds.max(1);
    let most = (seconds / 4).max(SPREAD);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "seconds of a pause"
    )]
    let more = (most as f64 * chance).round() as u64;
    seconds + more
}

/// What the server put beside every request.
pub(in crate::doors) fn given<T: Send + Sync + 'static>(request: &Request) -> Result<&T> {
    let missing = || Refusal(Problem::internal(format!("a request came without {}", std::any::type_name::<T>())));
    Ok(request.data::<T>().ok_or_else(missing)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_to_come_back_too_early_or_much_too_late() {
        for (seconds, latest) in [(0, 3), (1, 3), (8, 10), (60, 75), (3600, 4500)] {
            assert_eq!(spread(seconds, 0.0), seconds.max(1));
            assert_eq!(spread(seconds, 1.0), latest);
            assert!((seconds.max(1)..=latest).contains(&spread(seconds, 0.4)));
        }
        assert!(
            (0..100).map(|step| spread(60, f64::from(step) / 99.0)).collect::<std::collections::BTreeSet<_>>().len()
                > 10
        );
    }
}
