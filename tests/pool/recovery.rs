//! After trouble: what healed is found healed, and what was no trouble is none.

use std::time::Duration;

use greenroom::pool::LeaseError;

use crate::{
    engine::{
        script::{Call, Way},
        supervisor::Death,
    },
    house::{House, Plan},
    users::{speak, user},
    wait::{jump, until, within},
};

#[tokio::test]
async fn a_stock_that_could_not_be_filled_fills_again() {
    let house = House::new(Plan { cap: 3, warm: 2, ..Plan::default() });
    house.engine.always(Call::Start, Way::Error);
    house.engine.reached(Call::Start, 3).await;
    house.engine.heal();
    house.ready(2).await;
    house.finish().await;
}

#[tokio::test]
async fn a_template_without_stock_is_tried_again_after_it_failed() {
    let house = House::new(Plan { cap: 3, warm: 0, ..Plan::default() });
    house.engine.always(Call::Create, Way::Error);
    let told = within("an answer", house.lease(&user(1))).await;
    assert!(matches!(told, Err(LeaseError::Failing(_))), "{told:?}");
    house.engine.heal();
    drop(house.insist(&user(1)).await);
    house.finish().await;
}

#[tokio::test]
async fn at_most_ten_starts_fail_in_a_minute() {
    let house = House::new(Plan { cap: 3, warm: 2, ..Plan::default() });
    house.engine.always(Call::Create, Way::Error);
    within("ten starts fail", house.engine.reached(Call::Create, 10)).await;
    // Its longest pause is 20 ms.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(house.engine.times(Call::Create), 10);
    house.engine.heal();
    jump(Duration::from_secs(61)).await;
    house.ready(2).await;
    house.finish().await;
}

#[tokio::test]
async fn an_engine_that_takes_everything_with_it_is_used_again_when_it_is_back() {
    let house = House::new(Plan { cap: 4, warm: 2, sweep: Duration::from_millis(50), ..Plan::default() });
    let mut leased = within("a lease", house.lease(&user(1))).await.expect("leased");
    house.ready(2).await;
    for call in [Call::Create, Call::Start, Call::Remove, Call::List] {
        house.engine.always(call, Way::Error);
    }
    for slot in house.engine.ours() {
        house.engine.kill(&slot, Death::Killed);
    }
    let created = house.engine.times(Call::Create);
    assert!(speak(&mut leased, "are you there?").await.is_err());
    drop(leased);
    within("it is tried again", house.engine.reached(Call::Create, created + 1)).await;
    house.engine.heal();
    house.ready(2).await;
    until("the dead are gone", || house.counts().total() == 2 && house.engine.ours().len() == 2).await;
    house.finish().await;
}

#[tokio::test]
async fn the_dead_are_found_in_stock_and_replaced() {
    for death in [Death::Agent, Death::Killed, Death::Removed, Death::Paused] {
        let house = House::new(Plan { cap: 3, warm: 2, sweep: Duration::from_millis(50), ..Plan::default() });
        house.ready(2).await;
        let dead = house.engine.ours();
        for slot in &dead {
            assert!(house.engine.kill(slot, death));
        }
        let healed = || house.counts().ready == 2 && house.engine.ours().is_disjoint(&dead);
        until(&format!("the stock has healed of {death:?}"), healed).await;
        house.finish().await;
    }
}

#[tokio::test]
async fn a_session_is_told_within_two_seconds_that_its_sandbox_was_ended() {
    for death in [Death::Agent, Death::Killed, Death::Removed, Death::Paused] {
        let house = House::new(Plan { cap: 3, warm: 1, sweep: Duration::from_millis(200), ..Plan::default() });
        let mut leased = within("a lease", house.lease(&user(1))).await.expect("leased");
        assert!(house.engine.kill(leased.lease.slot().id(), death));
        let told = tokio::time::timeout(Duration::from_secs(2), speak(&mut leased, "are you there?")).await;
        assert!(matches!(told, Ok(Err(_))), "{death:?}: {told:?}");
        drop(leased);
        house.finish().await;
    }
}

#[tokio::test]
async fn a_link_that_breaks_and_comes_back_costs_nobody_their_sandbox() {
    let house = House::new(Plan { cap: 3, warm: 1, ..Plan::default() });
    let mut leased = within("a lease", house.lease(&user(1))).await.expect("leased");
    house.ready(1).await;
    let before = house.engine.ours();
    let met = house.engine.times(Call::Ping);
    house.engine.next(Call::Ping, [Way::Error, Way::Error]);
    within("both links broke", house.engine.reached(Call::Ping, met + 4)).await;
    assert_eq!(house.engine.ours(), before);
    speak(&mut leased, "still here").await.expect("the agent answers");
    drop(leased);
    house.finish().await;
}

#[tokio::test]
async fn a_jump_of_the_clock_ends_nothing() {
    let house = House::new(Plan { cap: 3, warm: 2, ..Plan::default() });
    let mut leased = within("a lease", house.lease(&user(1))).await.expect("leased");
    house.ready(2).await;
    let before = house.engine.ours();
    for time in [Duration::from_secs(1), Duration::from_secs(20), Duration::from_secs(600)] {
        jump(time).await;
        // Long enough for everything that is overdue, and for links that were cut to come back.
        let pings = house.engine.times(Call::Ping);
        within("the links are heard again", house.engine.reached(Call::Ping, pings + 6)).await;
        assert_eq!(house.engine.ours(), before, "after {time:?}");
    }
    speak(&mut leased, "still here").await.expect("the agent answers");
    drop(leased);
    house.finish().await;
}
