//! Health of what waits: a sandbox that died or stops answering leaves the stock before anybody gets it.
//!
//! Three looks, from cheap to dear: what was heard of each agent, every second; a ping to each supervisor, every five seconds; a question to each
//! agent itself, every half minute. A silent one is asked a second time: after a machine was suspended or a clock jumped, all answers are late once.
//! What an operator or the kernel does to a container, the engine's events tell sooner ([`super::watch`]).

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{Pool, Pools};
use crate::{
    sandbox::lifecycle::{NotWell, Sandbox},
    telemetry::labels::Discard,
};

const CHECK_EVERY: Duration = Duration::from_secs(1);
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_WITHIN: Duration = Duration::from_secs(3);
const PROBE_EVERY: Duration = Duration::from_secs(30);
const PROBE_WITHIN: Duration = Duration::from_secs(5);

/// Runs until it is dropped.
pub(super) async fn run(pools: Arc<Pools>) {
    let checks = async {
        let mut tick = every(CHECK_EVERY);
        loop {
            tick.tick().await;
            for pool in pools.all() {
                pool.stock.check();
            }
        }
    };
    let pings = asking(&pools, PING_EVERY, "its supervisor does not answer", |sandbox| sandbox.answers(PING_WITHIN));
    let probes = asking(&pools, PROBE_EVERY, "its agent does not answer", |sandbox| sandbox.probe(PROBE_WITHIN));
    tokio::join!(checks, pings, probes);
}

async fn asking<Answer>(pools: &Pools, period: Duration, why: &str, question: impl Fn(&Sandbox) -> Answer)
where
    Answer: Future<Output = Result<(), NotWell>>,
{
    let mut tick = every(period);
    loop {
        tick.tick().await;
        join_all(pools.all().iter().map(|pool| ask(pool, why, &question))).await;
    }
}

/// Asks all that wait at the same time, those that failed once more, and takes out those that failed twice.
async fn ask<Answer>(pool: &Pool, why: &str, question: impl Fn(&Sandbox) -> Answer)
where
    Answer: Future<Output = Result<(), NotWell>>,
{
    let mut suspects = None;
    for _ in 0..2 {
        let mut asked = pool.stock.ask(&question);
        if let Some(suspects) = suspects {
            let suspects: Vec<_> = suspects;
            asked.retain(|(slot, _)| suspects.contains(slot));
        }
        let answers = asked.into_iter().map(|(slot, answer)| async { answer.await.is_err().then_some(slot) });
        suspects = Some(join_all(answers).await.into_iter().flatten().collect());
    }
    for slot in suspects.into_iter().flatten() {
        pool.stock.discard(&slot, Discard::Silent, why);
    }
}

fn every(period: Duration) -> Interval {
    let mut tick = interval(period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick
}
