//! Tokens that are nobody's, one after the other: whether anything of them is kept.

use anyhow::Context as _;
use serde::Serialize;
use tokio::time::Instant;

use super::{
    server::Server,
    wire::{Wire, request},
};

/// Connections they come over.
const CONNECTIONS: u64 = 8;
/// Requests that are on their way on each at the same time.
const PIPELINED: u64 = 64;
/// Tokens that are tried before anything is measured: the server's own buffers are there then.
const WARM_UP: u64 = 10_000;

/// What a crowd of strangers left.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Strangers {
    /// Distinct tokens that were tried.
    pub tokens: u64,
    /// How many a second.
    pub per_s: f64,
    /// The server's resident set before and after, in MiB.
    pub before_mib: f64,
    pub after_mib: f64,
    pub growth_mib: f64,
}

/// Tries all tokens.
pub async fn measure(server: &Server, tokens: u64) -> anyhow::Result<Strangers> {
    attempt(server, 0, WARM_UP).await?;
    let (before, begun) = (server.resident()?, Instant::now());
    attempt(server, WARM_UP, tokens).await?;
    let (took, after) = (begun.elapsed(), server.resident()?);
    #[expect(clippy::cast_precision_loss, reason = "mebibytes")]
    let mib = |bytes: u64| (bytes as f64 / 1024.0 / 1024.0 * 100.0).round() / 100.0;
    #[expect(clippy::cast_precision_loss, reason = "millions")]
    Ok(Strangers {
        tokens,
        per_s: (tokens as f64 / took.as_secs_f64()).round(),
        before_mib: mib(before),
        after_mib: mib(after),
        growth_mib: mib(after.saturating_sub(before)),
    })
}

async fn attempt(server: &Server, first: u64, count: u64) -> anyhow::Result<()> {
    let share = count.div_ceil(CONNECTIONS);
    let one = |number: u64| async move {
        let mut wire = Wire::connect(server.address).await?;
        let (mut next, end) = (first + number * share, (first + (number + 1) * share).min(first + count));
        while next < end {
            let batch = next..(next + PIPELINED).min(end);
            let requests: String =
                batch.clone().map(|token| request(&format!("a-token-that-is-nobodys-{token:020}"))).collect();
            wire.send(&requests).await?;
            for _ in batch.clone() {
                let status = wire.answer().await?;
                anyhow::ensure!(status == 401, "a stranger was answered {status}");
            }
            next = batch.end;
        }
        anyhow::Ok(())
    };
    let all = futures_util::future::join_all((0..CONNECTIONS).map(one)).await;
    all.into_iter().collect::<Result<(), _>>().context("not all tokens were tried")
}
