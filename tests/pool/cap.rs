//! What there is at most, and whose it is.

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::{
    engine::{
        INSTANCE, LOOK_ALIKES,
        script::{Call, Way},
    },
    house::{House, Plan},
    users::user,
    wait::{until, within},
};
use greenroom::ids::SlotId;

/// Every way in which an engine can be of use and of trouble, over and over.
const TROUBLE: [Way; 5] = [Way::Slow, Way::Ok, Way::Twice, Way::Never, Way::Ok];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starting_ready_leased_and_ending_never_exceed_the_cap_nor_starts_their_limit() {
    let house = Arc::new(House::new(Plan { cap: 5, warm: 3, start_limit: 2, ..Plan::default() }));
    house.engine.always(Call::Remove, Way::Slow);
    house.engine.next(Call::Create, TROUBLE);
    house.engine.next(Call::Start, TROUBLE);
    house.engine.next(Call::Remove, TROUBLE.iter().cycle().take(30).copied());
    let mut opens = JoinSet::new();
    for number in 0..60 {
        let house = Arc::clone(&house);
        opens.spawn(async move { drop(house.lease(&user(number % 7)).await) });
    }
    within("all waiters end", async {
        while let Some(ended) = opens.join_next().await {
            ended.expect("no panic");
            let counts = house.counts();
            assert!(counts.total() <= 5, "{counts:?}");
        }
    })
    .await;
    let seen = house.engine.seen();
    assert!(seen.most <= 5, "{seen:?}");
    assert!(seen.most_starting <= 2, "{seen:?}");
    assert!(seen.most >= 3 && seen.most_starting == 2, "the limits were never reached: {seen:?}");
    House::unwrap(house).finish().await;
}

#[tokio::test]
async fn every_container_of_ours_is_known_or_gone_after_a_sweep() {
    let house = House::new(Plan { cap: 3, warm: 1, ..Plan::default() });
    // One that the engine makes after it has said that it won't, one of an earlier server, one that won't go at first.
    house.engine.next(Call::Create, [Way::Late]);
    let leftovers = [SlotId::random(), SlotId::random()];
    for slot in &leftovers {
        house.engine.plant(INSTANCE, slot);
    }
    house.engine.next(Call::Remove, [Way::Error]);
    house.ready(1).await;
    until("the late one is there", || house.engine.seen().made >= 2).await;
    until("nothing is being removed", || house.counts().ending == 0).await;
    let _stuck = house.sweep().await;
    house.sweep().await.expect("swept");
    assert_eq!(house.strangers(), []);
    assert_eq!(house.engine.ours().len(), house.counts().total());
    house.finish().await;
}

#[tokio::test]
async fn a_list_that_names_everything_twice_destroys_nothing_that_lives() {
    let house = House::new(Plan { cap: 3, warm: 2, ..Plan::default() });
    house.ready(2).await;
    let before = house.engine.ours();
    house.engine.always(Call::List, Way::Twice);
    house.sweep().await.expect("swept");
    assert_eq!(house.engine.ours(), before);
    house.finish().await;
}

#[tokio::test]
async fn nothing_without_our_exact_label_is_touched() {
    let house = House::new(Plan { cap: 3, warm: 2, ..Plan::default() });
    house.ready(2).await;
    // Look-alikes of a sandbox that lives, too: another server's container for a slot of the same id.
    let slot = house.engine.ours().first().cloned().expect("two are ready");
    for label in LOOK_ALIKES {
        house.engine.plant(label, &slot);
    }
    house.sweep().await.expect("swept");
    drop(within("a lease", house.lease(&user(1))).await.expect("leased"));
    drop(within("a lease", house.lease(&user(1))).await.expect("leased"));
    house.sweep().await.expect("swept");
    let engine = Arc::clone(&house.engine);
    house.finish().await;
    assert_eq!(engine.others(), 2 * LOOK_ALIKES.len());
    assert_eq!(engine.seen().trespasses, [""; 0]);
}
