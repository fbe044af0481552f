//! Bodies on their way through: one piece at a time. A slow reader slows the writer, nothing else. Gathered is only a request whose costs have to
//! be known before it goes out.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Sleep,
};
use tracing::Span;

use super::{
    charge::{Answered, Charge},
    lease::Lease,
    metering::UsageScanner,
    redaction::Veil,
    tally::Tally,
};
use crate::{config::ApiForm, telemetry::labels::GatewayOutcome};

/// Largest body of a request, in bytes.
pub(super) const UPLOAD_BYTES: u64 = 32 * 1024 * 1024;

/// A request that is gathered and has more bytes than this waits for others of its session that have, too.
pub(super) const LARGE: usize = 1024 * 1024;

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

/// A request's body: paced and limited while it passes, or gathered before.
#[derive(Debug)]
pub(super) enum Upload {
    /// It comes as it is read.
    Passing(Passing),
    /// All of it, once.
    Whole(Option<Bytes>),
}

/// A body on its way.
#[derive(Debug)]
pub(super) struct Passing {
    body: Paced,
    left: u64,
}

impl Upload {
    /// Wraps a request's body.
    pub fn new(inner: Incoming, deadline: Duration) -> Self {
        Self::Passing(Passing { body: Paced { inner, deadline, silence: None }, left: UPLOAD_BYTES })
    }

    /// Gathers it. Past [`LARGE`] it takes a permit, of which a session has one, and gives it along.
    pub async fn gather(mut self, large: &Arc<Semaphore>) -> Result<(Bytes, Option<OwnedSemaphorePermit>), BodyError> {
        let mut whole = BytesMut::new();
        let mut permit = None;
        while let Some(frame) = self.frame().await {
            let Ok(data) = frame?.into_data() else { break };
            if permit.is_none() && whole.len() + data.len() > LARGE {
                permit = Arc::clone(large).acquire_owned().await.ok();
            }
            whole.extend_from_slice(&data);
        }
        Ok((whole.freeze(), permit))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let passing = match self.get_mut() {
            Self::Passing(passing) => passing,
            Self::Whole(whole) => return Poll::Ready(whole.take().map(|whole| Ok(Frame::data(whole)))),
        };
        let Some(frame) = ready!(passing.body.poll(context)).transpose()? else { return Poll::Ready(None) };
        // Trailers are headers by another way; none of them is on the list.
        let Ok(data) = frame.into_data() else { return Poll::Ready(None) };
        match passing.left.checked_sub(data.len() as u64) {
            Some(left) => passing.left = left,
            None => return Poll::Ready(Some(Err(BodyError::TooLarge))),
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Passing(passing) => passing.body.inner.is_end_stream(),
            Self::Whole(whole) => whole.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Passing(passing) => passing.body.inner.size_hint(),
            Self::Whole(whole) => SizeHint::with_exact(whole.as_ref().map_or(0, |whole| whole.len() as u64)),
        }
    }
}

/// Counts one answer and settles its costs once: at its end, or when it is dropped before.
#[derive(Debug)]
pub(super) struct Meter {
    scanner: UsageScanner,
    charge: Charge,
    bytes: u64,
    settled: bool,
}

impl Meter {
    /// A meter for one answer; `events` for server-sent events.
    pub fn new(form: ApiForm, events: bool, charge: Charge) -> Self {
        Self { scanner: UsageScanner::new(form, events), charge, bytes: 0, settled: false }
    }

    fn push(&mut self, data: &Bytes) {
        self.bytes += data.len() as u64;
        self.scanner.push(data);
    }

    fn settle(&mut self, whole: bool) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        if self.scanner.skipped() > 0 {
            let binding = &self.charge.lease().binding;
            tracing::warn!(
                user.id = %binding.user, session.id = %binding.session, skipped = self.scanner.skipped(),
                "token counts of an answer were not understood"
            );
        }
        let answered = Answered { counts: self.scanner.counts(), bytes: self.bytes, whole };
        self.charge.end(answered, self.scanner.model());
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.settle(false);
    }
}

/// An answer's body: paced, metered, veiled and counted. Dropped in the middle, the connection to the model is closed and what
/// was counted so far is charged and reported.
#[derive(Debug)]
pub(super) struct Download {
    body: Paced,
    lease: Arc<Lease>,
    veil: Veil,
    meter: Option<Meter>,
    tally: Option<Tally>,
    span: Span,
}

impl Download {
    /// Wraps an answer's body; `span` ends with it.
    pub fn new(inner: Incoming, deadline: Duration, lease: Arc<Lease>, meter: Option<Meter>, span: Span) -> Self {
        let veil = Veil::new(Arc::clone(&lease.spellings));
        Self { body: Paced { inner, deadline, silence: None }, lease, veil, meter, tally: None, span }
    }

    /// Counts the call when the body is over. One that the agent doesn't read to its end is forwarded all the same.
    pub fn count(&mut self, mut tally: Tally) {
        tally.set(GatewayOutcome::Forwarded);
        self.tally = Some(tally);
    }

    /// What of the next piece may pass; none: all of it is held back.
    fn take(&mut self, data: Bytes) -> Option<Bytes> {
        let is_last = self.body.inner.is_end_stream();
        if let Some(meter) = &mut self.meter {
            meter.push(&data);
            // With a known length the last piece is the end: the costs have to be settled before it.
            if is_last {
                meter.settle(true);
            }
        }
        let passed = self.veil.pass(data);
        (!passed.is_empty()).then_some(passed)
    }

    fn end(&mut self) -> Option<Bytes> {
        if let Some(meter) = &mut self.meter {
            meter.settle(true);
        }
        self.veil.rest()
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            match ready!(self.body.poll(context)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        match self.take(data) {
                            Some(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                            None => continue,
                        }
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
            return Poll::Ready(self.end().map(|rest| Ok(Frame::data(rest))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.inner.is_end_stream() && self.veil.held() == 0
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.veil.held() as u64;
        let inner = self.body.inner.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + held);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + held);
        }
        hint
    }
}
