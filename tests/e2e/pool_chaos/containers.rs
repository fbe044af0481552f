//! Containers that somebody kills, removes or pauses while users come and go.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::{Load, Outcome, Visit, summary};
use crate::{
    client::Client,
    engine::Engine,
    house::House,
    pools::{at_rest, healed, in_state, no_orphans, tell},
    settings::{CONTAINER, Settings},
    stream::{Event, Events},
};

/// By when a stock must be whole again.
const HEALED: Duration = Duration::from_secs(30);

/// By when a session must have said that its container is gone.
const TOLD: Duration = Duration::from_secs(2);

/// How many times all of the stock is hit.
const ROUNDS: usize = 6;

/// What is done to a container.
#[derive(Debug, Clone, Copy)]
enum Blow {
    Kill,
    Remove,
    Pause,
}

impl Blow {
    const ALL: [Self; 3] = [Self::Kill, Self::Remove, Self::Pause];

    async fn strike(self, engine: &Engine, container: &str) {
        match self {
            Self::Kill => engine.kill(container).await,
            Self::Remove => engine.remove(container).await,
            Self::Pause => engine.pause_if_running(container).await,
        }
    }
}

/// A container that was hit.
#[derive(Debug)]
struct Hit {
    container: String,
    begun: Instant,
    done: Instant,
}

fn settings() -> Settings {
    let settings = Settings::new().users(4).unlimited().shell().stock("shell", 4, 4);
    settings.set("pool", "cap", "10").set("pool", "backoff", "\"200ms\"").set("runtime", "start_limit", "4")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stock_that_is_killed_removed_or_paused_is_leased_to_nobody_and_replaced() {
    let house = House::start(settings()).await;
    at_rest(&house, "shell").await;
    let load = Load::begin(&house, 2);
    let mut hits = Vec::new();
    for blow in Blow::ALL.into_iter().cycle().take(ROUNDS) {
        // Some visits between the blows, and then a whole stock to hit.
        tokio::time::sleep(Duration::from_secs(1)).await;
        healed(&house, "shell", &[], HEALED).await;
        let struck = strike_stock(&house, blow).await;
        assert!(!struck.is_empty(), "there was a stock to hit: {struck:?}");
        let begun = Instant::now();
        let lost = struck.iter().map(|hit| hit.container.clone()).collect::<Vec<_>>();
        healed(&house, "shell", &lost, HEALED).await;
        tell(&format!(
            "stock, {blow:?}: {} containers hit, healed after {:.1} s",
            struck.len(),
            begun.elapsed().as_secs_f64()
        ));
        hits.extend(struck);
    }
    let visits = load.end().await;
    tell(&format!("stock: {}", summary(&visits)));
    judge(&visits, &hits);
    at_rest(&house, "shell").await;
    no_orphans(&house).await;
    house.stop().await;
}

/// Hits all that is in stock, at once.
async fn strike_stock(house: &House, blow: Blow) -> Vec<Hit> {
    let (stock, containers) = tokio::join!(in_state(house, "ready"), house.engine().containers(&house.instance));
    let targets = containers.into_iter().filter(|container| stock.iter().any(|sandbox| sandbox.is_in(container)));
    let strike = |container: String| {
        let engine = house.engine().clone();
        tokio::spawn(async move {
            let begun = Instant::now();
            blow.strike(&engine, &container).await;
            Hit { container, begun, done: Instant::now() }
        })
    };
    let strikes = targets.map(|container| strike(container.id)).collect::<Vec<_>>();
    let mut hits = Vec::new();
    for strike in strikes {
        hits.push(strike.await.expect("the engine can be told"));
    }
    hits
}

/// Nobody was given a sandbox after it had been hit, and who was in one was told in time.
fn judge(visits: &[Visit], hits: &[Hit]) {
    for visit in visits {
        match &visit.outcome {
            Outcome::Served(container) => {
                let hit = hits.iter().find(|hit| hit.container == *container);
                assert!(hit.is_none_or(|hit| visit.asked < hit.done), "leased after the blow: {visit:?}");
            }
            // It was leased while blows fell, so the lease may have come first.
            Outcome::Lost(end) => {
                assert_eq!(end["reason"], json!("sandbox_lost"), "{visit:?}");
                let excuse = hits
                    .iter()
                    .any(|hit| visit.asked < hit.done && hit.begun < visit.over && visit.over < hit.done + TOLD);
                assert!(excuse, "a dead or paused sandbox was leased, or its end told late: {visit:?}");
            }
            Outcome::Refused(code) => panic!("refused with {code} though the engine works: {visit:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_whose_container_is_killed_removed_or_paused_ends_within_two_seconds() {
    let house = House::start(settings()).await;
    let alice = house.alice();
    let load = Load::begin(&house, 2);
    for blow in Blow::ALL {
        for in_a_turn in [false, true] {
            let (told, events) = strike_session(&house, &alice, blow, in_a_turn).await;
            tell(&format!("session, {blow:?}, in a turn {in_a_turn}: told after {told:?}"));
            let end = events.last().expect("there are events");
            assert_eq!((end.kind.as_str(), &end.content["reason"]), ("session.ended", &json!("sandbox_lost")));
            assert_eq!(in_a_turn, events.iter().any(|event| event.kind == "turn.failed"), "{events:?}");
            assert!(told < TOLD, "{blow:?}, in a turn {in_a_turn}: told after {told:?}");
        }
    }
    let visits = load.end().await;
    tell(&format!("sessions: {}", summary(&visits)));
    assert!(visits.iter().all(|visit| visit.container().is_some()), "others were disturbed: {visits:?}");
    at_rest(&house, "shell").await;
    no_orphans(&house).await;
    house.stop().await;
}

/// Hits the container of one session. How long after the blow its end was told, and all its events.
async fn strike_session(house: &House, alice: &Client, blow: Blow, in_a_turn: bool) -> (Duration, Vec<Event>) {
    let session = alice.open(json!({"template": "shell", "queue_timeout_s": 30})).await;
    let container = alice.ask(&session, CONTAINER).await.trim().to_owned();
    assert!(house.engine().running(&house.instance).await.contains(&container), "{container}");
    let mut events = alice.events(&session, 0).await;
    let mut turn = None;
    if in_a_turn {
        let mut begun = Events::of(alice.send_prompt(&session, "echo working; sleep 60").await);
        begun.up_to("message.delta").await;
        turn = Some(begun);
    }
    let engine = house.engine().clone();
    let begun = Instant::now();
    let striking = tokio::spawn(async move { blow.strike(&engine, &container).await });
    let seen = events.up_to("session.ended").await;
    let told = Instant::now();
    striking.await.expect("the engine can be told");
    drop(turn);
    (told - begun, seen)
}
