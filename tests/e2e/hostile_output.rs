//! Output that no agent should write: the turn fails with a reason or the noise is passed over and counted; the server stays small and
//! well, and other sessions hardly notice.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    client::{Client, id},
    counter::Counter,
    growth::Growth,
    house::{House, model},
    settings::Settings,
    stream::{Event, assert_gapless},
};

/// What the server may grow by.
const GROWTH_MIB: u64 = 32;
/// How many times as long another session's turns may take.
const SLOWER: f64 = 2.0;
/// Turns of the other session before and meanwhile.
const TURNS: usize = 15;

/// One bad agent, a neighbour, and what both came to.
struct Trial {
    house: House,
    alice: Client,
    session: Value,
}

impl Trial {
    async fn begin() -> Self {
        Self::begin_with(Settings::new()).await
    }

    async fn begin_with(settings: Settings) -> Self {
        let house = House::start(settings.chatterbox()).await;
        let alice = house.alice();
        let session = alice.open(json!({"template": "chatterbox"})).await;
        // Code that has run once is in memory.
        alice.prompt(&session, "[emit 3000] [noise 100]").await.rest().await;
        Self { house, alice, session }
    }

    /// A bad turn to its end, while the server's memory is watched.
    async fn turn(&self, prompt: &str) -> Vec<Event> {
        let growth = Growth::watch(self.house.pid());
        let events = self.alice.prompt(&self.session, prompt).await.rest().await;
        let grown = growth.mebibytes().await;
        println!("{prompt}: {} events, the server grew by {grown} MiB", events.len());
        assert!(grown <= GROWTH_MIB, "{prompt}: the server grew by {grown} MiB");
        assert_gapless(&events, events[0].seq);
        events
    }

    /// Lines that were passed over, as the operator sees it.
    async fn skipped(&self) -> u64 {
        let metrics = self.house.operator().get("/metrics").await.text();
        let lines = metrics.lines().filter_map(|line| line.strip_prefix("greenroom_agent_skipped_lines_total"));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
    }

    /// The server has not panicked, and stops in order.
    async fn end(self) {
        let log = self.house.log();
        let log = String::from_utf8_lossy(&log);
        assert!(!log.contains("panicked"), "{log}");
        self.house.stop().await;
    }
}

fn count(events: &[Event], kind: &str) -> usize {
    events.iter().filter(|event| event.kind == kind).count()
}

fn last(events: &[Event]) -> &Event {
    events.last().expect("a turn has events")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_megabytes_without_a_line_end_fail_the_turn() {
    let trial = Trial::begin().await;
    let events = trial.turn("[line 100000000]").await;
    let failed = events.iter().find(|event| event.kind == "turn.failed").unwrap_or_else(|| panic!("{events:#?}"));
    assert_eq!(failed.content["code"], "AGENT_FAILED", "{failed:?}");
    assert!(failed.content["detail"].as_str().is_some_and(|detail| detail.contains("line")), "{failed:?}");
    let path = format!("/v1/sessions/{}", id(&trial.session));
    assert_eq!(trial.alice.get_json(&path).await["end"]["reason"], "agent_exited");
    // Its successor isn't touched by it.
    let next = trial.alice.open(json!({"template": "chatterbox"})).await;
    assert!(trial.alice.ask(&next, "[emit 1]").await.contains('x'));
    trial.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_text_and_no_message_are_passed_over_and_counted() {
    let trial = Trial::begin().await;
    let before = trial.skipped().await;
    let events = trial.turn("[emit 1] [invalid] [emit 1]").await;
    assert_eq!((last(&events).kind.as_str(), count(&events, "message.delta")), ("turn.ended", 2));
    // Nine kinds of it, two hundred times.
    assert_eq!(trial.skipped().await - before, 1_800);
    let logged = events.iter().filter(|event| event.kind == "agent.log").map(|event| event.content["text"].to_string());
    assert!(logged.clone().any(|text| text.contains('\u{fffd}')), "what is no text is replaced");
    assert!(logged.clone().any(|text| text.contains(r"\u0000")), "a NUL is told");
    trial.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_nested_without_end_is_passed_over() {
    let trial = Trial::begin().await;
    let before = trial.skipped().await;
    let events = trial.turn("[deep 10000] [emit 1] [deep 1000000] [emit 1]").await;
    assert_eq!((last(&events).kind.as_str(), count(&events, "message.delta")), ("turn.ended", 2));
    assert_eq!(trial.skipped().await - before, 2);
    trial.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_text_between_messages_takes_nothing_from_them() {
    let trial = Trial::begin().await;
    let before = trial.skipped().await;
    let events = trial.turn("[noise 2000]").await;
    assert_eq!((last(&events).kind.as_str(), count(&events, "message.delta")), ("turn.ended", 2_000));
    assert_eq!(trial.skipped().await - before, 2_000);
    trial.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_updates_hardly_slows_another_session() {
    let trial = Trial::begin_with(Settings::new().gemini(model(None).await)).await;
    let other = trial.house.bob();
    let neighbour = other.open(json!({"template": "gemini"})).await;
    trial.house.stocked().await;
    // Its code is compiled while it runs: the first turns are slow.
    turns(&other, &neighbour, 5).await;
    let alone = turns(&other, &neighbour, TURNS).await;

    let path = format!("/v1/sessions/{}", id(&trial.session));
    let last_seq = trial.alice.get_json(&path).await["last_seq"].as_u64().expect("a number");
    let mut flood = Counter::follow(&trial.alice, &path, last_seq).await;
    let growth = Growth::watch(trial.house.pid());
    trial
        .alice
        .post(&format!("{path}/turns"), &json!({"prompt": "[flood seconds=8]"}))
        .await
        .expect(StatusCode::ACCEPTED);
    let ((), beside) = tokio::join!(flood.next_of("turn.ended"), turns(&other, &neighbour, TURNS));
    let (updates, grown) = (flood.count("message.delta"), growth.mebibytes().await);

    let ratio = beside.as_secs_f64() / alone.as_secs_f64();
    println!(
        "{updates} updates, {grown} MiB; a neighbour's turn took {ratio:.2} times as long: {beside:?} instead of {alone:?}"
    );
    assert!(updates > 10_000, "no flood: {updates} updates");
    assert!(grown <= GROWTH_MIB, "the server grew by {grown} MiB");
    assert!(ratio <= SLOWER, "{ratio:.2} times as long: {beside:?} instead of {alone:?}");
    trial.end().await;
}

/// The median time of a neighbour's turns: twenty pieces of an answer, a hundred a second, as a quick model gives them.
async fn turns(client: &Client, session: &Value, count: usize) -> Duration {
    let mut times = Vec::new();
    for _ in 0..count {
        let begun = Instant::now();
        client.ask(session, "[chunks:20] [delay:10]").await;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    times[times.len() / 2]
}
