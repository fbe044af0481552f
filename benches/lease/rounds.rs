//! The measurements themselves: warm and cold rounds in turns.

use std::{io::Write as _, time::Instant};

use anyhow::{Context as _, ensure};

use super::{client::Lease, figures::milliseconds, machine, server::Server};

/// Rounds of one kind before the other's turn.
const TURN: u32 = 10;
const PROMPT: &str = "Hello";

/// Everything that was measured, in milliseconds.
#[derive(Debug, Default)]
pub struct Measured {
    pub warm: Series,
    pub cold: Series,
}

/// The rounds of one kind.
#[derive(Debug, Default)]
pub struct Series {
    /// `GET /healthz` right before the round.
    pub round_trip: Vec<f64>,
    /// Request to answer read.
    pub open: Vec<f64>,
    /// Beginning of the open to the first `message.delta`.
    pub first_token: Vec<f64>,
    /// The same, from the prompt.
    pub prompt_to_token: Vec<f64>,
    /// What the server says about each open.
    pub leases: Vec<Lease>,
    /// Rounds for which the machine did not become quiet.
    pub disturbed: usize,
}

/// Measures `count` rounds of each kind.
pub async fn rounds(warm: &Server, cold: &Server, count: u32) -> anyhow::Result<Measured> {
    let mut measured = Measured::default();
    let mut done = 0;
    while done < count {
        let turn = TURN.min(count - done);
        for (name, server, series) in [("warm", warm, &mut measured.warm), ("cold", cold, &mut measured.cold)] {
            for round in done + 1..=done + turn {
                measure(server, name, series).await.with_context(|| format!("{name} round {round}"))?;
                progress(name, round, count, series);
            }
            eprintln!();
        }
        done += turn;
    }
    Ok(measured)
}

async fn measure(server: &Server, start: &str, series: &mut Series) -> anyhow::Result<()> {
    server.wait_full().await?;
    series.disturbed += usize::from(!machine::quiet().await);
    series.round_trip.push(milliseconds(server.client.round_trip().await?));

    let begun = Instant::now();
    let (session, open) = server.client.open().await?;
    let prompted = Instant::now();
    let mut events = server.client.prompt(&session.id, PROMPT).await?;
    events.until("message.delta").await?;
    let (first_token, prompt_to_token) = (begun.elapsed(), prompted.elapsed());

    events.until("turn.ended").await?;
    events.finish().await?;
    server.client.close(&session.id).await?;
    ensure!(
        session.lease.start == start,
        "the open was {} ({})",
        session.lease.start,
        session.lease.reason.as_deref().unwrap_or("no reason given")
    );
    series.open.push(milliseconds(open));
    series.first_token.push(milliseconds(first_token));
    series.prompt_to_token.push(milliseconds(prompt_to_token));
    series.leases.push(session.lease);
    Ok(())
}

fn progress(name: &str, round: u32, count: u32, series: &Series) {
    let last = |values: &[f64]| values.last().copied().unwrap_or_default();
    eprint!(
        "\r{name} {round}/{count}: open {:.2} ms, first token {:.1} ms      ",
        last(&series.open),
        last(&series.first_token)
    );
    let _nobody_may_be_watching = std::io::stderr().flush();
}
