//! A server that comes back takes up what the one before it left running: no cold start, and nothing of it is lost or left over.

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::{
    house::{House, model},
    settings::{SHELL, Settings},
    wait::until,
};

/// Deadline for what was found unfit to be gone, and its replacement to be there.
const REPLACED: Duration = Duration::from_secs(30);

/// How a server ends.
#[derive(Debug, Clone, Copy)]
enum End {
    /// Told to, as a service manager does for a restart.
    Terminated,
    /// Killed.
    Crashed,
}

async fn end(house: &mut House, end: End) {
    match end {
        End::Terminated => {
            house.terminate();
            let status = house.ended().await;
            assert_eq!(status.code(), Some(0), "{status:?}");
        }
        End::Crashed => house.crash().await,
    }
}

/// The ids of all containers of this house.
async fn all(house: &House) -> BTreeSet<String> {
    house.engine().containers(&house.instance).await.into_iter().map(|one| one.id).collect()
}

/// Waits until there is nothing but a full stock, none of it from `former`, and no slot beside it.
async fn replaced(house: &House, former: &BTreeSet<String>, stock: usize) {
    until("the stock is new", REPLACED, async || {
        let now = all(house).await;
        (now.len() == stock && now.is_disjoint(former)).then_some(())
    })
    .await;
    house.stocked().await;
    until("as many slots as sandboxes", REPLACED, async || (slots(house) == stock).then_some(())).await;
}

/// Waits until there are these and no others: the throw-away one of the start may just be going.
async fn the_same(house: &House, former: &BTreeSet<String>) {
    until("the same ones", REPLACED, async || (all(house).await == *former).then_some(())).await;
}

fn slots(house: &House) -> usize {
    fs::read_dir(house.state().join("slots")).expect("the slots can be listed").count()
}

fn shell() -> Settings {
    Settings::new().shell().stock("shell", 2, 2).set("sandbox", "orphan_grace", "\"30s\"").hands_over()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn warm_agents_outlive_their_server_and_serve_the_next_ones_users() {
    let settings = Settings::new().gemini(model(None).await).set("sandbox", "orphan_grace", "\"30s\"").hands_over();
    let settings = settings.stock("gemini", 2, 2);
    let mut house = House::start(settings).await;
    house.stocked().await;
    for how in [End::Terminated, End::Crashed] {
        let before = all(&house).await;
        end(&mut house, how).await;
        assert_eq!(all(&house).await, before, "{how:?}: they run on");
        let begun = Instant::now();
        house.launch().await;
        house.stocked().await;
        let took = begun.elapsed();
        println!("{how:?}: full stock {} ms after the start", took.as_millis());
        the_same(&house, &before).await;
    }

    // As good as new: its agent answers, and once used it is gone.
    let before = all(&house).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "gemini", "workspace": "kept"})).await;
    assert_eq!(session["lease"]["start"], "warm", "{session}");
    assert_eq!(alice.ask(&session, "[words:still here]").await, "still here");
    alice.close(&session).await;
    house.stocked().await;
    until("the used one is gone", REPLACED, async || {
        (all(&house).await.intersection(&before).count() == 1).then_some(())
    })
    .await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_made_from_something_else_is_replaced() {
    let mut house = House::start(shell()).await;
    house.stocked().await;
    for settings in [
        shell().set("templates.shell", "env", "{NEW=\"1\"}"),
        shell().set("templates.shell", "env", "{NEW=\"1\"}").set("sandbox", "ring_bytes", "2097152"),
    ] {
        let before = all(&house).await;
        end(&mut house, End::Terminated).await;
        house.rewrite(settings);
        house.launch().await;
        replaced(&house, &before, 2).await;
    }
    // How many are kept is no part of a sandbox.
    let before = all(&house).await;
    end(&mut house, End::Terminated).await;
    house.rewrite(
        shell()
            .set("templates.shell", "env", "{NEW=\"1\"}")
            .set("sandbox", "ring_bytes", "2097152")
            .stock("shell", 3, 3),
    );
    house.launch().await;
    house.stocked().await;
    assert!(all(&house).await.is_superset(&before));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_template_that_is_gone_leaves_nothing() {
    let two = || shell().lines("other", crate::settings::BUSYBOX, &["sh", "-c", SHELL]);
    let mut house = House::start(two()).await;
    house.stocked().await;
    let shells = |house: &House| {
        let (engine, instance) = (house.engine().clone(), house.instance.clone());
        async move {
            let all = engine.containers(&instance).await;
            let shell = |value: &String| value == "shell";
            all.into_iter().filter(|one| one.labels.values().any(shell)).map(|one| one.id).collect::<BTreeSet<_>>()
        }
    };
    let before = shells(&house).await;
    end(&mut house, End::Terminated).await;
    house.rewrite(shell());
    house.launch().await;
    the_same(&house, &before).await;
    // A slot goes a moment after its container.
    until("no slot is left over", Duration::from_secs(5), async || (slots(&house) == 2).then_some(())).await;
    house.stop().await;
}

/// A server comes back to what it doesn't expect.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happened_meanwhile_nothing_is_left_of_it() {
    let settings = || shell().set("sandbox", "link_timeout", "\"2s\"");
    let mut house = House::start(settings()).await;
    house.stocked().await;
    let slot_of = |one: &crate::engine::Container| one.labels["greenroom.slot"].clone();

    // Somebody killed one, and somebody else destroyed the other.
    let former = house.engine().containers(&house.instance).await;
    end(&mut house, End::Crashed).await;
    house.engine().kill(&former[0].id).await;
    house.engine().remove(&former[1].id).await;
    house.launch().await;
    replaced(&house, &former.into_iter().map(|one| one.id).collect(), 2).await;

    // A slot's folder is gone, and a file in the other is half written.
    let former = house.engine().containers(&house.instance).await;
    end(&mut house, End::Terminated).await;
    let slots = house.state().join("slots");
    fs::remove_dir_all(slots.join(slot_of(&former[0]))).expect("it is there");
    fs::write(slots.join(slot_of(&former[1])).join("ready"), "{\"template\":").expect("it can be written");
    house.launch().await;
    replaced(&house, &former.into_iter().map(|one| one.id).collect(), 2).await;

    // One is frozen, as the engine says; the other's supervisor is, and nobody says so.
    let former = house.engine().containers(&house.instance).await;
    end(&mut house, End::Crashed).await;
    house.engine().pause(&former[0].id).await;
    let init = house.engine().init(&former[1].id).await.expect("it runs");
    let init = Pid::from_raw(init.cast_signed()).expect("a process id");
    kill_process(init, Signal::STOP).expect("it can be stopped");
    house.launch().await;
    replaced(&house, &former.into_iter().map(|one| one.id).collect(), 2).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_house_comes_back_full_and_no_more() {
    let full = || shell().set("pool", "cap", "2");
    let mut house = House::start(full()).await;
    house.stocked().await;
    let before = all(&house).await;
    end(&mut house, End::Terminated).await;
    let (engine, instance) = (house.engine().clone(), house.instance.clone());
    let made = engine.count_creations(&instance, async {
        house.launch().await;
        house.stocked().await;
    });
    assert_eq!(made.await, 0, "there is no room for a single one more");
    assert_eq!(all(&house).await, before);

    // Fewer are allowed now: the surplus goes.
    end(&mut house, End::Crashed).await;
    house.rewrite(shell().set("pool", "cap", "1").stock("shell", 1, 1));
    house.launch().await;
    until("one is left", REPLACED, async || (all(&house).await.len() == 1).then_some(())).await;
    assert!(all(&house).await.is_subset(&before));
    house.stop().await;
}
