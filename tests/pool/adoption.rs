//! The next run of a server has what the one before it left: nothing is made twice, lost or left over.

use std::{collections::BTreeSet, time::Duration};

use greenroom::{
    agent::{Mark, ResumePlan},
    ids::SlotId,
    pool::{LeaseError, Leased, PendingAdoption},
    sandbox::{census::Counts, lifecycle::Adopted},
};

use crate::{
    engine::{script::Call, script::Way, supervisor::Death},
    house::{House, Plan},
    users::{speak, user},
    wait::{until, within},
};

/// As a session does, but for what it would say.
fn plan(adopted: &Adopted) -> ResumePlan {
    ResumePlan {
        memory: adopted.slot().ready().expect("it says so").memory,
        mark: Mark::default(),
        input_received: adopted.input_received(),
        after_cancel: false,
        turn: None,
        answer_deadline: adopted.answer_deadline(),
    }
}

async fn take_up(pending: PendingAdoption) -> Leased {
    let pool = pending.pool();
    let adopted = within("its supervisor calls", pending.adopt()).await.expect("it runs");
    let plan = plan(&adopted);
    let sandbox = adopted.resume(plan).expect("the agent can be taken up");
    let lease = pool.adopt(sandbox).await.expect("the pool is open");
    Leased { lease, miss: None, wait: Duration::ZERO }
}

async fn leased(house: &House, count: u64) -> Vec<Leased> {
    let mut all = Vec::new();
    for number in 0..count {
        all.push(within("a lease", house.insist(&user(number))).await);
    }
    all
}

fn leave(leases: Vec<Leased>) {
    leases.into_iter().for_each(|leased| leased.lease.leave());
}

fn slots(leases: &[Leased]) -> BTreeSet<SlotId> {
    leases.iter().map(|leased| leased.lease.slot().id().clone()).collect()
}

#[tokio::test]
async fn warm_sandboxes_are_in_stock_again_and_nothing_is_made_beside_them() {
    let plan = Plan { cap: 8, warm: 3, ..Plan::default() };
    let house = House::new(plan);
    house.ready(3).await;
    let (before, made) = (house.engine.ours(), house.engine.times(Call::Create));
    let (house, leased) = house.restart(plan, || {}).await;
    assert!(leased.is_empty());
    assert_eq!(house.counts().total(), 3, "they take up room before they are heard of");
    house.ready(3).await;
    assert_eq!((house.engine.ours(), house.engine.times(Call::Create)), (before.clone(), made));
    let mut lease = within("a lease", house.lease(&user(1))).await.expect("leased");
    assert!(lease.miss.is_none() && before.contains(lease.lease.slot().id()));
    speak(&mut lease, "hello").await.expect("its agent was taken up");
    drop(lease);
    house.finish().await;
}

#[tokio::test]
async fn a_users_sandbox_is_leased_still_and_ends_as_any_other() {
    let plan = Plan::default();
    let house = House::new(plan);
    let leases = leased(&house, 1).await;
    let slots = slots(&leases);
    let (house, mut pending) = house.restart(plan, || leave(leases)).await;
    let mut leased = take_up(pending.pop().expect("it was left")).await;
    assert_eq!(house.counts().leased, 1);
    assert!(slots.contains(leased.lease.slot().id()));
    speak(&mut leased, "hello again").await.expect("its agent was taken up");
    drop(leased);
    until("its container is gone", || house.engine.ours().is_disjoint(&slots)).await;
    house.finish().await;
}

#[tokio::test]
async fn more_than_are_allowed_now_go_on_and_keep_others_out() {
    let house = House::new(Plan { cap: 3, warm: 1, ..Plan::default() });
    let leases = leased(&house, 3).await;
    let slots = slots(&leases);
    let (house, pending) = house.restart(Plan { cap: 1, warm: 1, ..Plan::default() }, || leave(leases)).await;
    let mut all = Vec::new();
    for one in pending {
        all.push(take_up(one).await);
    }
    assert_eq!(house.counts(), Counts { leased: 3, ..Counts::default() });
    let refused = house.lease_within(&user(9), Duration::from_millis(50)).await;
    assert!(matches!(refused, Err(LeaseError::Exhausted { .. })), "{refused:?}");
    drop(all);
    until("they are gone", || house.engine.ours().is_disjoint(&slots)).await;
    house.all_permits_are_there().await;
    house.finish().await;
}

#[tokio::test]
async fn a_template_that_is_gone_serves_its_leases_to_their_end() {
    let house = House::new(Plan { templates: 2, cap: 4, ..Plan::default() });
    let other = within("a lease", house.lease_of(1, &user(1), None)).await.expect("leased");
    until("two are warm", || house.counts().ready == 2).await;
    let (house, mut pending) =
        house.restart(Plan { templates: 1, cap: 4, warm: 1, ..Plan::default() }, || leave(vec![other])).await;
    let leased = take_up(pending.pop().expect("it was left")).await;
    assert!(house.pool(1).is_none() && house.pools.all().len() == 2);
    drop(leased);
    until("its pool is forgotten", || house.pools.all().len() == 1).await;
    house.finish().await;
}

/// At whichever await whoever takes it up is dropped.
#[tokio::test]
async fn who_is_dropped_while_taking_up_leaves_nothing() {
    for (call, way) in [(Call::Inspect, Way::Never), (Call::Inspect, Way::Error), (Call::Inspect, Way::Slow)] {
        let plan = Plan { cap: 4, warm: 1, ..Plan::default() };
        let house = House::new(plan);
        let leases = leased(&house, 3).await;
        let (house, mut pending) = house.restart(plan, || leave(leases)).await;
        house.engine.always(call, way);
        drop(pending.pop());
        for patience in [0, 3] {
            let one = pending.pop().expect("there were three");
            let _dropped_or_failed = tokio::time::timeout(Duration::from_millis(patience), one.adopt()).await;
        }
        until("their leases are over", || house.counts().leased == 0 && house.counts().ending == 0).await;
        house.finish().await;
    }
}

#[tokio::test]
async fn what_does_not_call_or_died_meanwhile_is_replaced() {
    for death in [Death::Silent, Death::Killed, Death::Removed] {
        let plan = Plan { cap: 4, warm: 1, ..Plan::default() };
        let house = House::new(plan);
        house.ready(1).await;
        let before = house.engine.ours();
        let slot = before.first().expect("there is one").clone();
        let (house, leased) = {
            let engine = std::sync::Arc::clone(&house.engine);
            let restarting = house.restart(plan, || {});
            if death != Death::Removed {
                assert!(engine.kill(&slot, death));
            }
            restarting.await
        };
        assert!(leased.is_empty());
        if death == Death::Removed {
            house.engine.kill(&slot, death);
        }
        until("another one is warm", || house.counts().ready == 1 && house.engine.ours().is_disjoint(&before)).await;
        house.finish().await;
    }
}

#[tokio::test]
async fn a_server_that_stops_while_it_takes_up_leaves_it_to_the_next() {
    let plan = Plan { cap: 4, warm: 1, ..Plan::default() };
    let house = House::new(plan);
    let leases = leased(&house, 1).await;
    let slots = slots(&leases);
    house.ready(1).await;
    let before = house.engine.ours();
    let (house, pending) = house.restart(plan, || leave(leases)).await;
    let (house, pending) = house.restart(plan, || pending.into_iter().for_each(PendingAdoption::leave)).await;
    assert_eq!(house.engine.ours(), before);
    let mut leased = take_up(pending.into_iter().next().expect("it was left again")).await;
    assert!(slots.contains(leased.lease.slot().id()));
    speak(&mut leased, "hello again").await.expect("its agent was taken up");
    drop(leased);
    house.finish().await;
}
