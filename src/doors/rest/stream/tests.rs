//! Streams against a log played by a channel.

use bytes::Bytes;
use secrecy::ExposeSecret as _;
use serde_json::json;
use tokio::{sync::mpsc, time::Instant};

use super::*;
use crate::{
    doors::rest::frames::OWN_BYTES_MAX,
    identity::{Authenticator, NewKey},
    ids::{SessionId, UserId},
};

const SECOND: Duration = Duration::from_secs(1);

/// A stream under test: the log's end, the client's end and the pump's task.
struct Stage {
    log: mpsc::Sender<Result<Arc<Event>>>,
    client: Frames,
    pump: tokio::task::JoinHandle<End>,
}

fn stage(scope: Scope) -> Stage {
    play(scope, Stop::default(), Standing::for_ever())
}

fn stopped_by(scope: Scope, stop: Stop) -> Stage {
    play(scope, stop, Standing::for_ever())
}

fn play(scope: Scope, stop: Stop, standing: Standing) -> Stage {
    let (log, events) = mpsc::channel(100_000);
    let (writer, client) = frames(SECOND * 20);
    let pump = Pump { scope, stop, standing, keep_alive: SECOND * 15 };
    let events = stream::unfold(events, |mut events| async { events.recv().await.map(|event| (event, events)) });
    let pump = tokio::spawn(async move { pump.run(events, writer).await });
    Stage { log, client, pump }
}

fn event(seq: u64, kind: EventType, turn: Option<&str>) -> Arc<Event> {
    let session = SessionId::from_client("ses_1");
    Arc::new(Event::new(seq, kind, &session, turn.map(TurnId::from_client), &json!({"text": "a\nb"})))
}

fn large(seq: u64) -> Arc<Event> {
    let content = json!({"text": "x".repeat(1024 * 1024)});
    Arc::new(Event::new(seq, EventType::ToolUpdated, &SessionId::from_client("ses_1"), None, &content))
}

impl Stage {
    fn append(&self, event: Arc<Event>) {
        assert!(self.log.try_send(Ok(event)).is_ok(), "the test's log is large enough");
    }

    async fn taken(&mut self) -> String {
        let chunk = self.client.next().await.unwrap_or_default();
        String::from_utf8(chunk.to_vec()).unwrap_or_default()
    }

    /// Everything until the stream ends.
    async fn rest(&mut self) -> String {
        let mut text = String::new();
        while let Some(chunk) = self.client.next().await {
            text.push_str(&String::from_utf8_lossy(&chunk));
        }
        text
    }
}

fn ids(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("id: ")).collect()
}

#[tokio::test]
async fn the_first_bytes_come_before_the_first_event() {
    let mut stage = stage(Scope::Session);
    assert_eq!(stage.taken().await, OPENED);
}

#[tokio::test]
async fn an_event_is_its_number_its_type_and_one_line_of_json() {
    let mut stage = stage(Scope::Session);
    stage.taken().await;
    let sent = event(7, EventType::MessageDelta, Some("turn_1"));
    stage.append(Arc::clone(&sent));
    assert_eq!(
        stage.taken().await,
        format!("id: 7\nevent: message.delta\ndata: {}\n\n", String::from_utf8_lossy(&sent.json))
    );
}

#[tokio::test]
async fn a_session_stream_ends_with_the_session() {
    let mut stage = stage(Scope::Session);
    for (seq, kind) in [(1, EventType::SessionReady), (2, EventType::TurnEnded), (3, EventType::SessionEnded)] {
        stage.append(event(seq, kind, None));
    }
    assert_eq!(ids(&stage.rest().await), ["1", "2", "3"]);
    assert_eq!(stage.pump.await.ok(), Some(End::Complete));
}

#[tokio::test]
async fn a_turn_stream_has_its_turns_events_only_and_ends_with_it() {
    for last in [EventType::TurnEnded, EventType::TurnFailed] {
        let mut stage = stage(Scope::Turn(TurnId::from_client("turn_2")));
        stage.append(event(1, EventType::TurnEnded, Some("turn_1")));
        stage.append(event(2, EventType::TurnStarted, Some("turn_2")));
        stage.append(event(3, EventType::UsageUpdated, None));
        stage.append(event(4, last, Some("turn_2")));
        stage.append(event(5, EventType::TurnStarted, Some("turn_3")));
        assert_eq!(ids(&stage.rest().await), ["2", "4"]);
    }
}

#[tokio::test]
async fn a_turn_stream_ends_with_its_session_too() {
    let mut stage = stage(Scope::Turn(TurnId::from_client("turn_2")));
    stage.append(event(1, EventType::SessionEnded, None));
    assert_eq!(ids(&stage.rest().await), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_sends_a_comment_every_keep_alive() {
    let mut stage = stage(Scope::Session);
    stage.taken().await;
    for _ in 0..3 {
        let start = Instant::now();
        assert_eq!(stage.taken().await, KEPT_ALIVE);
        assert_eq!(start.elapsed().as_secs(), 15);
    }
}

#[tokio::test(start_paused = true)]
async fn events_that_are_not_sent_do_not_put_off_the_comment() {
    let mut stage = stage(Scope::Turn(TurnId::from_client("turn_2")));
    stage.taken().await;
    let start = Instant::now();
    for seq in 1..=5 {
        tokio::time::sleep(SECOND * 2).await;
        stage.append(event(seq, EventType::AgentLog, Some("turn_1")));
    }
    assert_eq!(stage.taken().await, KEPT_ALIVE);
    assert_eq!(start.elapsed().as_secs(), 15);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_cut_and_little_was_kept_for_it() {
    let mut stage = stage(Scope::Session);
    for seq in 0..20_000 {
        stage.append(event(seq, EventType::MessageDelta, None));
    }
    let start = Instant::now();
    assert_eq!((&mut stage.pump).await.ok(), Some(End::ClientStalled));
    assert_eq!(start.elapsed().as_secs(), 20);
    assert!(stage.rest().await.len() <= OWN_BYTES_MAX);
}

#[tokio::test]
async fn a_large_event_is_sent_as_it_lies_in_the_log() {
    let (small, shared, last) =
        (event(1, EventType::ToolStarted, None), large(2), event(3, EventType::SessionEnded, None));
    let mut stage = stage(Scope::Session);
    for event in [&small, &shared, &last] {
        stage.append(Arc::clone(event));
    }
    let mut frames = Vec::new();
    while let Some(frame) = stage.client.next().await {
        frames.push(frame);
    }
    let lies_in_log = |frame: &&Bytes| shared.json.as_ptr_range().contains(&frame.as_ptr());
    let own: usize = frames.iter().filter(|frame| !lies_in_log(frame)).map(Bytes::len).sum();
    assert!(own < 1024, "{own} bytes of a small and a large event were copied");
    let record = |event: &Event| {
        format!("id: {}\nevent: {}\ndata: {}\n\n", event.seq, event.kind.as_str(), String::from_utf8_lossy(&event.json))
    };
    let all: String = [&small, &shared, &last].map(|event| record(event)).concat();
    assert_eq!(String::from_utf8_lossy(&frames.concat()), format!("{OPENED}{all}"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_was_cut_leaves_nothing_in_its_queue() {
    // More than the queue takes, and less: that isn't left to lie there either.
    let (much, little) = (vec![large(1), large(2)], vec![event(1, EventType::SessionEnded, None)]);
    for events in [much, little] {
        let mut stage = stage(Scope::Session);
        events.iter().for_each(|event| stage.append(Arc::clone(event)));
        assert_eq!((&mut stage.pump).await.ok(), Some(End::ClientStalled));
        assert!(events.iter().all(|event| event.json.is_unique()), "the queue holds an event");
        assert_eq!(stage.client.next().await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_a_large_event_slowly_is_not_cut() {
    let mut stage = stage(Scope::Session);
    stage.append(large(1));
    stage.append(event(2, EventType::SessionEnded, None));
    let mut bytes = 0;
    while let Some(frame) = stage.client.next().await {
        bytes += frame.len();
        tokio::time::sleep(SECOND * 19).await;
    }
    assert!(bytes > 1024 * 1024);
    assert_eq!(stage.pump.await.ok(), Some(End::Complete));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_something_now_and_then_gets_all() {
    let mut stage = stage(Scope::Session);
    for seq in 1..=10_000 {
        stage.append(event(seq, EventType::MessageDelta, None));
    }
    stage.append(event(10_001, EventType::SessionEnded, None));
    let mut seen = 0;
    while let Some(chunk) = stage.client.next().await {
        seen += ids(&String::from_utf8_lossy(&chunk)).len();
        tokio::time::sleep(SECOND * 19).await;
    }
    assert_eq!(seen, 10_001);
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_task() {
    let stage = stage(Scope::Session);
    drop(stage.client);
    assert_eq!(stage.pump.await.ok(), Some(End::ClientLeft));
}

#[tokio::test]
async fn a_stopping_server_ends_every_stream_after_what_is_there_and_asks_clients_to_come_back() {
    for scope in [Scope::Session, Scope::Turn(TurnId::from_client("turn_1"))] {
        let stopping = CancellationToken::new();
        let mut stage = stopped_by(scope, Stop(Some(stopping.clone())));
        for seq in 1..=1_000 {
            stage.append(event(seq, EventType::MessageDelta, Some("turn_1")));
        }
        stopping.cancel();
        let text = stage.rest().await;
        assert_eq!(ids(&text).len(), 1_000);
        assert!(text.ends_with("\n\nretry: 1000\n\n"), "{text}");
        assert_eq!(stage.pump.await.ok(), Some(End::Stopping));
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_talks_on_does_not_hold_up_a_stopping_server() {
    let stopping = CancellationToken::new();
    let stop = Stop(Some(stopping.clone()));
    let (writer, mut client) = frames(SECOND * 20);
    // Always something to send, each a little later than the one before.
    let endless = stream::unfold(1, |seq| async move {
        tokio::time::advance(SECOND / 1000).await;
        Some((Ok(event(seq, EventType::MessageDelta, None)), seq + 1))
    });
    let pump = Pump { scope: Scope::Session, stop, standing: Standing::for_ever(), keep_alive: SECOND * 15 };
    let pump = tokio::spawn(async move { pump.run(Box::pin(endless), writer).await });
    stopping.cancel();
    let start = Instant::now();
    let mut last = Bytes::new();
    while let Some(frame) = client.next().await {
        last = frame;
    }
    assert!(last.ends_with(COME_BACK.as_bytes()));
    assert!(start.elapsed() < LAST_WORDS * 2, "{:?}", start.elapsed());
    assert_eq!(pump.await.ok(), Some(End::Stopping));
}

/// A key of a folder of its own.
struct Key {
    _folder: tempfile::TempDir,
    authenticator: Authenticator,
    id: String,
    standing: Standing,
}

async fn key() -> Key {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let state = config::State { dir: folder.path().to_owned(), ..config::State::default() };
    let authenticator = Authenticator::load(&config::Auth::default(), &state).expect("no keys are no fault");
    let wanted = NewKey::of(UserId::parse("alice").expect("a good name"));
    let (key, token) = authenticator.create_key(wanted).expect("the folder is writable");
    let standing = authenticator.verify(token.expose_secret()).await.expect("it is good").standing;
    Key { _folder: folder, authenticator, id: key.id, standing }
}

impl Key {
    fn revoke(&self) {
        assert!(self.authenticator.revoke_key(&self.id).expect("the folder is writable"));
    }
}

#[tokio::test]
async fn a_stream_ends_with_its_token_after_what_is_there_and_says_so() {
    for scope in [Scope::Session, Scope::Turn(TurnId::from_client("turn_1"))] {
        let key = key().await;
        let mut stage = play(scope, Stop::default(), key.standing.clone());
        for seq in 1..=1_000 {
            stage.append(event(seq, EventType::MessageDelta, Some("turn_1")));
        }
        key.revoke();
        let text = stage.rest().await;
        assert_eq!(ids(&text).len(), 1_000);
        assert!(text.ends_with(&format!("\n\n{GOODBYE}")), "{text}");
        assert_eq!(stage.pump.await.ok(), Some(End::Unauthenticated));
    }
}

#[tokio::test(start_paused = true)]
async fn who_takes_their_time_does_not_outlive_their_token_by_more_than_a_farewell() {
    let key = key().await;
    let mut stage = play(Scope::Session, Stop::default(), key.standing.clone());
    for seq in 1..=100 {
        stage.append(large(seq));
    }
    key.revoke();
    let start = Instant::now();
    let mut bytes = 0;
    while let Some(frame) = stage.client.next().await {
        bytes += frame.len();
        tokio::time::sleep(SECOND).await;
    }
    assert!(start.elapsed() <= FAREWELL + SECOND * 2, "{:?}", start.elapsed());
    assert!(bytes < 1024 * 1024, "{bytes}");
    assert_eq!(stage.pump.await.ok(), Some(End::Unauthenticated));
}

#[tokio::test]
async fn a_log_that_fails_ends_the_stream_with_the_code_as_a_comment() {
    let mut stage = stage(Scope::Session);
    let problem = Problem::new(crate::problem::Code::EventCursorExpired, "x");
    assert!(stage.log.try_send(Err(problem)).is_ok());
    assert!(stage.rest().await.ends_with(": EVENT_CURSOR_EXPIRED\n\n"));
    assert_eq!(stage.pump.await.ok(), Some(End::LogFailed));
}
