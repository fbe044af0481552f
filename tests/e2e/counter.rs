//! A reader that only counts: fast enough for a torrent, and strict about numbers. What it does not do: parse.

use std::{collections::BTreeMap, io::BufRead as _, time::Duration};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{Method, StatusCode, body::Incoming};

use crate::{client::Client, wait::within};

/// Deadline of the next bytes.
const NEXT: Duration = Duration::from_secs(40);

/// A stream of events, counted as it comes.
#[derive(Debug)]
pub struct Counter {
    body: Incoming,
    unread: Vec<u8>,
    /// The number of the last event.
    pub last_seq: u64,
    /// How many of each type.
    pub kinds: BTreeMap<String, u64>,
    /// Bytes of all their data.
    pub bytes: u64,
}

impl Counter {
    /// Counts the events of the session at this path, from the one after `after` on.
    pub async fn follow(client: &Client, path: &str, after: u64) -> Self {
        let path = format!("{path}/events?after={after}");
        let (head, body) =
            client.send(Method::GET, &path, &[("accept", "text/event-stream")], Bytes::new()).await.into_parts();
        assert_eq!(head.status, StatusCode::OK, "{head:?}");
        Self { body, unread: Vec::new(), last_seq: after, kinds: BTreeMap::new(), bytes: 0 }
    }

    /// How many there were of this type.
    pub fn count(&self, kind: &str) -> u64 {
        self.kinds.get(kind).copied().unwrap_or_default()
    }

    /// Reads until there was one more of this type.
    pub async fn next_of(&mut self, kind: &str) {
        let wanted = self.count(kind) + 1;
        while self.count(kind) < wanted {
            assert!(self.read().await, "the stream ended before {kind}: {:?}", self.kinds);
        }
    }

    /// Reads what comes next; false at the end of the stream. Panics unless numbers go up by one.
    pub async fn read(&mut self) -> bool {
        let frame = within("the next bytes", NEXT, self.body.frame()).await;
        let Some(frame) = frame else { return false };
        let data = frame.expect("the stream isn't cut").into_data().unwrap_or_default();
        self.unread.extend_from_slice(&data);
        let unread = std::mem::take(&mut self.unread);
        let mut rest = unread.as_slice();
        loop {
            let before = rest;
            let length = rest.skip_until(b'\n').expect("memory can be read");
            let Some(line) = before[..length].strip_suffix(b"\n") else {
                self.unread = before.to_vec();
                return true;
            };
            self.line(line);
        }
    }

    fn line(&mut self, line: &[u8]) {
        if let Some(id) = line.strip_prefix(b"id: ") {
            let seq = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok()).expect("an id is a number");
            assert_eq!(self.last_seq + 1, seq, "a hole or a repetition");
            self.last_seq = seq;
        } else if let Some(kind) = line.strip_prefix(b"event: ") {
            let kind = String::from_utf8_lossy(kind).into_owned();
            *self.kinds.entry(kind).or_default() += 1;
        } else if let Some(data) = line.strip_prefix(b"data: ") {
            self.bytes += data.len() as u64;
        }
    }
}
