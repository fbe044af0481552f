//! One request: checked, given the key, sent, and its answer passed back.
//!
//! Dropped at any point (the agent hung up, the lease ended) it takes its request to the model with it.

use std::{convert::Infallible, error::Error, sync::Arc, time::Instant};

use http::{HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Either, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use secrecy::ExposeSecret as _;
use tokio::sync::OwnedSemaphorePermit;
use tracing::{Instrument as _, Span, field::Empty};

use super::{
    asked::{self, Asked},
    body::{BodyError, Download, Meter, UPLOAD_BYTES, Upload},
    budget::{Limits, Need, Reservation},
    charge::Charge,
    endpoint::Target,
    form, headers,
    lease::Lease,
    redaction,
    refusal::Refusal,
    report::CallRefused,
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
            return Ok(refusal.answer(slot.endpoint().form()).map(|text| Either::Left(Full::new(text))));
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
        let form = slot.endpoint().form();
        let limits = lease.binding.account.limits().filter(|_| target.metered);
        let (upload, reservation, _large) = match limits {
            Some(limits) => afford(slot, &lease, &parts, upload, limits).await?,
            None => (upload, None, None),
        };
        let mut charge = Charge::new(Arc::clone(&lease), form, target.model.clone(), reservation);
        let response = send(slot, &lease, &target, &parts, upload, &mut charge).await?;
        if response.status().is_success() {
            lease.answered();
            return Ok(pass_back(slot, lease.clone(), &target, response, charge));
        }
        charge.free();
        pass_error(slot, &lease, response).await
    };
    let answered = answered.instrument(span.clone()).await;
    if let Err(refusal) = &answered {
        span.record("http.response.status_code", refusal.answer(slot.endpoint().form()).status().as_u16());
        match refusal {
            Refusal::Budget(exhausted) => lease.refused(CallRefused::Budget(*exhausted)),
            Refusal::KeyMissing => lease.refused(CallRefused::KeyMissing),
            _ => {}
        }
    }
    answered
}

/// A request, what is held for it, and the permit that a large one needs as long as it is in memory.
type Afforded = (Upload, Option<Reservation>, Option<OwnedSemaphorePermit>);

/// Holds what the call may cost at most, and tells it to cost no more. Dropped at any point nothing is held.
async fn afford(
    slot: &Shared,
    lease: &Lease,
    parts: &Parts,
    upload: Upload,
    limits: Limits,
) -> Result<Afforded, Refusal> {
    if parts.headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Refusal::MediaType);
    }
    let gathering = tokio::time::timeout(slot.gateway().deadlines.head, upload.gather(&lease.large));
    let (body, large) = match gathering.await {
        Ok(Ok(gathered)) => gathered,
        Ok(Err(BodyError::TooLarge)) => return Err(Refusal::TooLarge),
        Ok(Err(BodyError::Silent | BodyError::Broken(_))) | Err(_) => return Err(Refusal::Unfinished),
    };
    let endpoint = slot.endpoint();
    let asked = Asked::read(endpoint.form(), &body).map_err(|_| Refusal::NotUnderstood)?;
    let (most, answers) = (endpoint.max_output_tokens(), asked.answers());
    let need = Need {
        input: limits.tokens(body.len() as u64),
        output: asked.limit.map_or(most, |limit| limit.min(most)).saturating_mul(answers),
        output_min: answers,
        boundless: asked.boundless,
    };
    let reservation = lease.binding.account.reserve(limits, need).await.map_err(Refusal::Budget)?;
    let granted = reservation.as_ref().map_or(need.output, |reservation| reservation.cost().output);
    let body = if granted < need.output {
        asked::lower(endpoint.form(), parts.uri.path(), &body, granted / answers)
    } else {
        body
    };
    Ok((Upload::Whole(Some(body)), reservation, large))
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
    charge: &mut Charge,
) -> Result<Response<Incoming>, Refusal> {
    let began = Instant::now();
    let mut request = Request::new(upload);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = target.uri.clone();
    *request.headers_mut() = headers::to_the_model(slot.endpoint().form(), &parts.headers);
    if let Some(key) = lease.key()? {
        request.headers_mut().insert(slot.endpoint().key_header().clone(), key);
    }
    let host = HeaderValue::from_str(slot.endpoint().authority().as_str()).map_err(|_| Refusal::Unreachable)?;
    request.headers_mut().insert(header::HOST, host);

    let gateway = slot.gateway();
    charge.begin();
    let answered = tokio::time::timeout(gateway.deadlines.head, gateway.upstream.request(request)).await;
    let (refusal, cause) = match answered {
        Ok(Ok(response)) if passes(response.status()) => {
            Span::current().record("http.response.status_code", response.status().as_u16());
            Span::current().record("gateway.head_ms", u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
            return Ok(response);
        }
        Ok(Ok(response)) => {
            charge.free();
            (Refusal::Elsewhere, format!("status {}", response.status().as_u16()))
        }
        Ok(Err(error)) => {
            if error.is_connect() {
                charge.free();
            }
            (blame(&error), chain(&error))
        }
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

/// Streams a success.
fn pass_back(
    slot: &Shared,
    lease: Arc<Lease>,
    target: &Target,
    response: Response<Incoming>,
    mut charge: Charge,
) -> Response<AnswerBody> {
    let (from, body) = response.into_parts();
    let headers = headers::to_the_agent(&from.headers);
    let media_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let events = media_type.starts_with(b"text/event-stream");
    if target.metered && headers.contains_key(header::CONTENT_ENCODING) {
        let binding = &lease.binding;
        tracing::warn!(user.id = %binding.user, session.id = %binding.session, "an answer is encoded: its tokens can't be counted");
    }
    let meter = if target.metered {
        Some(Meter::new(slot.endpoint().form(), events, charge))
    } else {
        charge.free();
        None
    };
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
    let refuses_key = |text: &[u8]| form::refuses_key(slot.endpoint().form(), from.status, text);
    if unreadable && refuses_key(b"") {
        lease.refused(CallRefused::Key);
    }
    let gathering = tokio::time::timeout(slot.gateway().deadlines.idle, Limited::new(body, ERROR_BYTES).collect());
    let (refusal, cause) = match gathering.await {
        Ok(Ok(_)) if unreadable => (Refusal::Elsewhere, "an error of the model is encoded".to_owned()),
        Ok(Ok(text)) => {
            let text = text.to_bytes();
            if refuses_key(&text) {
                lease.refused(CallRefused::Key);
            }
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
