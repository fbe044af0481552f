//! The pool under attack: callers who hang up, containers that are killed, an engine that dies, agents that never work.
//!
//! `make chaos` runs these alone, those included that take too long for every run (`#[ignore]`), and prints what they counted.
//! Chance is seeded: `CHAOS_SEED` chooses another run.

mod broken;
mod canaries;
mod containers;
mod crowd;
mod daemon;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::Instant};

use crate::{
    client::{Client, id},
    house::House,
    settings::CONTAINER,
    stream::{Events, text},
};

/// Between two visits of one user.
const PAUSE: Duration = Duration::from_millis(700);

/// Users who come, ask one thing and go, again and again.
#[derive(Debug)]
struct Load {
    stop: Arc<AtomicBool>,
    visitors: Vec<JoinHandle<Vec<Visit>>>,
}

/// One visit, from the open to the end of the session.
#[derive(Debug)]
struct Visit {
    /// When the open was sent.
    asked: Instant,
    /// When its last answer was there.
    over: Instant,
    outcome: Outcome,
}

/// What became of a visit.
#[derive(Debug)]
enum Outcome {
    /// The agent answered: the id of its container.
    Served(String),
    /// There was no sandbox, and this code said why.
    Refused(String),
    /// There was one, and it ended in the middle: the session's end.
    Lost(Value),
}

impl Load {
    /// So many users begin. The template is `shell`.
    fn begin(house: &House, users: usize) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let visitor = |number| tokio::spawn(visits(house.user(number), Arc::clone(&stop)));
        let visitors = (0..users).map(visitor).collect();
        Self { stop, visitors }
    }

    /// All visits, once everybody has left.
    async fn end(self) -> Vec<Visit> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for visitor in self.visitors {
            all.extend(visitor.await.expect("every visit is understood"));
        }
        all
    }
}

impl Visit {
    fn is_lost(&self) -> bool {
        matches!(self.outcome, Outcome::Lost(_))
    }

    fn container(&self) -> Option<&str> {
        if let Outcome::Served(container) = &self.outcome { Some(container) } else { None }
    }
}

/// How many visits there were of each kind, for the summary.
fn summary(visits: &[Visit]) -> String {
    let served = visits.iter().filter(|visit| visit.container().is_some()).count();
    let lost = visits.iter().filter(|visit| visit.is_lost()).count();
    let refused = visits.len() - served - lost;
    format!("{} visits: {served} served, {lost} lost, {refused} refused", visits.len())
}

async fn visits(client: Client, stop: Arc<AtomicBool>) -> Vec<Visit> {
    let mut visits = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let outcome = visit(&client).await;
        visits.push(Visit { asked, over: Instant::now(), outcome });
        tokio::time::sleep(PAUSE).await;
    }
    visits
}

async fn visit(client: &Client) -> Outcome {
    let opened = client.post("/v1/sessions", &json!({"template": "shell", "queue_timeout_s": 20})).await;
    if opened.status != StatusCode::CREATED {
        let code = opened.json()["code"].as_str().expect("a refusal has a code").to_owned();
        opened.problem(503, &code);
        return Outcome::Refused(code);
    }
    let session = opened.json();
    let answer = client.send_prompt(&session, CONTAINER).await;
    if answer.status() == StatusCode::OK {
        let events = Events::of(answer).rest().await;
        if events.last().is_some_and(|event| event.kind == "turn.ended") {
            client.delete(&format!("/v1/sessions/{}", id(&session))).await;
            return Outcome::Served(text(&events).trim().to_owned());
        }
    }
    // It ends by itself, and the stream says how.
    let events = client.events(&session, 0).await.rest().await;
    Outcome::Lost(events.last().expect("a session has events").content.clone())
}
