//! Several templates share one cap, and many users share one template: nobody starves.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    client::id,
    house::House,
    observer::Observer,
    pools::{at_rest, no_orphans, pool, tell},
    settings::{BUSYBOX, SHELL, Settings},
    wait::until,
};

fn two_templates() -> Settings {
    Settings::new().unlimited().shell().lines("other", BUSYBOX, &["sh", "-c", SHELL])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_stock_of_one_template_makes_room_for_callers_of_another() {
    let settings = two_templates().stock("shell", 4, 4).stock("other", 0, 0).set("pool", "cap", "4");
    let house = House::start(settings).await;
    let observer = Observer::watch(&house);
    let alice = house.alice();
    // The stock of `shell` fills the cap; four callers of `other` take all of it, one after the other.
    let mut sessions = Vec::new();
    for _ in 0..4 {
        let asked = Instant::now();
        let session = alice.open(json!({"template": "other", "queue_timeout_s": 20})).await;
        assert!(asked.elapsed() < Duration::from_secs(10), "waited {:?}", asked.elapsed());
        assert_eq!(session["lease"]["start"], "cold", "{session}");
        sessions.push(session);
    }
    assert_eq!(pool(&house, "shell").await["warm"], 0);
    // Leased ones are nobody's room.
    let wish = json!({"template": "shell", "queue_timeout_s": 1});
    alice.post("/v1/sessions", &wish).await.problem(503, "POOL_EXHAUSTED");
    for session in &sessions {
        assert_eq!(alice.ask(session, "echo mine").await.trim(), "mine");
        alice.close(session).await;
    }
    at_rest(&house, "shell").await;
    no_orphans(&house).await;
    let seen = observer.finish().await;
    assert!(seen.most <= 4, "{seen:?}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_of_two_templates_at_the_cap_all_get_their_turn() {
    let settings = two_templates().stock("shell", 2, 2).stock("other", 1, 1).set("pool", "cap", "3");
    let house = House::start(settings).await;
    let visits = (0..24).map(|number| {
        let (alice, template) = (house.alice(), if number % 2 == 0 { "shell" } else { "other" });
        tokio::spawn(async move {
            let session = alice.open(json!({"template": template, "queue_timeout_s": 40})).await;
            assert_eq!(session["template"], template);
            alice.ask(&session, "true").await;
            alice.close(&session).await;
        })
    });
    for visit in visits.collect::<Vec<_>>() {
        visit.await.expect("everybody is served");
    }
    at_rest(&house, "shell").await;
    at_rest(&house, "other").await;
    no_orphans(&house).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_many_opens_does_not_starve_one_with_one() {
    const MANY: usize = 40;
    let settings = Settings::new().unlimited().shell().stock("shell", 2, 2).set("pool", "cap", "3");
    let house = House::start(settings).await;
    let served = Arc::<AtomicUsize>::default();
    let visits = (0..MANY).map(|_| {
        let (alice, served) = (house.alice(), Arc::clone(&served));
        tokio::spawn(async move {
            let session = alice.open(json!({"template": "shell", "queue_timeout_s": 40})).await;
            served.fetch_add(1, Ordering::SeqCst);
            alice.delete(&format!("/v1/sessions/{}", id(&session))).await;
        })
    });
    let visits = visits.collect::<Vec<_>>();
    until("most of them wait", Duration::from_secs(5), async || {
        (pool(&house, "shell").await["waiting"].as_u64() > Some(MANY as u64 / 2)).then_some(())
    })
    .await;
    let before = served.load(Ordering::SeqCst);
    let bobs = house.bob().open(json!({"template": "shell", "queue_timeout_s": 40})).await;
    let overtaken_by = served.load(Ordering::SeqCst) - before;
    tell(&format!("fairness: {before} of alice's {MANY} before bob came, {overtaken_by} while he waited"));
    assert!(overtaken_by <= 4, "alice got {overtaken_by} sandboxes while bob waited for one");
    house.bob().close(&bobs).await;
    for visit in visits {
        visit.await.expect("alice is served as well");
    }
    house.stop().await;
}
