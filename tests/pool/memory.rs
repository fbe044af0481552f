//! Memory: one that waits and has used up its own is no good to anybody; what is leased is its user's to fill.

use std::time::Duration;

use greenroom::{ids::SlotId, pool::Leased, runtime::EventKind};

use crate::{
    engine::script::{Call, Way},
    house::{House, Plan},
    users::{speak, user},
    wait::{until, within},
};

/// What a sandbox may use, in bytes.
const LIMIT: u64 = 100 << 20;
/// The most that one in stock may use.
const ENOUGH: u64 = 80 << 20;

/// A house that looks at everybody's memory all the time.
fn watched(warm: usize) -> House {
    House::new(Plan { cap: 4, warm, sweep: Duration::from_millis(20), ..Plan::default() })
}

/// Waits until somebody saw that a sandbox uses this much. What follows from it is done by then.
async fn weighed(house: &House, slot: &SlotId, bytes: u64) {
    let seen = || house.census.records().get(slot).and_then(|record| record.memory_bytes);
    until("it is weighed", || seen() == Some(bytes)).await;
}

/// Waits until the stock is full again without this one.
async fn replaced(house: &House, slot: &SlotId) {
    let full_without = || house.counts().ready == house.plan.warm && !house.engine.ours().contains(slot);
    until("it is replaced", full_without).await;
}

/// One that is leased, and one that waits.
async fn leased_and_waiting(house: &House) -> (Leased, SlotId) {
    let leased = within("a lease", house.lease(&user(1))).await.expect("leased");
    house.ready(1).await;
    let waiting = house.engine.ours().into_iter().find(|slot| slot != leased.lease.slot().id());
    (leased, waiting.expect("one is ready"))
}

#[tokio::test]
async fn one_that_waits_and_uses_more_than_four_fifths_of_its_memory_is_replaced() {
    let house = watched(2);
    house.ready(2).await;
    let slots = Vec::from_iter(house.engine.ours());
    house.engine.uses(&slots[0], ENOUGH, LIMIT);
    weighed(&house, &slots[0], ENOUGH).await;
    house.engine.uses(&slots[1], ENOUGH + 1, LIMIT);
    replaced(&house, &slots[1]).await;
    assert!(house.engine.ours().contains(&slots[0]), "one went that used no more than it may");
    house.finish().await;
}

#[tokio::test]
async fn one_that_is_leased_may_use_all_its_memory() {
    let house = watched(1);
    let (mut held, _waiting) = leased_and_waiting(&house).await;
    let slot = held.lease.slot().id().clone();
    house.engine.uses(&slot, LIMIT, LIMIT);
    weighed(&house, &slot, LIMIT).await;
    speak(&mut held, "still here").await.expect("the agent answers");
    drop(held);
    house.finish().await;
}

#[tokio::test]
async fn one_whose_memory_nobody_can_tell_stays() {
    let house = watched(2);
    house.ready(2).await;
    let before = house.engine.ours();
    for way in [Way::Error, Way::Never] {
        house.engine.always(Call::Memory, way);
        // Both of them twice; the third time says that those are over.
        let looks = house.engine.times(Call::Memory);
        within("they are looked at", house.engine.reached(Call::Memory, looks + 5)).await;
        assert_eq!(house.engine.ours(), before, "{way:?}");
    }
    house.finish().await;
}

#[tokio::test]
async fn one_that_runs_out_of_memory_is_replaced_while_it_waits_and_left_alone_while_it_is_leased() {
    let house = House::new(Plan { cap: 4, ..Plan::default() });
    let (mut held, waiting) = leased_and_waiting(&house).await;
    // Events are heard in order: once the second one had its effect, the first one had none.
    house.engine.tell(held.lease.slot().id(), EventKind::OutOfMemory);
    house.engine.tell(&waiting, EventKind::OutOfMemory);
    replaced(&house, &waiting).await;
    speak(&mut held, "still here").await.expect("the agent answers");
    drop(held);
    house.finish().await;
}
