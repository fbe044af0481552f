//! Events as Server-Sent Events.
//!
//! One task per stream takes events from the log and writes them into the queue to its client; what becomes of a client who is slow is
//! told in [`frames`](super::frames). A client that was cut may resume. The agent never waits for any of this.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use poem::{
    FromRequest, IntoResponse, Request, RequestBody, Response,
    http::{HeaderName, header},
};
use poem_openapi::{
    ApiResponse,
    payload::Payload,
    registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchemaRef, Registry},
    types::Type,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{
    dto,
    frames::{Cut, FrameWriter, Frames, frames},
};
use crate::{
    config,
    doors::server::Stopping,
    identity::Standing,
    ids::TurnId,
    problem::Problem,
    service::EventReader,
    session::event::{Event, EventType},
};

const OPENED: &str = ": open\n\n";
const KEPT_ALIVE: &str = ": keep-alive\n\n";
/// Tells clients to come back after a second, when the server stops: its successor goes on where this stream ended.
const COME_BACK: &str = "retry: 1000\n\n";
/// Tells people why a stream ends whose token isn't good any more. Clients come back with another, and with their last id.
const GOODBYE: &str = ": unauthenticated\nretry: 1000\n\n";
/// How long a client may still take what it was sent when its token isn't good any more.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long a stream goes on with events that are there already when the server stops.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Tells nginx and its kin not to hold events back.
const NO_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

type Result<T> = std::result::Result<T, Problem>;

/// Which events a stream sends, and where it ends. Every stream ends when the server stops, too, and with its caller's token.
#[derive(Debug, Clone)]
pub(super) enum Scope {
    /// All; ends with the session.
    Session,
    /// Those of one turn and the session's end; ends with either.
    Turn(TurnId),
}

impl Scope {
    fn sends(&self, event: &Event) -> bool {
        match self {
            Self::Session => true,
            Self::Turn(turn) => event.turn.as_ref() == Some(turn) || event.kind == EventType::SessionEnded,
        }
    }

    fn ends_with(&self, event: &Event) -> bool {
        match self {
            Self::Session => event.kind == EventType::SessionEnded,
            Self::Turn(_) => event.kind.ends_turn(),
        }
    }
}

/// Tells that the server stops; without one it never does.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop(Option<CancellationToken>);

impl<'a> FromRequest<'a> for Stop {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        Ok(Self(request.data::<Stopping>().map(|Stopping(token)| token.clone())))
    }
}

impl Stop {
    /// Waits for it.
    pub(super) async fn wait(&self) {
        match &self.0 {
            Some(token) => token.cancelled().await,
            None => std::future::pending().await,
        }
    }

    fn has_come(&self) -> bool {
        self.0.as_ref().is_some_and(CancellationToken::is_cancelled)
    }
}

/// Events on their way to one client.
pub(super) struct EventStream {
    frames: Frames,
}

impl EventStream {
    /// Starts sending what the reader gives.
    pub(super) fn start(reader: EventReader, scope: Scope, stop: Stop, settings: &config::Server) -> Self {
        let standing = reader.standing.clone();
        let events = stream::unfold(reader, |mut reader| async { reader.next().await.map(|event| (event, reader)) });
        let pump = Pump { scope, stop, standing, keep_alive: settings.keep_alive };
        let (writer, frames) = frames(settings.write_stall);
        let span = tracing::info_span!("http.stream", end = tracing::field::Empty);
        let task = async move {
            let end = pump.run(events, writer).await;
            tracing::Span::current().record("end", end.as_str());
        };
        tokio::spawn(task.instrument(span));
        Self { frames }
    }
}

/// Why a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Complete,
    ClientLeft,
    ClientStalled,
    Stopping,
    Unauthenticated,
    LogFailed,
}

impl From<Cut> for End {
    fn from(cut: Cut) -> Self {
        match cut {
            Cut::Left => Self::ClientLeft,
            Cut::Stalled => Self::ClientStalled,
        }
    }
}

impl End {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ClientLeft => "client_left",
            Self::ClientStalled => "client_stalled",
            Self::Stopping => "stopping",
            Self::Unauthenticated => "unauthenticated",
            Self::LogFailed => "log_failed",
        }
    }
}

/// Moves events from the log to one client's queue.
#[derive(Debug)]
struct Pump {
    scope: Scope,
    stop: Stop,
    standing: Standing,
    keep_alive: Duration,
}

impl Pump {
    /// Moves everything. Whoever has more to read than there is time for when their token ends is cut, perhaps within an event: its end is missing
    /// then, so nobody takes it for one.
    async fn run(&self, events: impl Stream<Item = Result<Arc<Event>>>, mut writer: FrameWriter) -> End {
        let overdue = async {
            self.standing.ended().await;
            tokio::time::sleep(FAREWELL).await;
        };
        let end = tokio::select! {
            biased;
            end = self.move_all(events, &mut writer) => Some(end),
            () = overdue => None,
        };
        end.map_or(End::Unauthenticated, |end| end.unwrap_or_else(End::from))
    }

    async fn move_all(
        &self,
        events: impl Stream<Item = Result<Arc<Event>>>,
        writer: &mut FrameWriter,
    ) -> std::result::Result<End, Cut> {
        let mut events = std::pin::pin!(events);
        // The client learns at once that it is connected, before there is any event.
        writer.add(OPENED);
        let mut last_words = None;
        loop {
            if self.stop.has_come() && Instant::now() >= *last_words.get_or_insert_with(|| Instant::now() + LAST_WORDS)
            {
                return self.come_back(writer).await;
            }
            let next = match events.next().now_or_never() {
                // What is there already is gathered.
                Some(next) => next,
                None => {
                    writer.flush().await?;
                    tokio::select! {
                        biased;
                        () = writer.closed() => return Ok(End::ClientLeft),
                        next = events.next() => next,
                        () = self.stop.wait() => return self.come_back(writer).await,
                        () = self.standing.ended() => {
                            writer.add(GOODBYE);
                            writer.finish().await?;
                            return Ok(End::Unauthenticated);
                        }
                        () = tokio::time::sleep_until(writer.sent_at() + self.keep_alive) => {
                            writer.add(KEPT_ALIVE);
                            continue;
                        }
                    }
                }
            };
            if let Some(end) = self.write(next, writer).await? {
                writer.finish().await?;
                return Ok(end);
            }
        }
    }

    async fn come_back(&self, writer: &mut FrameWriter) -> std::result::Result<End, Cut> {
        writer.add(COME_BACK);
        writer.finish().await?;
        Ok(End::Stopping)
    }

    /// Writes what the log gave; says so if nothing can follow.
    async fn write(
        &self,
        event: Option<Result<Arc<Event>>>,
        writer: &mut FrameWriter,
    ) -> std::result::Result<Option<End>, Cut> {
        match event {
            None => Ok(Some(End::Complete)),
            // Another turn's end is not this stream's.
            Some(Ok(event)) if !self.scope.sends(&event) => Ok(None),
            Some(Ok(event)) => {
                writer.add(&format!("id: {}\nevent: {}\ndata: ", event.seq, event.kind.as_str()));
                // The JSON of an event has no line breaks, so it is one `data` line.
                writer.add_event(&event.json).await?;
                writer.add("\n\n");
                Ok(self.scope.ends_with(&event).then_some(End::Complete))
            }
            // The client comes back with its last id and is told then; here only people can be.
            Some(Err(problem)) => {
                tracing::debug!(code = problem.code.as_str(), "the log can't be read on");
                writer.add(&format!(": {}\n\n", problem.code.as_str()));
                Ok(Some(End::LogFailed))
            }
        }
    }
}

impl IntoResponse for EventStream {
    fn into_response(self) -> Response {
        Response::builder()
            .content_type(Self::CONTENT_TYPE)
            .header(header::CACHE_CONTROL, "no-store, no-transform")
            .header(NO_BUFFERING, "no")
            .body(self.frames.into_body())
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
