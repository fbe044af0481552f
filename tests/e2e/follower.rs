//! A reader that goes on where it was, whatever happens to its connection and to the server: what a good client does.

use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::Value;

use crate::{
    client::{Client, Lost, id},
    stream::{Event, Events, from_json},
    wait::within,
};

/// Deadline of one event, a server's restart included.
const NEXT: Duration = Duration::from_secs(60);

/// Before the next try to reach a server.
const PAUSE: Duration = Duration::from_millis(50);

/// Events asked for at once.
const PAGE: usize = 256;

/// A reader of one session, from its first event on.
#[derive(Debug)]
pub struct Follower {
    client: Client,
    session: String,
    events: Option<Events>,
    /// All that was read; each number is checked to follow the one before.
    pub read: Vec<Event>,
    /// How often it had to come again.
    pub returns: usize,
}

impl Follower {
    /// Nothing is read yet.
    pub fn of(client: &Client, session: &Value) -> Self {
        Self { client: client.clone(), session: id(session).to_owned(), events: None, read: Vec::new(), returns: 0 }
    }

    /// The number of the last event that was read.
    pub fn last(&self) -> u64 {
        self.read.last().map_or(0, |event| event.seq)
    }

    /// The next event, over any number of connections; none after the session's end.
    pub async fn next(&mut self) -> Option<Event> {
        if self.read.last().is_some_and(|event| event.kind == "session.ended") {
            return None;
        }
        let what = format!("event {} of {}", self.last() + 1, self.session);
        within(&what, NEXT, async {
            loop {
                let Some(events) = &mut self.events else {
                    self.come_again().await;
                    continue;
                };
                if let Ok(Some(event)) = events.try_next().await {
                    assert_eq!(event.seq, self.last() + 1, "a hole or a repetition: {event:?}");
                    self.read.push(event.clone());
                    return Some(event);
                }
                self.events = None;
                self.returns += 1;
            }
        })
        .await
    }

    async fn come_again(&mut self) {
        let (path, last) = (format!("/v1/sessions/{}/events", self.session), self.last().to_string());
        let headers = [("accept", "text/event-stream"), ("last-event-id", last.as_str())];
        match self.client.try_send(Method::GET, &path, &headers, Bytes::new()).await {
            Ok(response) if response.status() == StatusCode::OK => self.events = Some(Events::of(response)),
            Ok(response) if response.status() != StatusCode::SERVICE_UNAVAILABLE => {
                panic!("{path} after {last}: {response:?}")
            }
            Ok(_stopping) => tokio::time::sleep(PAUSE).await,
            Err(Lost) => tokio::time::sleep(PAUSE).await,
        }
    }

    /// Reads on until an event that fits.
    pub async fn until(&mut self, mut fits: impl FnMut(&Event) -> bool) -> Event {
        while let Some(event) = self.next().await {
            if fits(&event) {
                return event;
            }
        }
        panic!("the session ended before what was looked for: {:#?}", self.read)
    }

    /// Reads on until an event of this type.
    pub async fn up_to(&mut self, kind: &str) -> Event {
        self.until(|event| event.kind == kind).await
    }

    /// Reads until this turn is over, and gives back its end.
    pub async fn turn(&mut self, turn: &str) -> Event {
        let is_end = |event: &Event| ["turn.ended", "turn.failed"].contains(&event.kind.as_str());
        if let Some(end) = self.read.iter().find(|event| is_end(event) && event.turn.as_deref() == Some(turn)) {
            return end.clone();
        }
        self.until(|event| is_end(event) && event.turn.as_deref() == Some(turn)).await
    }

    /// Reads until the session's end, and gives that back.
    pub async fn end(&mut self) -> Event {
        while self.next().await.is_some() {}
        self.read.last().expect("a session has events").clone()
    }

    /// Checks that the log is what was read.
    pub async fn assert_is_log(&self) {
        assert_eq!(log(&self.client, &self.session).await, self.read, "the log isn't what was read");
    }
}

/// The whole log of a session, as pages give it.
pub async fn log(client: &Client, session: &str) -> Vec<Event> {
    let mut read = Vec::<Event>::new();
    loop {
        let after = read.last().map_or(0, |event| event.seq);
        let path = format!("/v1/sessions/{session}/events?after={after}&limit={PAGE}");
        let page = client.call(Method::GET, &path, &[("accept", "application/json")], Bytes::new()).await;
        let page = page.expect(StatusCode::OK);
        let items = page["items"].as_array().unwrap_or_else(|| panic!("no items: {page}"));
        if items.is_empty() {
            return read;
        }
        read.extend(items.iter().map(from_json));
    }
}

/// The lines of a line-oriented agent's answer, as far as they begin like this.
pub fn lines(events: &[Event], beginning: &str) -> Vec<String> {
    let pieces = events.iter().filter(|event| event.kind == "message.delta");
    let pieces = pieces.map(|event| event.content["text"].as_str().expect("a line is text").to_owned());
    // With or without their line feeds, and one or many in a piece.
    let lines = pieces.flat_map(|piece| piece.lines().map(str::to_owned).collect::<Vec<_>>());
    lines.filter(|line| line.starts_with(beginning)).collect()
}

/// Checks that these are all lines that begin with the words `NAME-1` to `NAME-COUNT`, each once and in order.
#[track_caller]
pub fn assert_counts(events: &[Event], name: &str, count: usize) {
    let lines = lines(events, &format!("{name}-"));
    let wrong =
        (1..=count).zip(&lines).find(|(number, line)| line.split(' ').next() != Some(&format!("{name}-{number}")));
    assert_eq!((wrong, lines.len()), (None, count), "lost, repeated or out of order");
}
