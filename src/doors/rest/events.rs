//! Reading a session's log: as a stream, a page or a long poll.

use std::{sync::Arc, time::Duration};

use poem::{
    IntoResponse, Response,
    http::header::{CACHE_CONTROL, CONTENT_LENGTH},
    web::{Accept, Data},
};
use poem_openapi::{
    ApiResponse, OpenApi, ResponseContent,
    param::{Header, Path, Query},
    payload::Payload,
    registry::{MetaSchemaRef, Registry},
    types::Type,
};

use super::{
    Door, Group,
    answer::{Answer, Reading},
    dto::event::EventPage,
    frames::{Cut, FrameWriter, frames},
    stream::{EventStream, Scope, Stop},
    tickets::MayFollow,
};
use crate::{
    ids::SessionId,
    problem::{Code, Problem},
    service::EventBatch,
};

/// Events on a page unless `limit` says otherwise.
const PAGE: usize = 100;
/// What a page begins with.
const BEGIN: &str = "{\"items\":[";

pub(super) struct Events;

#[derive(ResponseContent)]
enum Content {
    Stream(EventStream),
    Page(Page),
}

#[derive(ApiResponse)]
enum Read {
    /// The events: as they come, ended by `session.ended`; or with `Accept: application/json` a page.
    #[oai(status = 200)]
    Events(Content),
}

/// A page whose events are sent as the bytes they were logged as.
struct Page {
    batch: EventBatch,
    after: u64,
    write_stall: Duration,
}

#[OpenApi(prefix_path = "/v1", tag = "Group::Events")]
impl Events {
    /// Read a session's events
    ///
    /// A stream by default: first the events after the cursor, then the new ones as they come. A client that lost its connection goes on with
    /// `Last-Event-ID`. With `Accept: application/json` the answer is one page; `wait_s` makes it a long poll. A ticket may stand in for the token.
    #[oai(path = "/sessions/:id/events", method = "get", operation_id = "read_events")]
    #[expect(clippy::too_many_arguments, reason = "each is a parameter of the call")]
    async fn read(
        &self,
        door: Data<&Arc<Door>>,
        token: MayFollow,
        stop: Stop,
        accept: Accept,
        /// The session.
        id: Path<String>,
        /// Begin after the event with this number; stronger than `after`.
        #[oai(name = "Last-Event-ID")]
        last_event_id: Header<Option<u64>>,
        /// Begin after the event with this number. 0: at the beginning.
        #[oai(default)]
        after: Query<u64>,
        /// For a page: how many events it may have. It has fewer when they are large: go on after `next_after` until a page is empty.
        #[oai(default = "page", validator(minimum(value = "1"), maximum(value = "256")))]
        limit: Query<usize>,
        /// For a page: wait up to this many seconds for the first event.
        #[oai(default, validator(maximum(value = "30")))]
        wait_s: Query<u32>,
    ) -> Answer<Read, Reading> {
        let id = SessionId::from_client(&id.0);
        let after = last_event_id.0.unwrap_or(after.0);
        let read = async {
            if wants_page(&accept) {
                let wait = Duration::from_secs(wait_s.0.into());
                let batch = door.service.event_batch(&token.0, &id, after, limit.0, wait);
                let batch = until_stopped(&stop, batch).await?;
                let write_stall = door.config.server.write_stall;
                return Ok(Read::Events(Content::Page(Page { batch, after, write_stall })));
            }
            let reader = door.service.events(&token.0, &id, after).await?;
            let stream = EventStream::start(reader, Scope::Session, stop, &door.config.server);
            Ok(Read::Events(Content::Stream(stream)))
        };
        read.await.into()
    }
}

fn page() -> usize {
    PAGE
}

/// Whether the client likes JSON better than a stream.
fn wants_page(Accept(types): &Accept) -> bool {
    let liked = types.iter().find(|kind| matches!(kind.essence_str(), "text/event-stream" | "application/json"));
    liked.is_some_and(|kind| kind.essence_str() == "application/json")
}

/// A long poll must not hold up the drain.
async fn until_stopped<T>(stop: &Stop, poll: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    tokio::select! {
        biased;
        outcome = poll => outcome,
        () = stop.wait() => Err(Problem::new(Code::ShuttingDown, "the server is stopping; ask again")),
    }
}

impl Page {
    /// What follows the events.
    fn end(&self) -> String {
        let next_after = self.batch.events.last().map_or(self.after, |event| event.seq);
        format!("],\"next_after\":{next_after}}}")
    }

    fn length(&self) -> usize {
        let commas = self.batch.events.len().saturating_sub(1);
        let events: usize = self.batch.events.iter().map(|event| event.json.len()).sum();
        BEGIN.len() + events + commas + self.end().len()
    }

    async fn write(self, mut writer: FrameWriter) -> Result<(), Cut> {
        writer.add(BEGIN);
        for (place, event) in self.batch.events.iter().enumerate() {
            writer.add(if place > 0 { "," } else { "" });
            writer.add_event(&event.json).await?;
        }
        writer.add(&self.end());
        writer.finish().await
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let length = self.length();
        let standing = self.batch.standing.clone();
        let (writer, frames) = frames(self.write_stall);
        // Ends with the client and its token, or when that takes nothing: the length tells it then that the page isn't whole.
        tokio::spawn(async move {
            tokio::select! {
                written = self.write(writer) => {
                    if written == Err(Cut::Stalled) {
                        tracing::debug!("a client took nothing of its page for too long");
                    }
                }
                () = standing.ended() => tracing::debug!("a client took too long for its page: its token isn't good any more"),
            }
        });
        Response::builder()
            .content_type(Self::CONTENT_TYPE)
            .header(CACHE_CONTROL, "no-store")
            .header(CONTENT_LENGTH, length)
            .body(frames.into_body())
    }
}

impl Payload for Page {
    const CONTENT_TYPE: &'static str = "application/json; charset=utf-8";

    fn schema_ref() -> MetaSchemaRef {
        EventPage::schema_ref()
    }

    fn register(registry: &mut Registry) {
        EventPage::register(registry);
    }
}
