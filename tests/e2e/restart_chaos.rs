//! The server is killed again and again while its users open, prompt, answer and close; then every word of theirs is checked.
//!
//! `visitor` is a user that behaves well whatever happens and notes all that was acknowledged; `account` compares the notes with what the
//! server, the engine and the agents say in the end. `make chaos` runs the long round; `CHAOS_SEED` chooses another run.

mod account;
mod patience;
mod visitor;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::broadcast,
    time::{Instant, sleep, timeout},
};

use self::{
    account::settle,
    visitor::{Guest, Phase, visits},
};
use crate::{
    chance::{Chance, seed},
    house::{House, model},
    pools::tell,
    settings::Settings,
    wait::{until, within},
};

/// Users of the small agent.
const SMALL: usize = 4;

/// How long to look for the moment that was chosen.
const PATIENCE: Duration = Duration::from_secs(4);

/// Deadline for users to get something done between two kills.
const PROGRESS: Duration = Duration::from_secs(60);

/// Deadline for the visitors to finish once nobody kills any more.
const LEAVE: Duration = Duration::from_secs(120);

/// Phases that wait to be looked at; the killer is told of those it missed.
const PHASES: usize = 256;

/// What the killer did.
#[derive(Debug, Default)]
struct Blows {
    /// How many fell in which phase.
    phases: BTreeMap<Phase, usize>,
    /// Those that fell on a server that was still starting.
    starting: usize,
    /// How long the starts took.
    starts: Vec<Duration>,
}

impl Blows {
    fn kills(&self) -> usize {
        self.phases.values().sum::<usize>() + self.starting
    }
}

/// How many turns are over, of the small agents and of the real ones.
#[derive(Debug, Default)]
struct Turns {
    small: Arc<AtomicUsize>,
    large: Arc<AtomicUsize>,
}

/// Kills the server at chosen moments.
async fn kill(house: &mut House, phases: &mut broadcast::Receiver<Phase>, turns: &Turns, rounds: usize) -> Blows {
    let (mut chance, mut blows) = (Chance::of(1_000), Blows::default());
    while blows.kills() < rounds {
        // Mostly something gets done in between: who is killed at once each time has nothing that could be lost. The real agents take
        // longer than most servers live here; they get their turn, too.
        let of_whom = if chance.below(5) == 0 { &turns.large } else { &turns.small };
        let done = of_whom.load(Ordering::Relaxed);
        if chance.below(4) > 0 {
            let ended = async || (of_whom.load(Ordering::Relaxed) > done).then_some(());
            until("turns end between two kills", PROGRESS, ended).await;
        }
        let wanted = Phase::ALL[usize::try_from(chance.below(Phase::ALL.len() as u64)).expect("small")];
        *phases = phases.resubscribe();
        let moment = async {
            loop {
                match phases.recv().await {
                    Ok(phase) if phase == wanted => return phase,
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => panic!("nobody is there"),
                }
            }
        };
        let met = timeout(PATIENCE, moment).await.unwrap_or(Phase::Any);
        sleep(Duration::from_millis(chance.below(60))).await;
        house.crash().await;
        *blows.phases.entry(met).or_default() += 1;
        if chance.below(4) == 0 {
            sleep(Duration::from_millis(chance.below(1_000))).await;
        }
        if chance.below(5) == 0 && blows.kills() < rounds {
            house.launch_unready();
            sleep(Duration::from_millis(chance.below(400))).await;
            house.crash().await;
            blows.starting += 1;
        }
        let begun = Instant::now();
        house.launch().await;
        blows.starts.push(begun.elapsed());
    }
    blows
}

/// So many kills under load; then the account.
async fn rounds(kills: usize, large: usize) {
    let settings = Settings::new().users(SMALL + large).unlimited().counting().gemini(model(None).await);
    let settings = settings.stock("counting", 3, 3).stock("gemini", 1, 1).set("pool", "cap", "16");
    let settings = [("memory_mib", "128"), ("tmp_mib", "16"), ("home_mib", "16")]
        .into_iter()
        .fold(settings, |settings, (limit, value)| settings.set("templates.counting.limits", limit, value));
    let mut settings = settings.set("sandbox", "orphan_grace", "\"60s\"").set("pool", "backoff", "\"200ms\"");
    let mut house = House::start(settings.clone()).await;
    // From now on the server need not have stock to be hit again.
    settings.await_stock = false;
    house.rewrite(settings);

    let (stop, (phases, mut seen)) = (Arc::<AtomicBool>::default(), broadcast::channel(PHASES));
    let turns = Turns::default();
    let guests = (0..SMALL + large).map(|number| {
        let (template, turns) = if number < SMALL { ("counting", &turns.small) } else { ("gemini", &turns.large) };
        let guest =
            Guest { client: house.user(number), number, template, phases: phases.clone(), turns: Arc::clone(turns) };
        tokio::spawn(visits(guest, Arc::clone(&stop)))
    });
    let guests = guests.collect::<Vec<_>>();
    let blows = kill(&mut house, &mut seen, &turns, kills).await;
    stop.store(true, Ordering::Relaxed);
    let mut all = Vec::new();
    for guest in guests {
        all.extend(within("the visitors leave", LEAVE, guest).await.expect("every answer is understood"));
    }

    let account = settle(&house, SMALL + large, all).await;
    let slowest = blows.starts.iter().max().copied().unwrap_or_default();
    tell(&format!(
        "restarts, seed {}: {} kills ({:?}, {} while starting), slowest start {:.1} s; {account}",
        seed(),
        blows.kills(),
        blows.phases,
        blows.starting,
        slowest.as_secs_f64()
    ));
    account.assert_clean();
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_kills_under_load_cost_nothing_that_was_acknowledged() {
    rounds(10, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make chaos"]
async fn fifty_kills_under_load_cost_nothing_that_was_acknowledged() {
    rounds(50, 2).await;
}
