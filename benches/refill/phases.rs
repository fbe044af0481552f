//! The two things that are compared: filling an empty stock, and refilling one that is emptied all the time.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{
    client::{Client, read},
    server::Server,
};

/// How often it is looked whether another sandbox is ready.
const POLL: Duration = Duration::from_millis(5);
/// A round that takes longer is no measurement.
const ROUND: Duration = Duration::from_secs(180);
/// Sandboxes that aren't counted: until then the first starts are under way, and callers have come.
const SKIPPED: usize = 4;
/// Callers who lease all the time, and the stock they empty.
const CALLERS: u32 = 6;
const STOCK: u32 = 4;

/// How many sandboxes became ready, in which time.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    sandboxes: u32,
    took: Duration,
}

impl Rate {
    /// Sandboxes a minute.
    pub fn per_minute(&self) -> f64 {
        f64::from(self.sandboxes) / self.took.as_secs_f64() * 60.0
    }

    /// All rounds as one.
    pub fn of_all(rates: &[Self]) -> Self {
        Self {
            sandboxes: rates.iter().map(|rate| rate.sandboxes).sum(),
            took: rates.iter().map(|rate| rate.took).sum(),
        }
    }
}

/// An empty stock fills, and the machine does nothing else.
pub async fn ceiling(server: &Server, count: u32) -> anyhow::Result<Rate> {
    empty(server).await?;
    let begun = server.program.ready_times().len();
    // As many more that the last counted ones aren't started alone.
    resize(server, count + 8).await?;
    let rate = ready(server, begun, count).await;
    empty(server).await?;
    rate
}

/// Every sandbox is leased as soon as it is ready, and given back at once.
pub async fn refill(server: &Server, count: u32) -> anyhow::Result<Rate> {
    resize(server, STOCK).await?;
    server.wait_full().await?;
    let begun = server.program.ready_times().len();
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        callers.spawn(call(server.client.clone()));
    }
    let rate = tokio::select! {
        rate = ready(server, begun, count) => rate,
        Some(failed) = callers.join_next() => match failed? {
            Ok(never) => match never {},
            Err(error) => Err(error),
        },
    };
    callers.shutdown().await;
    close_all(server).await?;
    rate
}

/// Leases and gives back, until it fails or is told to stop.
async fn call(client: Client) -> anyhow::Result<Infallible> {
    loop {
        let (session, _) = client.open().await?;
        client.close(&session.id).await?;
    }
}

/// Waits until so many have become ready after the first few, and says how long these took.
async fn ready(server: &Server, begun: usize, count: u32) -> anyhow::Result<Rate> {
    let deadline = Instant::now() + ROUND;
    let first = reach(server, begun + SKIPPED, deadline).await?;
    let last = reach(server, begun + SKIPPED + usize::try_from(count)?, deadline).await?;
    Ok(Rate { sandboxes: count, took: last - first })
}

async fn reach(server: &Server, number: usize, deadline: Instant) -> anyhow::Result<Instant> {
    while server.program.ready_times().len() < number {
        if Instant::now() > deadline {
            bail!(server.program.failure("starts too slowly"));
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(Instant::now())
}

/// No stock, and no container.
async fn empty(server: &Server) -> anyhow::Result<()> {
    resize(server, 0).await?;
    server.wait_full().await
}

async fn resize(server: &Server, stock: u32) -> anyhow::Result<()> {
    let wish = json!({"min_warm": stock, "max_warm": stock});
    let answer = server.operator.send(Method::PATCH, "/pools/gemini", Some(wish), "application/json").await?;
    read(answer, StatusCode::OK).await.context("the pool can't be resized")?;
    Ok(())
}

/// Closes what callers had just opened when they were told to stop: it would end by being idle, much later.
async fn close_all(server: &Server) -> anyhow::Result<()> {
    let deadline = Instant::now() + ROUND;
    loop {
        let answer = server.client.send(Method::GET, "/v1/sessions", None, "application/json").await?;
        let list: Value = serde_json::from_slice(&read(answer, StatusCode::OK).await?)?;
        let sessions = list["items"].as_array().context("sessions come as a list")?;
        for session in sessions.iter().filter(|session| session["state"] != "ended") {
            let path = format!("/v1/sessions/{}", session["id"].as_str().context("a session has an id")?);
            // A caller may have closed it when it was told to stop.
            server.client.send(Method::DELETE, &path, None, "application/json").await?;
        }
        if server.client.pools().await?.iter().all(|pool| pool.leased == 0) {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!(server.program.failure("keeps sessions that were closed"));
        }
        tokio::time::sleep(POLL).await;
    }
}
