//! Server-sent events, read strictly: every one must keep the contract of its shape.

use std::{collections::VecDeque, time::Duration};

use http_body_util::BodyExt as _;
use hyper::{Response, StatusCode, body::Incoming};
use jiff::Timestamp;
use serde_json::Value;

use crate::{client::Lost, wait::within};

/// Deadline of one event, and of a turn's whole rest.
const NEXT: Duration = Duration::from_secs(30);

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub seq: u64,
    pub kind: String,
    pub turn: Option<String>,
    /// When it was appended to the log.
    pub time: Timestamp,
    pub content: Value,
}

/// A stream of events.
#[derive(Debug)]
pub struct Events {
    body: Incoming,
    blocks: Blocks,
}

/// What came of a stream so far, cut into its blocks.
#[derive(Debug, Default)]
pub struct Blocks {
    unread: Vec<u8>,
    parsed: VecDeque<Event>,
    /// The pause in milliseconds that the server asked for, should the stream end.
    pub retry: Option<u64>,
}

impl Events {
    /// The stream of an answer that must be one.
    #[track_caller]
    pub fn of(response: Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        assert_eq!(head.status, StatusCode::OK, "{head:?}");
        let value = |name: &str| head.headers.get(name).map_or("", |value| value.to_str().expect("ASCII"));
        assert!(value("content-type").starts_with("text/event-stream"), "{head:?}");
        assert_eq!(value("cache-control"), "no-store, no-transform");
        assert_eq!(value("x-accel-buffering"), "no");
        Self { body, blocks: Blocks::default() }
    }

    /// The next event; none at the end of the stream.
    pub async fn next(&mut self) -> Option<Event> {
        self.try_next().await.expect("the stream isn't cut")
    }

    /// The next event, of a stream that may be cut; none at its end.
    pub async fn try_next(&mut self) -> Result<Option<Event>, Lost> {
        within("the next event", NEXT, async {
            loop {
                if let Some(event) = self.blocks.pop() {
                    return Ok(Some(event));
                }
                let Some(frame) = self.body.frame().await else { return Ok(None) };
                if let Ok(data) = frame.map_err(|_cut| Lost)?.into_data() {
                    self.blocks.feed(&data);
                }
            }
        })
        .await
    }

    /// What of the stream isn't read yet.
    pub fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// Reads on until an event of this type, and gives back all that was read.
    pub async fn up_to(&mut self, kind: &str) -> Vec<Event> {
        let mut read = Vec::new();
        loop {
            let Some(event) = self.next().await else { panic!("the stream ended before {kind}: {read:#?}") };
            read.push(event);
            if read.last().is_some_and(|event| event.kind == kind) {
                return read;
            }
        }
    }

    /// Reads until the server ends the stream.
    pub async fn rest(self) -> Vec<Event> {
        self.rest_and_retry().await.0
    }

    /// The same, and the pause that the server asked for before the end.
    pub async fn rest_and_retry(mut self) -> (Vec<Event>, Option<u64>) {
        let mut read = Vec::new();
        while let Some(event) = self.next().await {
            read.push(event);
        }
        (read, self.blocks.retry)
    }
}

impl Blocks {
    fn feed(&mut self, data: &[u8]) {
        self.unread.extend_from_slice(data);
        while let Some(end) = self.unread.windows(2).position(|pair| pair == b"\n\n") {
            let block = self.unread.drain(..end + 2).collect::<Vec<_>>();
            let block = String::from_utf8(block).expect("events are UTF-8");
            self.retry = retry(&block).or(self.retry);
            self.parsed.extend(event(&block));
        }
    }

    fn pop(&mut self) -> Option<Event> {
        self.parsed.pop_front()
    }

    /// The beginning of a block whose end hasn't come.
    pub fn unfinished(&self) -> &[u8] {
        &self.unread
    }
}

/// One block of the stream; none when it is but a comment, or says but when to come again.
fn event(block: &str) -> Option<Event> {
    let field = |name: &str| {
        let lines = block.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        lines.map(|value| value.strip_prefix(' ').unwrap_or(value)).collect::<Vec<_>>().join("\n")
    };
    let data = field("data");
    if data.is_empty() {
        let known = |line: &str| line.is_empty() || line.starts_with(':') || line.starts_with("retry:");
        assert!(block.lines().all(known), "neither event nor comment: {block}");
        return None;
    }
    let whole = serde_json::from_str::<Value>(&data).unwrap_or_else(|error| panic!("{error} in {data}"));
    let event = from_json(&whole);
    assert_eq!(field("id"), event.seq.to_string(), "{block}");
    assert_eq!(field("event"), event.kind, "{block}");
    Some(event)
}

fn retry(block: &str) -> Option<u64> {
    let value = block.lines().find_map(|line| line.strip_prefix("retry:"))?;
    Some(value.trim().parse().unwrap_or_else(|error| panic!("{error}: {block}")))
}

/// An event from its JSON, with its shape checked.
#[track_caller]
pub fn from_json(whole: &Value) -> Event {
    let text = |name: &str| whole[name].as_str().unwrap_or_else(|| panic!("no {name} in {whole}")).to_owned();
    assert!(text("session_id").starts_with("ses_"), "{whole}");
    assert!(text("time").contains('T') && text("time").ends_with('Z'), "{whole}");
    let time = text("time").parse().unwrap_or_else(|error| panic!("{error}: {whole}"));
    assert!(whole["content"].is_object() || whole["content"].is_array(), "{whole}");
    let turn = whole.get("turn_id").map(|turn| turn.as_str().expect("a turn's id is text").to_owned());
    Event {
        seq: whole["seq"].as_u64().unwrap_or_else(|| panic!("no seq in {whole}")),
        kind: text("type"),
        turn,
        time,
        content: whole["content"].clone(),
    }
}

/// Checks that the numbers go up by one, from `first` on.
#[track_caller]
pub fn assert_gapless(events: &[Event], first: u64) {
    let numbers = events.iter().map(|event| event.seq).collect::<Vec<_>>();
    assert!(numbers.iter().copied().eq(first..first + numbers.len() as u64), "holes or doubles in {numbers:?}");
}

/// The text of all pieces of an answer. A line-oriented agent's lines come without their line feed.
pub fn text(events: &[Event]) -> String {
    let pieces = events.iter().filter(|event| event.kind == "message.delta");
    pieces.map(|event| event.content["text"].as_str().unwrap_or_else(|| panic!("no text in {event:?}"))).collect()
}
