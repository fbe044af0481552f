//! A lease is one user's, once.

use std::{sync::Arc, time::Duration};

use greenroom::{ids::SlotId, pool::LeaseError};
use tokio::task::JoinSet;

use crate::{
    engine::{script::Call, script::Way, supervisor::Death},
    house::{House, Plan},
    users::{speak, user},
    wait::{until, within},
};

/// Two hundred opens, ten of each of twenty users, some of whom hang up.
async fn crowd(house: &Arc<House>) -> usize {
    let mut opens = JoinSet::new();
    for number in 0..200_u64 {
        let house = Arc::clone(house);
        opens.spawn(async move {
            let user = user(number % 20);
            // Every third hangs up, at moments spread over what an open takes here.
            let patience = if number % 3 == 0 { Duration::from_millis(number % 40) } else { Duration::from_secs(60) };
            let Ok(mut leased) = tokio::time::timeout(patience, house.insist(&user)).await else { return 0 };
            speak(&mut leased, user.as_str()).await.expect("the agent answers");
            1
        });
    }
    let served = within("everyone is served or has hung up", opens.join_all()).await;
    served.into_iter().sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sandbox_is_in_one_lease_at_most_and_never_idle_after_it() {
    let house = Arc::new(House::new(Plan { cap: 8, warm: 4, ..Plan::default() }));
    let served = crowd(&house).await;
    assert!(served >= 130, "{served}");
    // `House::lease` fails on a sandbox that was leased before; the engine's agents remember who spoke to them.
    let seen = house.engine.seen();
    assert!(seen.made >= served, "{} containers for {served} leases", seen.made);
    assert!(seen.overlaps.is_empty(), "{:?}", seen.overlaps);
    House::unwrap(house).finish().await;
}

#[tokio::test]
async fn a_lease_ends_with_its_container() {
    let house = House::new(Plan::default());
    let leased = within("a lease", house.lease(&user(1))).await.expect("leased");
    let slot = leased.lease.slot().id().clone();
    assert!(house.engine.ours().contains(&slot));
    drop(leased);
    until("its container is gone", || !house.engine.ours().contains(&slot)).await;
    house.finish().await;
}

#[tokio::test]
async fn a_lease_outlives_a_sweep_and_an_engine_that_is_away() {
    let house = House::new(Plan { cap: 3, warm: 1, ..Plan::default() });
    let mut leased = within("a lease", house.lease(&user(1))).await.expect("leased");
    for way in [Way::Error, Way::Never, Way::Twice] {
        for call in [Call::List, Call::Create, Call::Start, Call::Remove] {
            house.engine.always(call, way);
        }
        let _failed = house.sweep().await;
    }
    house.engine.heal();
    house.sweep().await.expect("swept");
    speak(&mut leased, "still here").await.expect("the agent answers");
    drop(leased);
    house.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_a_sandbox_that_died_in_stock() {
    for death in [Death::Agent, Death::Killed, Death::Removed, Death::Paused, Death::Silent] {
        let house = House::new(Plan { cap: 4, warm: 2, ..Plan::default() });
        // It is a matter of moments, so not once; but ten that are lost within a minute would end all starts for the rest of it.
        for _ in 0..4 {
            house.ready(2).await;
            let dead = house.engine.ours();
            for slot in &dead {
                assert!(house.engine.kill(slot, death));
            }
            let is_dead =
                |slot: &SlotId| house.engine.dead_since(slot).is_some() || !house.engine.ours().contains(slot);
            // Without a pause: who comes at that very moment.
            within("they are dead", async {
                while !dead.iter().all(is_dead) {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            let mut leased = within("a lease", house.lease(&user(1))).await.expect("leased");
            assert!(!dead.contains(leased.lease.slot().id()), "{death:?}: a dead sandbox was leased");
            speak(&mut leased, "hello").await.expect("the agent answers");
            drop(leased);
            until("the dead are gone", || house.engine.ours().is_disjoint(&dead)).await;
        }
        house.finish().await;
    }
}

#[tokio::test]
async fn a_lease_is_written_down_before_it_is_acknowledged() {
    let house = House::new(Plan { cap: 3, warm: 2, ..Plan::default() });
    house.ready(2).await;
    assert!(house.slots().iter().all(|slot| !slot.was_leased()));
    let leased = within("a lease", house.lease(&user(1))).await.expect("leased");
    assert!(leased.lease.slot().was_leased());
    drop(leased);
    house.finish().await;
}

#[tokio::test]
async fn a_lease_that_can_not_be_written_down_is_none() {
    let house = House::new(Plan { cap: 2, warm: 2, ..Plan::default() });
    house.ready(2).await;
    let lost = house.slots();
    for slot in &lost {
        std::fs::remove_dir_all(slot.box_dir().parent().expect("it is in the slot")).expect("removed");
    }
    for _ in &lost {
        let told = within("an answer", house.lease(&user(1))).await;
        assert!(matches!(told, Err(LeaseError::NotWritten(_))), "{told:?}");
    }
    // Neither sandbox was somebody's, neither is idle, and the permits are there.
    house.all_permits_are_there().await;
    assert!(lost.iter().all(|slot| !house.was_leased(slot.id())));
    house.finish().await;
}

#[tokio::test]
async fn a_sandbox_that_the_disk_knows_as_leased_is_not_leased_again() {
    let house = House::new(Plan { cap: 2, warm: 1, ..Plan::default() });
    house.ready(1).await;
    let marked = house.slots().remove(0);
    marked.mark_leased().expect("marked");
    let told = within("an answer", house.lease(&user(1))).await;
    assert!(matches!(told, Err(LeaseError::NotWritten(_))), "{told:?}");
    until("it is gone", || !house.engine.ours().contains(marked.id())).await;
    house.finish().await;
}
