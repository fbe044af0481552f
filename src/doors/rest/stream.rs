//! Events as Server-Sent Events.
//!
//! One task per stream takes events from the log and puts chunks of text in a short queue, from which the connection takes them as fast
//! as the client reads. A client that takes nothing for `write_stall` is cut: its task ends and gives back all it held, on HTTP/2
//! too, where the connection's own watch sees nothing. It may resume. The task also ends when the client leaves, since the queue
//! closes then. The agent never waits for any of this.

use std::{fmt::Write as _, io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use poem::{
    Body, IntoResponse, Response,
    http::{HeaderName, header},
};
use poem_openapi::{
    ApiResponse,
    payload::Payload,
    registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchemaRef, Registry},
    types::Type,
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::dto;
use crate::{
    config,
    ids::TurnId,
    problem::Problem,
    service::EventReader,
    session::event::{Event, EventType},
};

/// No more events are added to a chunk of this size, in bytes.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks a client may be behind; with [`CHUNK_BYTES`] 256 KiB, unless single events are larger.
const QUEUE_CHUNKS: usize = 4;
const OPENED: &str = ": open\n\n";
const KEPT_ALIVE: &str = ": keep-alive\n\n";
/// Tells nginx and its kin not to hold events back.
const NO_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

type Result<T> = std::result::Result<T, Problem>;

/// Which events a stream sends, and where it ends.
#[derive(Debug, Clone)]
pub(super) enum Scope {
    /// All; ends with the session, or when the server stops.
    Session(Option<CancellationToken>),
    /// Those of one turn and the session's end; ends with either.
    Turn(TurnId),
}

impl Scope {
    fn sends(&self, event: &Event) -> bool {
        match self {
            Self::Session(_) => true,
            Self::Turn(turn) => event.turn.as_ref() == Some(turn) || event.kind == EventType::SessionEnded,
        }
    }

    fn ends_with(&self, event: &Event) -> bool {
        match self {
            Self::Session(_) => event.kind == EventType::SessionEnded,
            Self::Turn(_) => event.kind.ends_turn(),
        }
    }

    /// Waits until the server stops, if that ends the stream: a turn has an end of its own, within the drain or never.
    async fn stopping(&self) {
        match self {
            Self::Session(Some(stopping)) => stopping.cancelled().await,
            Self::Session(None) | Self::Turn(_) => std::future::pending().await,
        }
    }
}

/// Events on their way to one client.
pub(super) struct EventStream {
    queue: mpsc::Receiver<Bytes>,
}

impl EventStream {
    /// Starts sending what the reader gives.
    pub(super) fn start(reader: EventReader, scope: Scope, settings: &config::Server) -> Self {
        let events = stream::unfold(reader, |mut reader| async { reader.next().await.map(|event| (event, reader)) });
        let pump = Pump { scope, keep_alive: settings.keep_alive, write_stall: settings.write_stall };
        let (sender, queue) = mpsc::channel(QUEUE_CHUNKS);
        let span = tracing::info_span!("http.stream", end = tracing::field::Empty);
        let task = async move {
            let end = pump.run(events, &sender).await;
            tracing::Span::current().record("end", end.as_str());
        };
        tokio::spawn(task.instrument(span));
        Self { queue }
    }
}

/// Why a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Complete,
    ClientLeft,
    ClientStalled,
    Stopping,
    LogFailed,
}

impl End {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ClientLeft => "client_left",
            Self::ClientStalled => "client_stalled",
            Self::Stopping => "stopping",
            Self::LogFailed => "log_failed",
        }
    }
}

/// Moves events from the log to one client's queue.
#[derive(Debug)]
struct Pump {
    scope: Scope,
    keep_alive: Duration,
    write_stall: Duration,
}

impl Pump {
    async fn run(&self, events: impl Stream<Item = Result<Arc<Event>>>, queue: &mpsc::Sender<Bytes>) -> End {
        let mut events = std::pin::pin!(events);
        // The client learns at once that it is connected, before there is any event.
        let mut chunk = OPENED.to_owned();
        let mut silent_since = Instant::now();
        loop {
            let mut end = None;
            // What is there already goes out in one piece.
            while end.is_none() && chunk.len() < CHUNK_BYTES {
                match events.next().now_or_never() {
                    Some(event) => end = self.write(event, &mut chunk),
                    None => break,
                }
            }
            if !chunk.is_empty() {
                if let Err(cut) = self.send(std::mem::take(&mut chunk), queue).await {
                    return cut;
                }
                silent_since = Instant::now();
            }
            if let Some(end) = end {
                return end;
            }
            tokio::select! {
                biased;
                () = queue.closed() => return End::ClientLeft,
                event = events.next() => {
                    if let Some(end) = self.write(event, &mut chunk) {
                        return self.send(chunk, queue).await.err().unwrap_or(end);
                    }
                }
                () = self.scope.stopping() => return End::Stopping,
                () = tokio::time::sleep_until(silent_since + self.keep_alive) => chunk.push_str(KEPT_ALIVE),
            }
        }
    }

    /// Adds what the log gave to the chunk; says so if nothing can follow.
    fn write(&self, event: Option<Result<Arc<Event>>>, chunk: &mut String) -> Option<End> {
        match event {
            None => Some(End::Complete),
            Some(Ok(event)) => {
                // Another turn's end is not this stream's.
                if !self.scope.sends(&event) {
                    return None;
                }
                write_event(&event, chunk);
                self.scope.ends_with(&event).then_some(End::Complete)
            }
            // The client comes back with its last id and is told then; here only people can be.
            Some(Err(problem)) => {
                tracing::debug!(code = problem.code.as_str(), "the log can't be read on");
                let _infallible = write!(chunk, ": {}\n\n", problem.code.as_str());
                Some(End::LogFailed)
            }
        }
    }

    async fn send(&self, chunk: String, queue: &mpsc::Sender<Bytes>) -> std::result::Result<(), End> {
        if chunk.is_empty() {
            return Ok(());
        }
        match timeout(self.write_stall, queue.send(chunk.into())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_closed)) => Err(End::ClientLeft),
            Err(_elapsed) => Err(End::ClientStalled),
        }
    }
}

/// The JSON of an event has no line breaks, so it is one `data` line.
fn write_event(event: &Event, chunk: &mut String) {
    let _infallible = write!(chunk, "id: {}\nevent: {}\ndata: {}\n\n", event.seq, event.kind.as_str(), event.json);
}

impl IntoResponse for EventStream {
    fn into_response(self) -> Response {
        let chunks = stream::unfold(self.queue, |mut queue| async {
            queue.recv().await.map(|chunk| (Ok::<_, io::Error>(chunk), queue))
        });
        Response::builder()
            .content_type(Self::CONTENT_TYPE)
            .header(header::CACHE_CONTROL, "no-store, no-transform")
            .header(NO_BUFFERING, "no")
            .body(Body::from_bytes_stream(chunks))
    }
}

impl Payload for EventStream {
    const CONTENT_TYPE: &'static str = "text/event-stream";

    fn schema_ref() -> MetaSchemaRef {
        dto::event::Event::schema_ref()
    }

    fn register(registry: &mut Registry) {
        dto::event::Event::register(registry);
    }
}

impl ApiResponse for EventStream {
    fn meta() -> MetaResponses {
        let content = vec![MetaMediaType { content_type: Self::CONTENT_TYPE, schema: Self::schema_ref() }];
        let description = "The turn's events as they come, ended by `turn.ended`, `turn.failed` or `session.ended`.";
        MetaResponses {
            responses: vec![MetaResponse {
                description,
                status: Some(200),
                status_range: None,
                content,
                headers: vec![],
            }],
        }
    }

    fn register(registry: &mut Registry) {
        <Self as Payload>::register(registry);
    }
}

#[cfg(test)]
mod tests;
