//! One measurement of each kind, with as many sessions as are asked for.

use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::try_join_all;
use http::{Method, StatusCode};
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    arguments::Arguments,
    client::{Session, read},
    costs::{CostPerEvent, Costs},
    figures::Figures,
    reader::{Read, Reader},
    server::{Server, TOKEN},
};

/// Before a measurement, so that what came of the one before is over.
const PAUSE: Duration = Duration::from_secs(1);

/// Sessions that talk at the same time, measured.
#[derive(Debug)]
pub struct Crowd {
    /// How many.
    pub sessions: u32,
    /// Each round of throughput.
    pub rounds: Vec<Throughput>,
    /// From the agent's write to the reader, in milliseconds.
    pub latency: Figures,
    /// While latency was measured.
    pub latency_cost: CostPerEvent,
}

/// One round of throughput.
#[derive(Debug, Clone, Copy)]
pub struct Throughput {
    /// Events a second, over all sessions.
    pub events_per_s: f64,
    /// Processor time.
    pub cost: CostPerEvent,
}

/// Measures every size of a crowd on one server.
pub async fn measure_all(server: &Server, arguments: &Arguments) -> anyhow::Result<Vec<Crowd>> {
    let mut crowds = Vec::new();
    for sessions in &arguments.sessions {
        let crowd = measure(server, arguments, *sessions).await;
        crowds.push(crowd.with_context(|| format!("with {sessions} sessions"))?);
    }
    Ok(crowds)
}

/// Opens the sessions, measures, closes them and waits until their successors are there.
async fn measure(server: &Server, arguments: &Arguments, count: u32) -> anyhow::Result<Crowd> {
    let (address, _) = server.program.addresses().context("the server listens nowhere")?;
    let mut talks = Vec::new();
    for _ in 0..count {
        let (session, _) = server.client.open().await?;
        // An open session has one event: that it is ready.
        let reader = Reader::open(address, TOKEN, &session.id, 0).await?;
        talks.push(Talk { session, reader });
    }
    let each = arguments.events / u64::from(count);
    let size = arguments.size;
    let mut rounds = Vec::new();
    for round in 1..=arguments.rounds {
        let (took, reads, cost) = talk(server, &mut talks, &format!("[emit {each} size={size}]"), None).await?;
        let events: u64 = reads.iter().map(|read| read.events).sum();
        #[expect(clippy::cast_precision_loss, reason = "millions")]
        let events_per_s = (events as f64 / took.as_secs_f64()).round();
        eprintln!("{count} sessions, round {round}: {events_per_s} events/s");
        rounds.push(Throughput { events_per_s, cost });
    }
    let rate = (arguments.rate / u64::from(count)).max(1);
    let prompt = format!("[rate {rate} seconds={} size={size}]", arguments.seconds);
    // Spread over time: they would all speak in the same moment otherwise, and wait for each other.
    let spread = Duration::from_secs(1).div_f64(arguments.rate as f64);
    let (_, reads, latency_cost) = talk(server, &mut talks, &prompt, Some(spread)).await?;
    let latencies = reads.into_iter().flat_map(|read| read.latencies).collect();
    let latency = Figures::of(latencies).context("no latency was measured")?;
    eprintln!("{count} sessions: p50 {} ms, p99 {} ms", latency.p50, latency.p99);

    try_join_all(talks.iter().map(|talk| server.client.close(&talk.session.id))).await?;
    drop(talks);
    server.wait_full().await?;
    Ok(Crowd { sessions: count, rounds, latency, latency_cost })
}

/// A session and its reader.
struct Talk {
    session: Session,
    reader: Reader,
}

/// The same prompt to all, and every reader to the end of its turn: how long it took from the first prompt on. With a `spread` prompts are so
/// far apart, and latencies are taken.
async fn talk(
    server: &Server,
    talks: &mut [Talk],
    prompt: &str,
    spread: Option<Duration>,
) -> anyhow::Result<(Duration, Vec<Read>, CostPerEvent)> {
    sleep(PAUSE).await;
    let pid = server.program.pid().context("the server has ended")?;
    let (before, begun) = (Costs::now(pid), Instant::now());
    let turns = (0..).zip(talks.iter_mut()).map(async |(number, Talk { session, reader })| {
        let path = format!("/v1/sessions/{}/turns", session.id);
        let prompted = async {
            if let Some(spread) = spread {
                sleep_until(begun + spread * number).await;
            }
            let answer = server.client.send(Method::POST, &path, Some(json!({"prompt": prompt})), "application/json");
            read(answer.await?, StatusCode::ACCEPTED).await
        };
        let (prompted, read) = tokio::join!(prompted, reader.turn(spread.is_some()));
        prompted.and(read)
    });
    let reads = try_join_all(turns).await?;
    let ended = reads.iter().map(|read| read.ended_at).max().context("no sessions")?;
    let events = reads.iter().map(|read| read.events).sum();
    Ok((ended - begun, reads, Costs::now(pid).per_event(before, events)))
}
