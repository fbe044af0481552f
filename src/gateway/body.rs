//! Bodies on their way through: one piece at a time, never gathered. A slow reader slows the writer, nothing else.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;
use tracing::Span;

use super::{Usage, lease::Lease, metering::UsageScanner, tally::Tally};
use crate::telemetry::labels::GatewayOutcome;

/// Largest body of a request, in bytes.
pub(super) const UPLOAD_BYTES: u64 = 32 * 1024 * 1024;

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// Over [`UPLOAD_BYTES`].
    #[error("the request is too large")]
    TooLarge,
    /// No piece came within the deadline.
    #[error("the sender fell silent")]
    Silent,
    /// The connection broke.
    #[error("the connection broke off")]
    Broken(#[source] hyper::Error),
}

/// A body that has to bring its next piece within a deadline. Time spent waiting for the reader doesn't count: an agent
/// that takes nothing holds up only itself, until its lease ends.
#[derive(Debug)]
struct Paced {
    inner: Incoming,
    deadline: Duration,
    silence: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) {
            self.silence = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Broken)));
        }
        let deadline = self.deadline;
        let silence = self.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep(deadline)));
        ready!(silence.as_mut().poll(context));
        Poll::Ready(Some(Err(BodyError::Silent)))
    }
}

/// A request's body: paced and limited.
#[derive(Debug)]
pub(super) struct Upload {
    body: Paced,
    left: u64,
}

impl Upload {
    /// Wraps a request's body.
    pub fn new(inner: Incoming, deadline: Duration) -> Self {
        Self { body: Paced { inner, deadline, silence: None }, left: UPLOAD_BYTES }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(frame) = ready!(self.body.poll(context)).transpose()? else { return Poll::Ready(None) };
        // Trailers are headers by another way; none of them is on the list.
        let Ok(data) = frame.into_data() else { return Poll::Ready(None) };
        match self.left.checked_sub(data.len() as u64) {
            Some(left) => self.left = left,
            None => return Poll::Ready(Some(Err(BodyError::TooLarge))),
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.inner.size_hint()
    }
}

/// Counts one answer and reports it once: at its end, or when it is dropped before.
#[derive(Debug)]
pub(super) struct Meter {
    scanner: UsageScanner,
    model: String,
    lease: Arc<Lease>,
    reported: bool,
}

impl Meter {
    /// A meter for one answer; `events` for server-sent events.
    pub fn new(events: bool, model: String, lease: Arc<Lease>) -> Self {
        Self { scanner: UsageScanner::new(events), model, lease, reported: false }
    }

    fn report(&mut self) {
        if std::mem::replace(&mut self.reported, true) {
            return;
        }
        if self.scanner.skipped() > 0 {
            let binding = &self.lease.binding;
            tracing::warn!(
                user.id = %binding.user, session.id = %binding.session, skipped = self.scanner.skipped(),
                "token counts of an answer were not understood"
            );
        }
        if let Some(counts) = self.scanner.counts() {
            let model = std::mem::take(&mut self.model);
            self.lease.report(Usage { model, input_tokens: counts.input, output_tokens: counts.output });
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.report();
    }
}

/// An answer's body: paced, metered and counted. Dropped in the middle, the connection to the model is closed and what
/// was counted so far is reported.
#[derive(Debug)]
pub(super) struct Download {
    body: Paced,
    lease: Arc<Lease>,
    meter: Option<Meter>,
    tally: Option<Tally>,
    span: Span,
}

impl Download {
    /// Wraps an answer's body; `span` ends with it.
    pub fn new(inner: Incoming, deadline: Duration, lease: Arc<Lease>, meter: Option<Meter>, span: Span) -> Self {
        Self { body: Paced { inner, deadline, silence: None }, lease, meter, tally: None, span }
    }

    /// Counts the call when the body is over. One that the agent doesn't read to its end is forwarded all the same.
    pub fn count(&mut self, mut tally: Tally) {
        tally.set(GatewayOutcome::Forwarded);
        self.tally = Some(tally);
    }

    fn take(&mut self, data: &Bytes) {
        let Some(meter) = &mut self.meter else { return };
        meter.scanner.push(data);
        // With a known length the last piece is the end: the report has to come before it.
        if self.body.inner.is_end_stream() {
            meter.report();
        }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match ready!(self.body.poll(context)) {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    self.take(&data);
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
            }
            Some(Err(error)) => {
                if let Some(tally) = self.tally.take() {
                    tally.end(GatewayOutcome::Unreachable);
                }
                let binding = &self.lease.binding;
                self.span.in_scope(|| {
                    tracing::warn!(user.id = %binding.user, session.id = %binding.session, %error, "an answer of the model broke off");
                });
                return Poll::Ready(Some(Err(error)));
            }
            None => {}
        }
        if let Some(meter) = &mut self.meter {
            meter.report();
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.body.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.inner.size_hint()
    }
}
