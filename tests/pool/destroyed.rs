//! What an operator ends while it starts: it never becomes ready, it is nobody's failure, and whoever waited for it gets another one.

use std::{sync::Arc, time::Duration};

use greenroom::{
    ids::SlotId,
    pool::{LeaseError, Mode, Refusal},
    sandbox::census::{Counts, SandboxState},
};

use crate::{
    engine::script::{Call, Way},
    house::{House, Plan},
    users::{speak, user},
    wait::{until, within},
};

/// What a start asks for, in order.
const STEPS: [Call; 6] = [Call::Create, Call::Start, Call::Link, Call::Initialize, Call::Authenticate, Call::Session];

/// A house whose pools would pause for longer than any test is patient, if they took anything for a failure.
fn unforgiving(plan: Plan) -> House {
    House::new(Plan { backoff: Duration::from_secs(3600), ..plan })
}

/// The one sandbox there is, once its start has come to this step.
async fn starting(house: &House, step: Call) -> SlotId {
    within("a start", house.engine.reached(step, 1)).await;
    let one = house.census.records().into_keys().next();
    one.expect("its start is under way")
}

/// Waits until one is gone and the stock is full without it. It may not become ready meanwhile.
async fn replaced(house: &House, slot: &SlotId) {
    let mut changes = house.census.subscribe();
    within("it is replaced", async {
        loop {
            let state = house.census.records().get(slot).map(|record| record.state);
            assert!(!matches!(state, Some(SandboxState::Ready | SandboxState::Leased)), "it is {state:?}");
            if state.is_none() && house.counts().ready == house.plan.warm {
                return;
            }
            changes.changed().await.expect("the census lives");
        }
    })
    .await;
}

fn assert_nothing_failed(house: &House) {
    let figures = house.pool(0).expect("it serves").figures();
    assert!(figures.failures.is_empty() && figures.failing.is_none(), "{:?}", figures.failures);
}

#[tokio::test]
async fn what_is_destroyed_while_it_starts_never_becomes_ready_is_no_failure_and_is_replaced() {
    for (step, way) in STEPS.into_iter().flat_map(|step| [(step, Way::Slow), (step, Way::Never)]) {
        let house = unforgiving(Plan::default());
        house.engine.next(step, [way]);
        let slot = starting(&house, step).await;
        assert!(house.pools.destroy(&slot), "{step:?} {way:?}");
        replaced(&house, &slot).await;
        assert_nothing_failed(&house);
        assert_eq!(house.engine.times(Call::Create), 2, "{step:?} {way:?}");
        house.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_destroyed_at_the_very_moment_it_takes_a_step_is_no_failure_and_is_replaced() {
    // It is a matter of moments, so not once.
    for step in STEPS.into_iter().cycle().take(36) {
        let house = unforgiving(Plan::default());
        let slot = starting(&house, step).await;
        // It may have become ready just now.
        assert!(house.pools.destroy(&slot), "{step:?}");
        let full_without = || house.counts().ready == 1 && house.census.record(&slot).is_none();
        until(&format!("it is replaced, after {step:?}"), full_without).await;
        assert_nothing_failed(&house);
        house.finish().await;
    }
}

#[tokio::test]
async fn who_waits_for_a_sandbox_that_is_destroyed_gets_the_next_one() {
    for step in STEPS {
        let house = Arc::new(unforgiving(Plan { warm: 0, cap: 1, ..Plan::default() }));
        house.engine.next(step, [Way::Never, Way::Never]);
        let waiter = tokio::spawn({
            let house = Arc::clone(&house);
            async move { house.lease(&user(1)).await }
        });
        for times in 1..=2 {
            within("a start", house.engine.reached(step, times)).await;
            let starting =
                house.census.records().into_iter().find(|(_, record)| record.state == SandboxState::Starting);
            assert!(house.pools.destroy(&starting.expect("its start is under way").0));
        }
        let mut leased = within("a lease", waiter).await.expect("no panic").expect("leased");
        speak(&mut leased, "hello").await.expect("the agent answers");
        drop(leased);
        assert_nothing_failed(&house);
        House::unwrap(house).finish().await;
    }
}

#[tokio::test]
async fn what_is_destroyed_twice_or_is_gone_already_changes_nothing() {
    let house = unforgiving(Plan::default());
    house.engine.next(Call::Link, [Way::Never]);
    let slot = starting(&house, Call::Link).await;
    assert!(house.pools.destroy(&slot));
    assert!(house.pools.destroy(&slot), "it isn't gone yet");
    replaced(&house, &slot).await;
    let before = house.engine.ours();
    assert!(!house.pools.destroy(&slot));
    let mut leased = within("a lease", house.lease(&user(1))).await.expect("leased");
    assert!(before.contains(leased.lease.slot().id()), "its replacement was destroyed too");
    speak(&mut leased, "hello").await.expect("the agent answers");
    drop(leased);
    house.finish().await;
}

#[tokio::test]
async fn starts_that_are_destroyed_over_and_over_never_take_more_room_than_there_is() {
    let house = unforgiving(Plan { cap: 3, warm: 2, ..Plan::default() });
    house.engine.always(Call::Remove, Way::Slow);
    for times in 1..=30 {
        let step = STEPS[times % STEPS.len()];
        let before = house.engine.times(step);
        within("a start", house.engine.reached(step, before + 1)).await;
        for (slot, record) in house.census.records() {
            if record.state != SandboxState::Ending {
                house.pools.destroy(&slot);
            }
        }
    }
    house.ready(2).await;
    assert_nothing_failed(&house);
    assert!(house.engine.seen().most <= 3, "{:?}", house.engine.seen());
    house.all_permits_are_there().await;
    house.finish().await;
}

#[tokio::test]
async fn a_template_that_is_drained_ends_what_it_is_starting() {
    for step in STEPS {
        let house = unforgiving(Plan::default());
        house.engine.next(step, [Way::Never]);
        let slot = starting(&house, step).await;
        let pool = house.pool(0).expect("it serves");
        pool.set_mode(Mode::Draining);
        until("nothing is left", || house.counts() == Counts::default()).await;
        let told = within("a refusal", house.lease(&user(1))).await;
        assert!(matches!(told, Err(LeaseError::Refused(Refusal::Draining))), "{told:?}");
        assert_nothing_failed(&house);
        pool.set_mode(Mode::Active);
        drop(pool);
        replaced(&house, &slot).await;
        house.finish().await;
    }
}
