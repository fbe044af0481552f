//! The engine itself is killed under load, and comes back.

use std::{path::PathBuf, time::Duration};

use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::Instant};

use super::{Load, Outcome, summary};
use crate::{
    client::id,
    daemon::Daemon,
    engine::Engine,
    house::House,
    pools::{at_rest, at_rest_within, healed, no_orphans, tell},
    processes::in_sandboxes_of,
    settings::{BUSYBOX, CONTAINER, Settings},
    wait::{until, within},
};

/// By when the stock must be whole after the engine is back.
const HEALED: Duration = Duration::from_secs(30);

/// By when a session must have said that its sandbox is gone.
const TOLD: Duration = Duration::from_secs(2);

/// How long there is no engine.
const OUTAGE: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_engine_was_killed_under_load_the_stock_heals_and_every_end_is_told() {
    let (mut daemon, engine) = Daemon::start().await;
    Engine::of_machine().await.copy_image(BUSYBOX, &engine).await;
    let settings = Settings::new().users(2).unlimited().shell().stock("shell", 3, 3).set("pool", "cap", "10");
    let settings = settings.set("pool", "backoff", "\"200ms\"").set("pool", "backoff_max", "\"1s\"");
    let house = House::start_on(Some(engine), settings.set("runtime", "call_timeout", "\"3s\"")).await;
    at_rest(&house, "shell").await;
    let alice = house.alice();
    let mut held = Vec::new();
    for _ in 0..2 {
        let session = alice.open(json!({"template": "shell"})).await;
        let container = alice.ask(&session, CONTAINER).await.trim().to_owned();
        held.push((session, container));
    }
    healed(&house, "shell", &[], HEALED).await;
    let (deaths, old) = (deaths(&house).await, house.engine().running(&house.instance).await);
    let ends = held.iter().map(|(session, _)| {
        let (alice, session) = (alice.clone(), session.clone());
        tokio::spawn(async move {
            let seen = alice.events(&session, 0).await.up_to("session.ended").await;
            (Instant::now(), seen.last().expect("events").content["reason"].clone())
        })
    });
    let ends = ends.collect::<Vec<_>>();
    let load = Load::begin(&house, 2);
    tokio::time::sleep(Duration::from_secs(1)).await;

    let killed = Instant::now();
    daemon.crash().await;
    tokio::time::sleep(OUTAGE).await;
    for (session, container) in &held {
        assert_eq!(
            alice.ask(session, CONTAINER).await.trim(),
            container,
            "the engine is not between a user and their agent"
        );
    }
    daemon.launch().await;
    let back = Instant::now();
    healed(&house, "shell", &old, HEALED).await;
    let healed = back.elapsed();

    let died = within("all old sandboxes have ended", HEALED, deaths).await;
    for ((session, container), end) in held.iter().zip(ends) {
        let (told, reason) = within("the session's end", HEALED, end).await.expect("the stream ends well");
        let (_, died) = died.iter().find(|(watched, _)| watched == container).expect("it was watched");
        let late = told.saturating_duration_since(*died);
        tell(&format!(
            "daemon: session {} ended ({reason}), told {late:?} after the death of its sandbox",
            id(session)
        ));
        assert!(is_true(&reason), "{reason}");
        assert!(late < TOLD, "told {late:?} after");
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let visits = load.end().await;
    tell(&format!("daemon: healed {:.1} s after the engine came back; {}", healed.as_secs_f64(), summary(&visits)));
    for visit in &visits {
        match &visit.outcome {
            Outcome::Served(_) => {}
            Outcome::Refused(code) => {
                assert!(
                    ["ENGINE_UNAVAILABLE", "POOL_EXHAUSTED", "CONTAINER_START_FAILED"].contains(&code.as_str()),
                    "{code}"
                );
                assert!(visit.over > killed && visit.asked < back + healed, "refused without need: {visit:?}");
            }
            Outcome::Lost(end) => {
                assert!(is_true(&end["reason"]), "{visit:?}");
                assert!(visit.over > killed && visit.asked < back + healed, "lost without need: {visit:?}");
            }
        }
    }
    at_rest(&house, "shell").await;
    no_orphans(&house).await;
    let state = house.state();
    assert!(!in_sandboxes_of(&state).is_empty(), "the stock is seen");
    house.stop().await;
    // Not even what the engine was making when it was killed, and has forgotten: such a sandbox ends itself.
    until("no process is left in any sandbox", HEALED, async || in_sandboxes_of(&state).is_empty().then_some(())).await;
    daemon.stop().await;
}

/// Whether a session may end so when an engine comes back: it asks the containers that it finds to end before it kills them, and a
/// supervisor that is asked ends its agent and says so.
fn is_true(reason: &Value) -> bool {
    ["sandbox_lost", "agent_exited"].map(Value::from).contains(reason)
}

/// Watches the first process of every container there is; gives back when each ended.
async fn deaths(house: &House) -> impl Future<Output = Vec<(String, Instant)>> + use<> {
    let mut watchers = Vec::<(String, JoinHandle<Instant>)>::new();
    for container in house.engine().running(&house.instance).await {
        let Some(pid) = house.engine().init(&container).await else { continue };
        let process = PathBuf::from(format!("/proc/{pid}/ns/pid"));
        let watcher = tokio::spawn(async move {
            // A process that is dead but not yet waited for has no namespaces left.
            while process.read_link().is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Instant::now()
        });
        watchers.push((container, watcher));
    }
    async move {
        let mut died = Vec::new();
        for (container, watcher) in watchers {
            died.push((container, watcher.await.expect("a process can be watched")));
        }
        died
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_hangs_and_goes_on_costs_no_stock() {
    let (daemon, engine) = Daemon::start().await;
    Engine::of_machine().await.copy_image(BUSYBOX, &engine).await;
    let settings = Settings::new().shell().stock("shell", 2, 2).set("pool", "cap", "6").set("pool", "sweep", "\"1s\"");
    let settings = settings.set("pool", "backoff", "\"200ms\"").set("pool", "backoff_max", "\"1s\"");
    let house = House::start_on(Some(engine), settings.set("runtime", "call_timeout", "\"1s\"")).await;
    at_rest(&house, "shell").await;
    let alice = house.alice();
    let held = alice.open(json!({"template": "shell"})).await;
    healed(&house, "shell", &[], HEALED).await;
    let before = house.engine().running(&house.instance).await;

    daemon.signal(rustix::process::Signal::STOP);
    tokio::time::sleep(OUTAGE).await;
    assert_eq!(alice.ask(&held, "echo still here").await.trim(), "still here");
    assert!(house.visitor().get("/healthz").await.status.is_success());
    daemon.signal(rustix::process::Signal::CONT);

    healed(&house, "shell", &[], HEALED).await;
    let after = house.engine().running(&house.instance).await;
    assert!(
        before.iter().all(|container| after.contains(container)),
        "a hang cost sandboxes: {before:?}, then {after:?}"
    );
    assert_eq!(alice.ask(&held, "echo and well").await.trim(), "and well");
    alice.close(&held).await;
    at_rest_within(&house, "shell", HEALED).await;
    no_orphans(&house).await;
    house.stop().await;
    daemon.stop().await;
}
