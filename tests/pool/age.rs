//! Stock that grows old: replaced when its time has come, not before, and not all of it at the same moment.

use std::{collections::BTreeSet, time::Duration};

use futures_util::FutureExt as _;
use greenroom::ids::SlotId;

use crate::{
    engine::script::{Call, Way},
    house::{House, Plan},
    users::{speak, user},
    wait::{jump, within},
};

/// The oldest that stock gets. So long that what a test itself takes doesn't count.
const AGE: Duration = Duration::from_secs(10_000);
/// The youngest at which any of it is too old, by the settings' word.
const YOUNGEST: f64 = 0.8;

/// A house that is full of stock, where a start takes so long that nobody overlooks one that is missing meanwhile.
async fn stocked(plan: Plan) -> House {
    let house = House::new(Plan { warm_age: AGE, ..plan });
    house.engine.always(Call::Create, Way::Slow);
    house.ready(plan.warm).await;
    house
}

/// Waits until nothing that was there is left, but for one that is leased. Gives the least that was ready meanwhile.
async fn replaced(house: &House, but: Option<&SlotId>) -> usize {
    let mut changes = house.census.subscribe();
    let before: BTreeSet<_> = house.engine.ours().into_iter().filter(|slot| Some(slot) != but).collect();
    jump(AGE.mul_f64(1.0 - YOUNGEST + 0.01)).await;
    let mut least = usize::MAX;
    within("all stock is young", async {
        loop {
            let counts = house.counts();
            least = least.min(counts.ready);
            if counts.ready == house.plan.warm && counts.ending == 0 && house.engine.ours().is_disjoint(&before) {
                return least;
            }
            changes.changed().await.expect("the census lives");
        }
    })
    .await
}

/// Lets stock become nearly too old, and everybody have a look at it. Nothing may have gone.
async fn nearly_too_old(house: &House) {
    let before = house.engine.ours();
    let met = house.engine.times(Call::Ping);
    jump(AGE.mul_f64(YOUNGEST - 0.01)).await;
    // By then everything that was overdue has had its turn.
    within("all were looked at", house.engine.reached(Call::Ping, met + before.len())).await;
    assert_eq!(house.engine.ours(), before, "one went before its time");
    assert_eq!(house.pool(0).expect("it serves").figures().stale, 0);
}

#[tokio::test]
async fn what_is_too_old_is_replaced_one_for_one_a_young_one_first_and_nothing_before_its_time() {
    let house = stocked(Plan { cap: 6, warm: 3, ..Plan::default() }).await;
    nearly_too_old(&house).await;
    assert_eq!(replaced(&house, None).await, 3, "an old one went before a young one was ready");
    assert_eq!(house.engine.seen().made, 6, "one was replaced twice");
    house.finish().await;
}

#[tokio::test]
async fn what_is_too_old_is_replaced_with_one_missing_at_most_where_there_is_no_room_for_both() {
    let house = stocked(Plan { cap: 3, warm: 3, ..Plan::default() }).await;
    nearly_too_old(&house).await;
    assert_eq!(replaced(&house, None).await, 2);
    house.finish().await;
}

#[tokio::test]
async fn a_lease_grows_as_old_as_its_user_likes() {
    let house = stocked(Plan { cap: 4, warm: 1, ..Plan::default() }).await;
    let mut held = within("a lease", house.lease(&user(1))).await.expect("leased");
    house.ready(1).await;
    let slot = held.lease.slot().id().clone();
    nearly_too_old(&house).await;
    replaced(&house, Some(&slot)).await;
    assert_eq!(house.counts().leased, 1);
    speak(&mut held, "still here").await.expect("the agent answers");
    drop(held);
    house.finish().await;
}

#[tokio::test]
async fn sandboxes_that_were_made_together_do_not_all_become_too_old_together() {
    const STEPS: u32 = 10;
    let house = stocked(Plan { cap: 8, warm: 8, start_limit: 8, ..Plan::default() }).await;
    let pool = house.pool(0).expect("it serves");
    // Without an await: time passes, and nobody has a turn to replace anything.
    tokio::time::pause();
    let _nobody_noticed = tokio::time::advance(AGE.mul_f64(YOUNGEST - 0.01)).now_or_never();
    let mut before = pool.figures().stale;
    assert_eq!(before, 0, "one is too old before its time");
    let mut at_once = 0;
    for _ in 0..STEPS {
        let _nobody_noticed = tokio::time::advance(AGE.mul_f64(1.0 - YOUNGEST + 0.01) / STEPS).now_or_never();
        let stale = pool.figures().stale;
        at_once = at_once.max(stale - before);
        before = stale;
    }
    tokio::time::resume();
    assert_eq!(before, 8, "one is not too old when its time is over");
    // By chance alone, once in ten million times.
    assert!(at_once < 8, "all became too old at the same time");
    drop(pool);
    house.finish().await;
}
