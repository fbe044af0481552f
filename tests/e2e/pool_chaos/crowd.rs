//! Two hundred opens at once against eight sandboxes, by people who hang up whenever they like.

use std::{collections::HashSet, sync::Arc, time::Duration};

use hyper::StatusCode;
use serde_json::json;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout},
};

use crate::{
    chance::{Chance, seed},
    client::{Client, id},
    house::House,
    observer::Observer,
    pools::{at_rest, no_orphans, tell},
    settings::{CONTAINER, Settings},
};

const USERS: usize = 20;
const OPENS: usize = 200;
const CAP: usize = 8;

/// What an answer may take beyond the time its caller was willing to wait.
const GRACE: Duration = Duration::from_secs(2);

/// Which sandboxes anybody has met, and which are somebody's now.
#[derive(Debug, Default)]
struct Met {
    ever: HashSet<String>,
    now: HashSet<String>,
    overlaps: usize,
    reuses: usize,
}

/// How a visit went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Went {
    Served,
    Refused,
    HungUp,
    WalkedAway,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_hundred_opens_with_hang_ups_no_two_meet_in_one_sandbox() {
    let settings = Settings::new().users(USERS).unlimited().shell().stock("shell", 4, 4);
    let settings = settings.set("pool", "cap", &CAP.to_string()).set("runtime", "start_limit", "4");
    let house = House::start(settings).await;
    at_rest(&house, "shell").await;
    let observer = Observer::watch(&house);
    let met = Arc::<Mutex<Met>>::default();

    let visits = (0..OPENS).map(|number| {
        let (client, met) = (house.user(number % USERS), Arc::clone(&met));
        tokio::spawn(async move { visit(&client, &met, Chance::of(number)).await })
    });
    let mut went = Vec::new();
    for visit in visits.collect::<Vec<_>>() {
        went.push(visit.await.expect("every visit goes as it may"));
    }
    // Sessions that nobody knows of, since their callers hung up, end by being idle.
    at_rest(&house, "shell").await;
    no_orphans(&house).await;
    let seen = observer.finish().await;
    let met = met.lock().await;
    let count = |kind| went.iter().filter(|one| **one == kind).count();
    tell(&format!(
        "crowd, seed {}: {} served, {} refused in time, {} hung up, {} walked away; {} sandboxes met, overlaps {}, reuses {}, \
         at most {} containers",
        seed(),
        count(Went::Served),
        count(Went::Refused),
        count(Went::HungUp),
        count(Went::WalkedAway),
        met.ever.len(),
        met.overlaps,
        met.reuses,
        seen.most
    ));
    assert_eq!((met.overlaps, met.reuses), (0, 0));
    assert!(seen.most <= CAP, "{seen:?}");
    assert!(count(Went::Served) >= OPENS / 5, "hardly anybody was served: {went:?}");
    for number in 0..USERS {
        let open = house.user(number).get_json("/v1/sessions?state=ready").await;
        assert_eq!(open["items"], json!([]), "user {number}");
    }
    house.stop().await;
}

async fn visit(client: &Client, met: &Mutex<Met>, mut chance: Chance) -> Went {
    let patience = Duration::from_secs(5 + chance.below(15));
    let asked = Instant::now();
    // An idle timeout that outlasts a busy machine's pause between two calls, and not the test's deadline.
    let wish = json!({"template": "shell", "queue_timeout_s": patience.as_secs(), "idle_timeout_s": 3});
    let open = client.post("/v1/sessions", &wish);
    let reply = if chance.below(10) < 4 {
        match timeout(Duration::from_millis(chance.below(8000)), open).await {
            Ok(reply) => reply,
            Err(_hung_up) => return Went::HungUp,
        }
    } else {
        open.await
    };
    assert!(asked.elapsed() < patience + GRACE, "answered after {:?} instead of {patience:?}", asked.elapsed());
    if reply.status != StatusCode::CREATED {
        reply.problem(503, "POOL_EXHAUSTED");
        assert!(asked.elapsed() >= patience, "refused after {:?} instead of {patience:?}", asked.elapsed());
        return Went::Refused;
    }
    let session = reply.json();
    let said = client.ask(&session, &format!("echo x >>/tmp/visits; echo $({CONTAINER}) $(wc -l </tmp/visits)")).await;
    let (sandbox, visits) = said.trim().split_once(' ').expect("two words");
    let mut everybody = met.lock().await;
    everybody.overlaps += usize::from(!everybody.now.insert(sandbox.to_owned()));
    everybody.reuses += usize::from(!everybody.ever.insert(sandbox.to_owned()) || visits != "1");
    drop(everybody);

    sleep(Duration::from_millis(chance.below(200))).await;
    match chance.below(10) {
        // In the middle of a turn.
        0 | 1 => {
            let patience = Duration::from_millis(chance.below(300));
            let _hung_up = timeout(patience, client.ask(&session, "sleep 0.2; echo late")).await;
        }
        2 => {
            met.lock().await.now.remove(sandbox);
            return Went::WalkedAway;
        }
        _ => {}
    }
    met.lock().await.now.remove(sandbox);
    client.delete(&format!("/v1/sessions/{}", id(&session))).await;
    Went::Served
}
