//! Connections that break at any byte: whoever comes again with the last number they have misses nothing and gets nothing twice.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::{
    chance::{Chance, seed},
    client::{Client, Lost, Reply, id},
    follower::{assert_counts, log},
    house::{House, model},
    pools::tell,
    settings::Settings,
    stream::{Event, Events, from_json, text},
    wait::within,
};

/// Cuts in all: four sessions of shells and one of the real agent.
const CUTS: usize = 200;
/// Those of them that the session of the real agent takes.
const CUTS_OF_GEMINI: usize = 32;
const SHELLS: usize = 4;

/// Lines of one turn.
const LINES: usize = 120;
const PIECES: usize = 60;

/// Deadline of one session's part.
const PART: Duration = Duration::from_secs(100);

/// A connection that breaks once so many bytes were read from it.
struct Cut {
    socket: TcpStream,
    left: Arc<AtomicUsize>,
}

impl AsyncRead for Cut {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let left = this.left.load(Ordering::Relaxed);
        if left == 0 {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let mut bytes = vec![0; left.min(buffer.remaining())];
        let mut part = ReadBuf::new(&mut bytes);
        match Pin::new(&mut this.socket).poll_read(context, &mut part) {
            Poll::Ready(Ok(())) => {
                buffer.put_slice(part.filled());
                this.left.fetch_sub(part.filled().len(), Ordering::Relaxed);
                Poll::Ready(Ok(()))
            }
            other => other,
        }
    }
}

impl AsyncWrite for Cut {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(context)
    }
}

/// How a reader came again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Header,
    Query,
    Poll,
}

/// Where the cuts fell.
#[derive(Debug, Default)]
struct Figures {
    head: usize,
    event: usize,
    comment: usize,
    between: usize,
    polls: usize,
}

impl Figures {
    fn cuts(&self) -> usize {
        self.head + self.event + self.comment + self.between + self.polls
    }

    fn add(&mut self, other: &Self) {
        self.head += other.head;
        self.event += other.event;
        self.comment += other.comment;
        self.between += other.between;
        self.polls += other.polls;
    }
}

/// One session's reader.
struct Reader {
    client: Client,
    session: Value,
    chance: Chance,
    read: Vec<Event>,
    cuts: Figures,
}

impl Reader {
    /// Reads until the end of this turn, over as many connections as it takes.
    async fn turn(&mut self, turn: &str) {
        let is_end = |event: &Event| event.kind.starts_with("turn.") && event.kind != "turn.started";
        while !self.read.iter().rev().any(|event| is_end(event) && event.turn.as_deref() == Some(turn)) {
            let way = match self.chance.below(10) {
                0..=5 => Way::Header,
                6 | 7 => Way::Query,
                _ => Way::Poll,
            };
            // A few so small that the answer's head isn't whole.
            let most = if self.chance.below(6) == 0 { 400 } else { 3_500 };
            let left = Arc::new(AtomicUsize::new(1 + usize::try_from(self.chance.below(most)).expect("small")));
            let cut = Cut { socket: self.client.connect().await.expect("the server listens"), left };
            if way == Way::Poll { self.poll(cut).await } else { self.stream(cut, way, turn).await }
        }
    }

    async fn stream(&mut self, cut: Cut, way: Way, turn: &str) {
        let last = self.read.last().map_or(0, |event| event.seq).to_string();
        let path = format!("/v1/sessions/{}/events", id(&self.session));
        let accept = ("accept", "text/event-stream");
        let sent = if way == Way::Header {
            let headers = [accept, ("last-event-id", last.as_str())];
            self.client.send_over(cut, Method::GET, &path, &headers, Bytes::new()).await
        } else {
            let path = format!("{path}?after={last}");
            self.client.send_over(cut, Method::GET, &path, &[accept], Bytes::new()).await
        };
        let Ok(response) = sent else {
            self.cuts.head += 1;
            return;
        };
        let mut events = Events::of(response);
        loop {
            match events.try_next().await {
                Ok(Some(event)) => self.read.push(event),
                Ok(None) => panic!("the server ended the stream"),
                Err(Lost) => break,
            }
            let last = self.read.last().expect("one was read");
            if last.turn.as_deref() == Some(turn) && ["turn.ended", "turn.failed"].contains(&last.kind.as_str()) {
                return;
            }
        }
        match events.blocks().unfinished().first() {
            None => self.cuts.between += 1,
            Some(b':') => self.cuts.comment += 1,
            Some(_) => self.cuts.event += 1,
        }
    }

    async fn poll(&mut self, cut: Cut) {
        let last = self.read.last().map_or(0, |event| event.seq);
        let path = format!("/v1/sessions/{}/events?after={last}&wait_s=2&limit=10", id(&self.session));
        let headers = [("accept", "application/json")];
        let page = async {
            let (head, body) =
                self.client.send_over(cut, Method::GET, &path, &headers, Bytes::new()).await?.into_parts();
            let body = body.collect().await.map_err(|_cut| Lost)?.to_bytes();
            Ok::<_, Lost>(Reply { status: head.status, headers: head.headers, body }.expect(StatusCode::OK))
        };
        match within("a long poll comes back", Duration::from_secs(10), page).await {
            Ok(page) => self.read.extend(page["items"].as_array().expect("a page has items").iter().map(from_json)),
            Err(Lost) => self.cuts.polls += 1,
        }
    }
}

/// Prompts and reads until there were enough cuts; gives back where they fell, and how many events there were.
async fn part(client: Client, number: usize, template: &'static str, enough: usize) -> (Figures, usize) {
    let session = client.open(json!({ "template": template })).await;
    let mut reader = Reader { client, session, chance: Chance::of(number), read: Vec::new(), cuts: Figures::default() };
    let path = format!("/v1/sessions/{}/turns", id(&reader.session));
    let mut turns = 0;
    while reader.cuts.cuts() < enough {
        turns += 1;
        let prompt = if template == "gemini" {
            format!("[chunks:{PIECES}] [delay:4]")
        } else {
            // Now and then a pause, in which the stream says nothing but that it is there.
            format!(
                "for n in $(seq 1 {LINES}); do echo turn-{turns}-$n; sleep 0.00$((n % 8)); [ $((n % 40)) = 0 ] && sleep 0.5; done"
            )
        };
        let turn = reader.client.post(&path, &json!({ "prompt": prompt })).await.expect(StatusCode::ACCEPTED);
        reader.turn(id(&turn)).await;
    }

    let log = log(&reader.client, id(&reader.session)).await;
    let (read, has) = (&reader.read, |seq: u64| reader.read.iter().filter(|event| event.seq == seq).count());
    let lost = log.iter().filter(|event| has(event.seq) == 0).count();
    let repeated = log.iter().filter(|event| has(event.seq) > 1).count();
    assert_eq!((lost, repeated), (0, 0), "lost and repeated, session {number}");
    assert!(*read == log, "what was read isn't the log, session {number}");
    if template == "gemini" {
        let answer: String = (1..=PIECES).map(|number| format!("chunk-{number} ")).collect();
        assert_eq!(text(read), answer.repeat(turns));
    } else {
        for turn in 1..=turns {
            assert_counts(read, &format!("turn-{turn}"), LINES);
        }
    }
    reader.client.close(&reader.session).await;
    (reader.cuts, log.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_cuts_at_any_byte_lose_nothing_and_repeat_nothing() {
    let settings = Settings::new().unlimited().gemini(model(None).await).shell().stock("shell", SHELLS, SHELLS);
    let settings = settings.stock("gemini", 1, 1).set("server", "keep_alive", "\"20ms\"");
    let house = House::start(settings).await;
    let share = (CUTS - CUTS_OF_GEMINI).div_ceil(SHELLS);
    let shells = (0..SHELLS).map(|number| tokio::spawn(part(house.alice(), number, "shell", share)));
    let parts = shells.chain([tokio::spawn(part(house.alice(), SHELLS, "gemini", CUTS_OF_GEMINI))]);
    let (mut cuts, mut events) = (Figures::default(), 0);
    for part in parts.collect::<Vec<_>>() {
        let (of_part, read) = within("a session's cuts", PART, part).await.expect("nothing is lost");
        cuts.add(&of_part);
        events += read;
    }
    tell(&format!(
        "cuts, seed {}: {} cuts of readers ({} in heads, {} within events, {} in comments, {} between, {} of long polls), {events} \
         events, lost 0, repeated 0",
        seed(),
        cuts.cuts(),
        cuts.head,
        cuts.event,
        cuts.comment,
        cuts.between,
        cuts.polls
    ));
    assert!(cuts.cuts() >= CUTS && cuts.head > 0 && cuts.event > 0 && cuts.polls > 0, "{cuts:?}");
    house.stop().await;
}
