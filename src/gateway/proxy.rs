//! One request: checked, given the key, sent, and its answer passed back.
//!
//! Dropped at any point (the agent hung up, the lease ended) it takes its request to the model with it.

use std::{convert::Infallible, error::Error, sync::Arc, time::Instant};

use http::{HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Either, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use secrecy::ExposeSecret as _;
use tracing::{Instrument as _, Span, field::Empty};

use super::{
    body::{BodyError, Download, Meter, UPLOAD_BYTES, Upload},
    endpoint::Target,
    headers,
    lease::Lease,
    redaction,
    refusal::Refusal,
    slot::Shared,
    tally::Tally,
};
use crate::telemetry::labels::GatewayOutcome;

/// Largest error of a model that is passed on, in bytes; the real ones have about 1,000.
const ERROR_BYTES: usize = 64 * 1024;

/// What goes back to the agent: a refusal of ours, or the model's words.
pub(super) type AnswerBody = Either<Full<bytes::Bytes>, Download>;

/// Answers one request of the slot's agent.
pub(super) async fn answer(slot: Arc<Shared>, request: Request<Incoming>) -> Result<Response<AnswerBody>, Infallible> {
    let tally = Tally::new(slot.gateway().metrics.clone());
    let mut answer = match forward(&slot, request).await {
        Ok(answer) => answer,
        Err(refusal) => {
            tally.end(refusal.outcome());
            return Ok(refusal.answer().map(|text| Either::Left(Full::new(text))));
        }
    };
    match answer.body_mut() {
        Either::Left(_error) => tally.end(GatewayOutcome::ModelError),
        Either::Right(download) => download.count(tally),
    }
    Ok(answer)
}

async fn forward(slot: &Shared, request: Request<Incoming>) -> Result<Response<AnswerBody>, Refusal> {
    let lease = slot.lease().ok_or(Refusal::Unleased)?;
    let (parts, body) = request.into_parts();
    let target = check(slot, &parts, &body)?;
    let span = tracing::info_span!(
        "gateway.request",
        user.id = %lease.binding.user, session.id = %lease.binding.session,
        gateway.model = target.model, http.response.status_code = Empty, gateway.head_ms = Empty,
    );
    let upload = Upload::new(body, slot.gateway().deadlines.idle);
    let answered = async {
        let response = send(slot, &lease, &target, &parts, upload).await?;
        if response.status().is_success() {
            return Ok(pass_back(slot, lease.clone(), target, response));
        }
        pass_error(slot, &lease, response).await
    };
    let answered = answered.instrument(span.clone()).await;
    if let Err(refusal) = &answered {
        span.record("http.response.status_code", refusal.answer().status().as_u16());
    }
    answered
}

fn check(slot: &Shared, parts: &Parts, body: &Incoming) -> Result<Target, Refusal> {
    if parts.method != Method::POST {
        return Err(Refusal::NotAllowed);
    }
    let target = slot.endpoint().admit(&parts.uri).ok_or(Refusal::NotAllowed)?;
    if !headers::is_json(&parts.headers) {
        return Err(Refusal::MediaType);
    }
    if body.size_hint().lower() > UPLOAD_BYTES {
        return Err(Refusal::TooLarge);
    }
    Ok(target)
}

async fn send(
    slot: &Shared,
    lease: &Lease,
    target: &Target,
    parts: &Parts,
    upload: Upload,
) -> Result<Response<Incoming>, Refusal> {
    let began = Instant::now();
    let mut request = Request::new(upload);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = target.uri.clone();
    *request.headers_mut() = headers::to_the_model(&parts.headers);
    if let Some(key) = lease.key()? {
        request.headers_mut().insert(slot.endpoint().key_header().clone(), key);
    }
    let host = HeaderValue::from_str(slot.endpoint().authority().as_str()).map_err(|_| Refusal::Unreachable)?;
    request.headers_mut().insert(header::HOST, host);

    let gateway = slot.gateway();
    let answered = tokio::time::timeout(gateway.deadlines.head, gateway.upstream.request(request)).await;
    let (refusal, cause) = match answered {
        Ok(Ok(response)) if passes(response.status()) => {
            Span::current().record("http.response.status_code", response.status().as_u16());
            Span::current().record("gateway.head_ms", u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
            return Ok(response);
        }
        Ok(Ok(response)) => (Refusal::Elsewhere, format!("status {}", response.status().as_u16())),
        Ok(Err(error)) => (blame(&error), chain(&error)),
        Err(_elapsed) => (Refusal::Deadline, "no answer within the deadline".to_owned()),
    };
    tell(lease, refusal, &cause);
    Err(refusal)
}

fn tell(lease: &Lease, refusal: Refusal, cause: &str) {
    // What the agent itself did wrong is no news for an operator, and it could do it all day.
    if matches!(refusal, Refusal::TooLarge | Refusal::Unfinished) {
        tracing::debug!(user.id = %lease.binding.user, session.id = %lease.binding.session, cause, "{refusal}");
    } else {
        tracing::warn!(user.id = %lease.binding.user, session.id = %lease.binding.session, cause, "{refusal}");
    }
}

/// A redirect would carry the key to wherever the answer says; an upgrade would end our sight of what passes.
fn passes(status: StatusCode) -> bool {
    !status.is_redirection() && !status.is_informational()
}

/// Streams a success. It can't have the key: the model answers to a prompt, and isn't told who pays.
fn pass_back(slot: &Shared, lease: Arc<Lease>, target: Target, response: Response<Incoming>) -> Response<AnswerBody> {
    let (from, body) = response.into_parts();
    let headers = headers::to_the_agent(&from.headers);
    let media_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let events = media_type.starts_with(b"text/event-stream");
    if target.metered && headers.contains_key(header::CONTENT_ENCODING) {
        let binding = &lease.binding;
        tracing::warn!(user.id = %binding.user, session.id = %binding.session, "an answer is encoded: its tokens can't be counted");
    }
    let meter = target.metered.then(|| Meter::new(events, target.model, lease.clone()));
    let download = Download::new(body, slot.gateway().deadlines.idle, lease, meter, Span::current());
    let mut answer = Response::new(Either::Right(download));
    *answer.status_mut() = from.status;
    *answer.headers_mut() = headers;
    answer
}

/// Passes an error on, without the key. One that can't be searched for it is replaced by an error of ours.
async fn pass_error(
    slot: &Shared,
    lease: &Lease,
    response: Response<Incoming>,
) -> Result<Response<AnswerBody>, Refusal> {
    let (from, body) = response.into_parts();
    let headers = headers::to_the_agent(&from.headers);
    let unreadable = headers.contains_key(header::CONTENT_ENCODING);
    let gathering = tokio::time::timeout(slot.gateway().deadlines.idle, Limited::new(body, ERROR_BYTES).collect());
    let (refusal, cause) = match gathering.await {
        Ok(Ok(_)) if unreadable => (Refusal::Elsewhere, "an error of the model is encoded".to_owned()),
        Ok(Ok(text)) => {
            let text = text.to_bytes();
            let text = lease.binding.key.iter().fold(text, |text, key| redaction::hide(text, key.0.expose_secret()));
            let mut answer = Response::new(Either::Left(Full::new(text)));
            *answer.status_mut() = from.status;
            *answer.headers_mut() = headers;
            return Ok(answer);
        }
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            (Refusal::Elsewhere, format!("an error of the model has more than {ERROR_BYTES} bytes"))
        }
        Ok(Err(error)) => (Refusal::Unreachable, chain(&*error)),
        Err(_elapsed) => (Refusal::Deadline, "an error of the model did not come whole in time".to_owned()),
    };
    tell(lease, refusal, &cause);
    Err(refusal)
}

/// Whether it was the agent's own body that ended the request.
fn blame(error: &(dyn Error + 'static)) -> Refusal {
    match causes(error).find_map(|cause| cause.downcast_ref::<BodyError>()) {
        Some(BodyError::TooLarge) => Refusal::TooLarge,
        Some(BodyError::Silent | BodyError::Broken(_)) => Refusal::Unfinished,
        None => Refusal::Unreachable,
    }
}

/// An error and its causes in one line. None of the layers below puts headers, bodies or queries in its text.
fn chain(error: &(dyn Error + 'static)) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn causes<'error>(error: &'error (dyn Error + 'static)) -> impl Iterator<Item = &'error (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}
