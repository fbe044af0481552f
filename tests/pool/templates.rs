//! Several templates side by side, and what an operator changes while they serve.

use std::{collections::BTreeSet, sync::Arc};

use greenroom::{
    ids::SlotId,
    pool::{LeaseError, Leased, Mode, Refusal},
};

use crate::{
    house::{House, Plan},
    users::{speak, user},
    wait::{until, within},
};

const OLD: &str = "id-of-image-0";
const NEW: &str = "id-of-image-1";

async fn leased(house: &House, template: usize) -> Leased {
    within("a lease", house.lease_of(template, &user(1), None)).await.expect("leased")
}

fn image_of(house: &House, slot: &SlotId) -> Option<String> {
    house.engine.look(slot, |container| container.image.clone())
}

/// The images of all our containers but one.
fn images(house: &House, but: Option<&SlotId>) -> BTreeSet<String> {
    let slots = house.engine.ours().into_iter().filter(|slot| Some(slot) != but);
    slots.filter_map(|slot| image_of(house, &slot)).collect()
}

/// Changes the template and waits until all stock is new. Returns the least that was ready meanwhile.
async fn replaced(house: &House, cap: usize, but: Option<&SlotId>) -> usize {
    let mut changes = house.census.subscribe();
    house.apply(&[(0, "image-1".to_owned())], cap);
    let mut least = usize::MAX;
    let new = BTreeSet::from([NEW.to_owned()]);
    within("all stock is new", async {
        loop {
            let counts = house.counts();
            least = least.min(counts.ready);
            if counts.ready == house.plan.warm && counts.ending == 0 && images(house, but) == new {
                return least;
            }
            changes.changed().await.expect("the census lives");
        }
    })
    .await
}

#[tokio::test]
async fn a_changed_template_has_its_stock_replaced_one_by_one_and_its_leases_left_alone() {
    let house = House::new(Plan { cap: 4, warm: 2, ..Plan::default() });
    let mut held = leased(&house, 0).await;
    let slot = held.lease.slot().id().clone();
    house.ready(2).await;
    assert_eq!(replaced(&house, 4, Some(&slot)).await, 2, "an old one went before a new one was ready");
    assert_eq!(image_of(&house, &slot).as_deref(), Some(OLD), "a lease was touched");
    speak(&mut held, "still here").await.expect("the agent answers");
    drop(held);
    house.finish().await;
}

#[tokio::test]
async fn a_changed_template_without_room_for_both_is_replaced_with_one_missing_at_most() {
    let house = House::new(Plan { cap: 2, warm: 2, ..Plan::default() });
    house.ready(2).await;
    assert_eq!(replaced(&house, 2, None).await, 1);
    house.finish().await;
}

#[tokio::test]
async fn a_template_that_is_read_again_unchanged_keeps_its_stock() {
    let house = House::new(Plan { cap: 4, warm: 2, ..Plan::default() });
    house.ready(2).await;
    let before = house.engine.ours();
    let applied = house.apply(&[(0, "image-0".to_owned())], 4);
    assert_eq!(applied, Default::default());
    drop(leased(&house, 0).await);
    until("the stock is full again", || house.counts().ready == 2 && house.counts().total() == 2).await;
    assert_eq!(house.engine.ours().intersection(&before).count(), 1);
    house.finish().await;
}

#[tokio::test]
async fn a_template_that_is_gone_serves_its_leases_to_their_end() {
    let house = House::new(Plan { cap: 4, warm: 1, templates: 2, ..Plan::default() });
    let mut held = leased(&house, 1).await;
    house.ready(2).await;
    house.apply(&[(0, "image-0".to_owned())], 4);
    assert!(house.pool(1).is_none());
    until("its stock is gone", || house.counts().ready == 1 && house.counts().total() == 2).await;
    speak(&mut held, "still here").await.expect("the agent answers");
    drop(held);
    until("it is forgotten", || house.pools.all().len() == 1).await;
    house.apply(&[(0, "image-0".to_owned()), (1, "image-0".to_owned())], 4);
    drop(leased(&house, 1).await);
    house.finish().await;
}

#[tokio::test]
async fn idle_stock_makes_room_for_a_caller_of_another_template() {
    let house = House::new(Plan { cap: 2, warm: 0, templates: 2, ..Plan::default() });
    house.pool(0).expect("it serves").resize(2, 2);
    house.ready(2).await;
    let (one, two) = (leased(&house, 1).await, leased(&house, 1).await);
    assert_eq!(house.counts().leased, 2);
    drop((one, two));
    house.ready(2).await;
    house.finish().await;
}

#[tokio::test]
async fn callers_of_two_templates_without_stock_are_served_in_turns() {
    let house = Arc::new(House::new(Plan { cap: 1, warm: 0, templates: 2, ..Plan::default() }));
    let opens = (0..12).map(|number| {
        let house = Arc::clone(&house);
        tokio::spawn(async move { drop(leased(&house, number % 2).await) })
    });
    for open in opens.collect::<Vec<_>>() {
        open.await.expect("served");
    }
    assert_eq!(house.engine.seen().most, 1);
    House::unwrap(house).finish().await;
}

#[tokio::test]
async fn less_room_ends_no_lease_and_admits_nobody_until_there_is_room() {
    let house = House::new(Plan { cap: 3, warm: 1, ..Plan::default() });
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(leased(&house, 0).await);
    }
    house.apply(&[(0, "image-0".to_owned())], 1);
    for leased in &mut held {
        speak(leased, "still here").await.expect("the agent answers");
    }
    let _before = house.engine.most_since();
    held.truncate(1);
    until("two are gone", || house.counts().total() == 1).await;
    assert_eq!(house.engine.most_since(), 3);
    drop(held);
    drop(leased(&house, 0).await);
    assert_eq!(house.engine.most_since(), 1);
    house.finish().await;
}

#[tokio::test]
async fn memory_is_room_too() {
    let house = House::new(Plan { cap: 4, warm: 2, memory: 1, ..Plan::default() });
    let one = leased(&house, 0).await;
    let other = house.lease_within(&user(2), std::time::Duration::from_millis(50)).await;
    assert!(matches!(other, Err(LeaseError::Exhausted { .. })), "{other:?}");
    drop(one);
    drop(leased(&house, 0).await);
    assert_eq!(house.engine.seen().most, 1);
    house.finish().await;
}

#[tokio::test]
async fn a_drained_template_refuses_at_once_and_its_leases_go_on() {
    let house = Arc::new(House::new(Plan { cap: 1, warm: 1, ..Plan::default() }));
    let mut held = leased(&house, 0).await;
    let waiter = tokio::spawn({
        let house = Arc::clone(&house);
        async move { house.lease(&user(2)).await.map(drop) }
    });
    until("somebody waits", || house.waiting() == 1).await;
    let pool = house.pool(0).expect("it serves");
    pool.set_mode(Mode::Draining);
    let told = within("the waiter is told", waiter).await.expect("no panic");
    assert!(matches!(told, Err(LeaseError::Refused(Refusal::Draining))), "{told:?}");
    let told = within("a refusal", house.lease(&user(3))).await;
    assert!(matches!(told, Err(LeaseError::Refused(Refusal::Draining))), "{told:?}");
    speak(&mut held, "still here").await.expect("the agent answers");
    drop(held);
    until("nothing is left", || house.counts().total() == 0).await;
    pool.set_mode(Mode::Active);
    drop(pool);
    drop(leased(&house, 0).await);
    House::unwrap(house).finish().await;
}

#[tokio::test]
async fn a_paused_template_serves_what_it_has_and_then_refuses_at_once() {
    let house = House::new(Plan { cap: 4, warm: 2, ..Plan::default() });
    house.ready(2).await;
    let pool = house.pool(0).expect("it serves");
    pool.set_mode(Mode::Paused);
    let held = [leased(&house, 0).await, leased(&house, 0).await];
    let told = within("a refusal", house.lease(&user(3))).await;
    assert!(matches!(told, Err(LeaseError::Refused(Refusal::Paused))), "{told:?}");
    assert_eq!(house.engine.seen().made, 2, "something was started");
    drop(held);
    pool.set_mode(Mode::Active);
    house.ready(2).await;
    drop(pool);
    house.finish().await;
}

#[tokio::test]
async fn an_operator_destroys_one_sandbox_in_any_state_and_no_other() {
    let house = House::new(Plan { cap: 4, warm: 2, ..Plan::default() });
    let mut held = leased(&house, 0).await;
    let spared = leased(&house, 0).await;
    house.ready(2).await;
    let leased_slot = held.lease.slot().id().clone();
    let spared_slot = spared.lease.slot().id().clone();
    let ready = house.engine.ours().into_iter().find(|slot| *slot != leased_slot && *slot != spared_slot);
    for slot in [ready.expect("two are ready"), leased_slot] {
        let found = house.pools.destroy(&slot);
        assert!(found);
    }
    assert!(speak(&mut held, "gone").await.is_err(), "its agent still answers");
    assert_eq!(house.engine.look(&spared_slot, |_| ()), Some(()));
    assert!(!house.pools.destroy(&SlotId::random()));
    drop((held, spared));
    house.ready(2).await;
    house.finish().await;
}
