//! Permits are conserved whenever a caller is dropped, whatever was happening then.
//!
//! Every way a start can go (ok, error, slow, never at create, start, link, handshake, hand-over, as far as one can get) times every moment at
//! which its caller can hang up. After each: the caller has ended, as many sandboxes can be leased at once as before, and nothing is left.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use greenroom::pool::LeaseError;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    engine::script::{Call, Way},
    house::{House, Plan},
    users::{speak, user},
    wait::{until, within},
};

/// The points of a start, in order.
const POINTS: [Call; 5] = [Call::Create, Call::Start, Call::Link, Call::Session, Call::Ping];
/// Houses that are open at the same time.
const PARALLEL: usize = 24;

/// A start, as it will go, up to the point where it fails or to its end.
type Journey = Vec<(Call, Way)>;

/// When the caller hangs up.
#[derive(Debug, Clone, Copy)]
enum HangUp {
    /// Not at all.
    Never,
    /// Once it has asked.
    AtOnce,
    /// As soon as the start has come to this point.
    At(Call),
    /// When there is a sandbox for it, before it has been told.
    BeforeItKnows,
}

const HANG_UPS: [HangUp; 9] = [
    HangUp::Never,
    HangUp::AtOnce,
    HangUp::At(Call::Create),
    HangUp::At(Call::Start),
    HangUp::At(Call::Link),
    HangUp::At(Call::Initialize),
    HangUp::At(Call::Session),
    HangUp::At(Call::Ping),
    HangUp::BeforeItKnows,
];

/// All journeys: an error or a silence is the end of one, the other ways lead on.
fn journeys(points: &[Call]) -> Vec<Journey> {
    let Some((point, rest)) = points.split_first() else { return vec![Journey::new()] };
    let further = journeys(rest);
    let mut all: Vec<Journey> = [Way::Error, Way::Never].map(|way| vec![(*point, way)]).to_vec();
    for way in [Way::Ok, Way::Slow] {
        all.extend(further.iter().map(|journey| [&[(*point, way)], journey.as_slice()].concat()));
    }
    all
}

/// Polls once and takes the outcome, if there is one already.
fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => None,
    }
}

async fn travel(journey: Journey, hang_up: HangUp) {
    // No stock: the caller's own request is what makes the start.
    let house = House::new(Plan { cap: 2, warm: 0, ..Plan::default() });
    for (call, way) in journey {
        house.engine.next(call, [way]);
    }
    let caller_id = user(1);
    let outcome = {
        let mut caller = pin!(house.lease(&caller_id));
        match hang_up {
            HangUp::Never => Some(within("an answer", caller).await),
            HangUp::AtOnce => poll_once(caller),
            HangUp::At(call) => {
                within("the start comes this far", async {
                    tokio::select! {
                        biased;
                        () = house.engine.reached(call, 1) => None,
                        outcome = &mut caller => Some(outcome),
                    }
                })
                .await
            }
            HangUp::BeforeItKnows => {
                let early = poll_once(caller.as_mut());
                until("there is a sandbox", || house.counts().ready + house.counts().leased > 0).await;
                early
            }
        }
    };
    match outcome {
        Some(Ok(mut leased)) => speak(&mut leased, caller_id.as_str()).await.expect("the agent answers"),
        // One failed start is none of the caller's business. A second one can only be for want of a processor.
        Some(Err(LeaseError::Failing(_))) if house.pool(0).is_some_and(|pool| pool.figures().failures.len() > 1) => {}
        Some(Err(error)) => panic!("{error}"),
        None => {}
    }
    until("nobody waits", || house.waiting() == 0).await;
    house.all_permits_are_there().await;
    house.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permits_are_conserved_wherever_a_start_fails_and_whenever_its_caller_hangs_up() {
    let journeys = journeys(&POINTS);
    assert_eq!(journeys.len(), 94);
    let turns = Arc::new(Semaphore::new(PARALLEL));
    let mut travels = JoinSet::new();
    for journey in journeys {
        for hang_up in HANG_UPS {
            let turn = Arc::clone(&turns).acquire_owned().await.expect("never closed");
            let journey = journey.clone();
            travels.spawn(async move {
                let named = format!("{journey:?}, hanging up {hang_up:?}");
                let travelled = tokio::spawn(travel(journey, hang_up)).await;
                drop(turn);
                travelled.map_err(|panic| format!("{named}: {panic}"))
            });
        }
    }
    let mut bad = Vec::new();
    while let Some(travelled) = travels.join_next().await {
        bad.extend(travelled.expect("it only spawns").err());
    }
    assert!(bad.is_empty(), "{} of the journeys went wrong:\n{}", bad.len(), bad.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_at_any_point_of_a_start_leaves_nothing() {
    for point in [Call::Create, Call::Start, Call::Link, Call::Initialize, Call::Authenticate, Call::Session] {
        for way in [Way::Ok, Way::Error, Way::Slow, Way::Never, Way::Twice] {
            let house = House::new(Plan { cap: 2, warm: 1, ..Plan::default() });
            house.engine.next(point, [way]);
            within("the start comes this far", house.engine.reached(point, 1)).await;
            house.finish().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_as_starts_begin_leaves_nothing() {
    for _ in 0..100 {
        let house = House::new(Plan { cap: 8, warm: 8, start_limit: 4, ..Plan::default() });
        let mut changes = house.census.subscribe();
        within("a start begins", async {
            while house.counts().total() == 0 {
                changes.changed().await.expect("the census lives");
            }
        })
        .await;
        house.finish().await;
    }
}
