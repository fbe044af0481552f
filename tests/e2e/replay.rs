//! Reading a session's events again: from any number, as a stream, as a page, as a long poll.

use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    client::{Client, id},
    house::House,
    settings::Settings,
    stream::{Event, Events, assert_gapless, from_json},
    wait::{until, within},
};

const JSON: (&str, &str) = ("accept", "application/json");

async fn page(client: &Client, session: &Value, query: &str) -> Vec<Event> {
    let path = format!("/v1/sessions/{}/events{query}", id(session));
    let page = client.call(Method::GET, &path, &[JSON], Bytes::new()).await.expect(StatusCode::OK);
    page["items"].as_array().unwrap_or_else(|| panic!("no items: {page}")).iter().map(from_json).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_replayed_from_any_number_in_every_form() {
    let house = House::start(Settings::new().shell()).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell"})).await;
    alice.ask(&session, "seq 1 20").await;

    let all = page(&alice, &session, "").await;
    assert_gapless(&all, 1);
    let last = all.last().expect("a turn has events").seq;
    assert!(last > 20, "{all:#?}");

    assert_eq!(page(&alice, &session, "?after=7").await, all[7..]);
    assert_eq!(page(&alice, &session, &format!("?after={last}")).await, []);

    let path = format!("/v1/sessions/{}/events", id(&session));
    let headers = [("accept", "text/event-stream"), ("last-event-id", "5")];
    let mut stream = Events::of(alice.send(Method::GET, &path, &headers, Bytes::new()).await);
    assert_eq!(stream.up_to("turn.ended").await, all[5..]);
    assert_eq!(alice.events(&session, 9).await.up_to("turn.ended").await, all[9..]);

    // A reader that is there already and one that polls see the next turn alike.
    let query = format!("?after={last}&wait_s=20");
    let polled = page(&alice, &session, &query);
    let asked = async {
        let live = alice.prompt(&session, "echo next").await.rest().await;
        assert_gapless(&live, last + 1);
        live
    };
    let (polled, live) =
        within("the poll returns", Duration::from_secs(20), async { tokio::join!(polled, asked) }).await;
    assert!(!polled.is_empty(), "the poll returned without news");
    assert_eq!(polled, live[..polled.len()]);
    assert_eq!(stream.up_to("turn.ended").await, live);

    let headers = [("last-event-id", "many"), ("accept", "text/event-stream")];
    alice.call(Method::GET, &path, &headers, Bytes::new()).await.problem(400, "INVALID_REQUEST");
    alice.call(Method::GET, &format!("{path}?after=-1"), &[JSON], Bytes::new()).await.problem(400, "INVALID_REQUEST");
    alice
        .call(Method::GET, &format!("{path}?after=100000"), &[JSON], Bytes::new())
        .await
        .problem(400, "INVALID_REQUEST");
    alice.call(Method::GET, &format!("{path}?wait_s=31"), &[JSON], Bytes::new()).await.problem(400, "INVALID_REQUEST");

    // A page says where the next one begins.
    let first = alice.call(Method::GET, &format!("{path}?limit=3"), &[JSON], Bytes::new()).await.expect(StatusCode::OK);
    assert_eq!((first["items"].as_array().map(Vec::len), &first["next_after"]), (Some(3), &json!(3)), "{first}");

    // What has ended can still be read, and is not said twice.
    alice.close(&session).await;
    let ended = page(&alice, &session, "").await;
    assert_gapless(&ended, 1);
    assert_eq!(ended.last().map(|event| event.kind.as_str()), Some("session.ended"));
    let replayed = alice.events(&session, 0).await.rest().await;
    assert_eq!(replayed, ended, "the stream of an ended session ends");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_who_hangs_up_in_the_middle_of_a_turn_misses_nothing() {
    let house = House::start(Settings::new().shell()).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell"})).await;

    let mut turn = alice.prompt(&session, "for n in $(seq 1 40); do echo piece-$n; sleep 0.02; done").await;
    let mut read = Vec::new();
    while read.len() < 5 {
        read.push(turn.next().await.expect("the turn goes on"));
    }
    drop(turn);
    // Again and again, three events at a time.
    while read.last().is_some_and(|event| event.kind != "turn.ended") {
        let mut events = alice.events(&session, read.last().expect("there are events").seq).await;
        for _ in 0..3 {
            read.extend(events.next().await);
            if read.last().is_some_and(|event| event.kind == "turn.ended") {
                break;
            }
        }
    }
    assert_gapless(&read, read[0].seq);
    let pieces = crate::stream::text(&read);
    let places = (1..=40).map(|number| pieces.find(&format!("piece-{number}"))).collect::<Vec<_>>();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{pieces}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_who_does_not_read_holds_nobody_up() {
    let house = House::start(Settings::new().shell().set("server", "write_stall", "\"1s\"")).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell"})).await;
    let mut idle = Vec::new();
    for _ in 0..5 {
        idle.push(alice.events(&session, 0).await);
    }
    // About 8 MB of events, which is more than any socket holds.
    let asked = alice.ask(&session, "seq 1 30000 | sed s,$,-a-long-line-with-nothing-to-say,");
    let said = within("the turn ends", Duration::from_secs(20), asked).await;
    assert!(said.contains("30000-a"), "the last line is there");
    assert_eq!(alice.ask(&session, "echo on").await.trim(), "on");

    // Who was cut goes on where they were: nothing is lost.
    drop(idle);
    let mut events = alice.events(&session, 0).await;
    assert_gapless(&events.up_to("turn.ended").await, 1);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_older_than_what_is_kept_is_told_so() {
    let house = House::start(Settings::new().shell().set("session", "log_bytes", "20000")).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell"})).await;
    // Nobody reads along: a reader who can't keep up with so small a log is cut.
    let asked = alice.post(&format!("/v1/sessions/{}/turns", id(&session)), &json!({"prompt": "seq 1 2000"})).await;
    let turn = format!("/v1/sessions/{}/turns/{}", id(&session), id(&asked.expect(StatusCode::ACCEPTED)));
    let ended = async || (alice.get_json(&turn).await["state"] == "ended").then_some(());
    until("the turn has ended", Duration::from_secs(10), ended).await;

    let path = format!("/v1/sessions/{}/events", id(&session));
    let gone = alice.call(Method::GET, &path, &[JSON], Bytes::new()).await.problem(410, "EVENT_CURSOR_EXPIRED");
    let earliest = gone["earliest_seq"].as_u64().unwrap_or_else(|| panic!("where does it begin? {gone}"));
    let stream = alice.call(Method::GET, &path, &[("accept", "text/event-stream")], Bytes::new()).await;
    stream.problem(410, "EVENT_CURSOR_EXPIRED");

    let kept = page(&alice, &session, &format!("?after={}&limit=256", earliest - 1)).await;
    assert_gapless(&kept, earliest);
    assert!(kept.len() > 10, "{kept:?}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_large_events_are_bounded_and_follow_one_another_without_a_hole() {
    let house = House::start(Settings::new().shell()).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell"})).await;
    alice.ask(&session, "for n in 1 2 3 4 5 6; do head -c 900000 /dev/zero | tr '\\0' x; echo; done").await;

    let whole = alice.events(&session, 0).await.up_to("turn.ended").await;
    let bytes: usize = whole.iter().map(|event| event.content.to_string().len()).sum();
    assert!(bytes > 5_000_000, "{bytes} bytes are no test");
    let (mut read, mut pages, mut after) = (Vec::new(), 0, 0);
    while read.len() < whole.len() {
        let path = format!("/v1/sessions/{}/events?limit=256&after={after}", id(&session));
        let reply = alice.call(Method::GET, &path, &[JSON], Bytes::new()).await;
        assert_eq!(reply.header("content-length"), reply.body.len().to_string());
        let page = reply.expect(StatusCode::OK);
        let items = page["items"].as_array().expect("a page has items");
        assert!(reply.body.len() < 1024 * 1024 + 1024 || items.len() == 1, "{} bytes", reply.body.len());
        read.extend(items.iter().map(from_json));
        after = page["next_after"].as_u64().expect("a number");
        pages += 1;
    }
    assert!(pages >= 5, "{pages}");
    assert_eq!(read, whole);
    house.stop().await;
}
