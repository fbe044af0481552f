//! An agent that says more than anybody can hold, and a reader who has stopped reading: the server's memory stays small, other readers lose
//! nothing, and the session can be closed.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    client::{Client, id},
    counter::Counter,
    growth::Growth,
    house::House,
    settings::Settings,
};

/// What the server may grow by.
const GROWTH_MIB: u64 = 64;
/// How long closing may take.
const CLOSE: Duration = Duration::from_secs(5);
/// Characters of each update.
const SIZE: u64 = 8_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_who_stops_costs_neither_memory_nor_events() {
    torrent(128).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes; `make chaos` runs it"]
async fn a_reader_who_stops_costs_neither_memory_nor_events_of_a_gigabyte() {
    torrent(1024).await;
}

async fn torrent(megabytes: u64) {
    // Everything is kept, so that a reader may be as slow as the machine is; and who reads nothing isn't cut.
    let settings = Settings::new().chatterbox().set("session", "log_bytes", &(4_u64 << 30).to_string());
    let house = House::start(settings.set("server", "write_stall", "\"10m\"")).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "chatterbox"})).await;
    let path = format!("/v1/sessions/{}", id(&session));
    let mut reader = Counter::follow(&alice, &path, 0).await;
    // Code that has run once is in memory.
    prompt(&alice, &path, &format!("[torrent 2 size={SIZE}]")).await;
    reader.next_of("turn.ended").await;

    let mut stopped = Counter::follow(&alice, &path, 0).await;
    assert!(stopped.read().await, "it has begun to read");
    let growth = Growth::watch(house.pid());
    let (begun, before) = (Instant::now(), reader.bytes);
    prompt(&alice, &path, &format!("[torrent {megabytes} size={SIZE}]")).await;
    reader.next_of("turn.ended").await;
    let (took, read) = (begun.elapsed(), (reader.bytes - before) >> 20);
    let grown = growth.mebibytes().await;
    println!("{read} MiB in {took:.1?}: the server grew by {grown} MiB");
    assert!(read >= megabytes, "{read} MiB of {megabytes} were read");
    assert!(grown <= GROWTH_MIB, "the server grew by {grown} MiB");

    // Closed in the middle of another torrent.
    prompt(&alice, &path, "[torrent 1000000]").await;
    reader.next_of("turn.started").await;
    for _ in 0..100 {
        reader.next_of("message.delta").await;
    }
    let begun = Instant::now();
    alice.close(&session).await;
    let took = begun.elapsed();
    assert!(took <= CLOSE, "closing took {took:?}");
    reader.next_of("session.ended").await;

    // The other's place was kept: it reads on where it stopped.
    let place = stopped.last_seq;
    drop(stopped);
    let mut again = Counter::follow(&alice, &path, place).await;
    again.next_of("session.ended").await;
    assert_eq!(again.last_seq, reader.last_seq);
    house.stop().await;
}

async fn prompt(client: &Client, path: &str, prompt: &str) {
    client.post(&format!("{path}/turns"), &json!({"prompt": prompt})).await.expect(StatusCode::ACCEPTED);
}
