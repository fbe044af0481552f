//! Neighbours of a user who floods: how late their answers are, alone and beside the flood, in turns.
//!
//! Both halves of a round are measured right after one another, so whatever else the machine does disturbs both alike: only the ratio says something. The
//! flood has a thread of its own, so that its sending doesn't stand in the way of the measuring.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use serde::Serialize;
use tokio::time::{Instant, interval};

use super::{
    arguments::Arguments,
    figures::{Figures, milliseconds},
    server::{FLOOD, NEIGHBOUR},
    wire::{Wire, request},
};

/// Neighbours, each with a connection.
const NEIGHBOURS: usize = 4;
/// How often each of them asks.
const PAUSE: Duration = Duration::from_millis(10);
/// Connections of the flood.
const CONNECTIONS: u64 = 8;

/// What neighbours saw.
#[derive(Debug, Clone, Serialize)]
pub struct Neighbours {
    /// Milliseconds from request to answer, alone.
    pub quiet_ms: Figures,
    /// The same beside the flood.
    pub flood_ms: Figures,
    /// The 99th percentile beside the flood over that alone, for each round in its order.
    pub rounds: Vec<f64>,
    /// The median of the rounds.
    pub p99_ratio: f64,
    /// Requests of the flood, a second.
    pub flood_per_s: f64,
    /// How many of them were refused.
    pub refused: f64,
}

/// What became of a flood.
#[derive(Debug, Default, Clone, Copy)]
struct Flood {
    sent: u64,
    refused: u64,
}

/// Measures all rounds.
pub async fn measure(address: SocketAddr, arguments: &Arguments) -> anyhow::Result<Neighbours> {
    let half = Duration::from_millis(arguments.milliseconds);
    // The burst is spent first: then the flood meets the pace.
    pour(address, 1_000, Duration::ZERO).await.context("the burst could not be spent")?;
    look(address, half).await?;
    let (mut quiet, mut beside, mut rounds, mut all, mut poured) =
        (vec![], vec![], vec![], Flood::default(), Duration::ZERO);
    for round in 1..=arguments.rounds {
        let alone = look(address, half).await?;
        let rate = arguments.flood;
        let begun = Instant::now();
        let flood = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let count = rate * u64::try_from(half.as_millis()).unwrap_or(u64::MAX) / 1_000 / CONNECTIONS;
            let pause = Duration::from_nanos(1_000_000_000 * CONNECTIONS / rate);
            runtime.block_on(async move {
                let streams = (0..CONNECTIONS).map(|number| async move {
                    // Not all at the same moment.
                    tokio::time::sleep(pause * u32::try_from(number)? / u32::try_from(CONNECTIONS)?).await;
                    pour(address, count, pause).await
                });
                let mut flood = Flood::default();
                for poured in futures_util::future::join_all(streams).await {
                    let Flood { sent, refused } = poured?;
                    flood.sent += sent;
                    flood.refused += refused;
                }
                anyhow::Ok(flood)
            })
        });
        let crowded = look(address, half).await?;
        let Flood { sent, refused } =
            tokio::task::spawn_blocking(move || flood.join()).await?.expect("the flood doesn't panic")?;
        poured += begun.elapsed();
        all.sent += sent;
        all.refused += refused;
        let (one, other) =
            (Figures::of(alone.clone()).context("nothing")?, Figures::of(crowded.clone()).context("nothing")?);
        eprintln!("round {round}: p99 {:.3} ms alone, {:.3} ms beside a flood", one.p99, other.p99);
        rounds.push((other.p99 / one.p99 * 1_000.0).round() / 1_000.0);
        quiet.extend(alone);
        beside.extend(crowded);
    }
    let ratio = Figures::of(rounds.clone()).context("no rounds")?;
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    Ok(Neighbours {
        quiet_ms: Figures::of(quiet).context("nothing")?,
        flood_ms: Figures::of(beside).context("nothing")?,
        rounds,
        p99_ratio: ratio.p50,
        flood_per_s: (all.sent as f64 / poured.as_secs_f64()).round(),
        refused: all.refused as f64 / all.sent.max(1) as f64,
    })
}

/// What the neighbours see for so long, in milliseconds.
async fn look(address: SocketAddr, half: Duration) -> anyhow::Result<Vec<f64>> {
    let request = request(NEIGHBOUR);
    let neighbour = |number: usize| {
        let request = &request;
        async move {
            let mut wire = Wire::connect(address).await?;
            // Not all at the same moment.
            tokio::time::sleep(PAUSE * u32::try_from(number)? / u32::try_from(NEIGHBOURS)?).await;
            let (mut ticks, begun, mut seen) = (interval(PAUSE), Instant::now(), Vec::new());
            while begun.elapsed() < half {
                ticks.tick().await;
                let asked = Instant::now();
                anyhow::ensure!(wire.ask(request).await? == 200, "a neighbour was refused");
                seen.push(milliseconds(asked.elapsed()));
            }
            anyhow::Ok(seen)
        }
    };
    let all = futures_util::future::join_all((0..NEIGHBOURS).map(neighbour)).await;
    Ok(all.into_iter().collect::<Result<Vec<_>, _>>()?.concat())
}

/// Sends a fixed number of requests, one in each of these times, or as fast as they are answered.
async fn pour(address: SocketAddr, count: u64, pause: Duration) -> anyhow::Result<Flood> {
    let (mut wire, request, mut flood) = (Wire::connect(address).await?, request(FLOOD), Flood::default());
    let mut ticks = interval(pause.max(Duration::from_nanos(1)));
    for _ in 0..count {
        if !pause.is_zero() {
            ticks.tick().await;
        }
        match wire.ask(&request).await? {
            200 => {}
            429 => flood.refused += 1,
            other => anyhow::bail!("the flood was answered {other}"),
        }
        flood.sent += 1;
    }
    Ok(flood)
}
