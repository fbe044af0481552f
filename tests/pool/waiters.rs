//! Every waiter ends: served in turn, told why not, or gone by themselves.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use greenroom::{ids::UserId, pool::LeaseError};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    engine::script::{Call, Way},
    house::{House, Plan},
    users::user,
    wait::{until, within},
};

/// How late an answer may be on a busy machine.
const LATE: Duration = Duration::from_secs(5);

/// A house whose only sandbox is taken, and the lease of it.
async fn full_house(plan: Plan) -> (Arc<House>, greenroom::pool::Leased) {
    let house = Arc::new(House::new(Plan { cap: 1, warm: 1, ..plan }));
    let leased = within("a lease", house.lease(&user(0))).await.expect("leased");
    (house, leased)
}

/// Queues the users up one behind the other; each says their number when they are served, and leaves.
async fn queue_up(house: &Arc<House>, users: &[UserId], served: &mpsc::Sender<usize>) -> JoinSet<()> {
    let mut waiters = JoinSet::new();
    for (number, user) in users.iter().enumerate() {
        let (house, user, served) = (Arc::clone(house), user.clone(), served.clone());
        let waiting = house.waiting();
        let arrived = Arc::clone(&house);
        waiters.spawn(async move {
            let leased = house.lease(&user).await.expect("served");
            served.send(number).await.expect("somebody counts");
            drop(leased);
        });
        until("they wait", || arrived.waiting() > waiting).await;
    }
    waiters
}

#[tokio::test]
async fn a_user_is_served_in_the_order_of_their_requests() {
    let (house, first) = full_house(Plan::default()).await;
    let (served, mut order) = mpsc::channel(64);
    let mut waiters = queue_up(&house, &[const { 1 }; 8].map(user), &served).await;
    drop(first);
    for expected in 0..8 {
        assert_eq!(within("the next is served", order.recv()).await, Some(expected));
    }
    while waiters.join_next().await.is_some() {}
    House::unwrap(house).finish().await;
}

#[tokio::test]
async fn a_user_with_500_requests_does_not_starve_one_with_a_single_request() {
    let (house, first) = full_house(Plan::default()).await;
    let (served, mut order) = mpsc::channel(1024);
    let mut users = vec![user(1); 500];
    users.extend([user(2), user(3)]);
    let mut waiters = queue_up(&house, &users, &served).await;
    drop(first);
    let mut turns = Vec::new();
    while turns.len() < 6 {
        turns.push(within("the next is served", order.recv()).await.expect("the sender is ours"));
    }
    let turn_of = |number: usize| turns.iter().position(|served| *served == number);
    assert!(turn_of(500).is_some_and(|turn| turn <= 3), "the second user waited too long: {turns:?}");
    assert!(turn_of(501).is_some_and(|turn| turn <= 4), "the third user waited too long: {turns:?}");
    let mine: Vec<usize> = turns.into_iter().filter(|number| *number < 500).collect();
    assert!(mine.is_sorted(), "the first user's own order was not kept: {mine:?}");
    waiters.shutdown().await;
    until("nobody waits", || house.waiting() == 0).await;
    House::unwrap(house).finish().await;
}

#[tokio::test]
async fn waiters_take_turns_by_user() {
    let (house, first) = full_house(Plan::default()).await;
    let (served, mut order) = mpsc::channel(64);
    // Three of one user, then three of another, then three of a third.
    let users: Vec<UserId> = (0..9).map(|number| user(1 + number / 3)).collect();
    let mut waiters = queue_up(&house, &users, &served).await;
    drop(first);
    let mut turns = Vec::new();
    while turns.len() < 9 {
        turns.push(within("the next is served", order.recv()).await.expect("the sender is ours"));
    }
    assert_eq!(turns, [0, 3, 6, 1, 4, 7, 2, 5, 8]);
    while waiters.join_next().await.is_some() {}
    House::unwrap(house).finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_waiter_is_served_or_timed_out_or_has_gone() {
    let house = Arc::new(House::new(Plan { cap: 2, warm: 1, ..Plan::default() }));
    let mut waiters = JoinSet::new();
    for number in 0..120_u64 {
        let house = Arc::clone(&house);
        waiters.spawn(async move {
            // Deadlines near the time a start takes, so that being served and giving up meet.
            let patience = Duration::from_millis(5 + number % 60);
            let asked = Instant::now();
            match number % 2 {
                0 => drop(tokio::time::timeout(patience, house.lease(&user(number % 5))).await),
                _ => match house.lease_within(&user(number % 5), patience).await {
                    Ok(leased) => drop(leased),
                    Err(LeaseError::Exhausted { waited }) => assert!(waited >= patience, "{waited:?} < {patience:?}"),
                    Err(other) => panic!("{other}"),
                },
            }
            assert!(asked.elapsed() < patience + LATE, "answered {:?} after {patience:?}", asked.elapsed());
        });
    }
    within("all waiters end", async {
        while let Some(ended) = waiters.join_next().await {
            ended.expect("no panic");
        }
    })
    .await;
    until("nobody waits", || house.waiting() == 0).await;
    house.all_permits_are_there().await;
    House::unwrap(house).finish().await;
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_forgets_those_who_leave() {
    let (house, first) = full_house(Plan { queue: 2, ..Plan::default() }).await;
    let (served, _order) = mpsc::channel(4);
    let mut waiters = queue_up(&house, &[user(1), user(2)], &served).await;
    let refused = within("a refusal", house.lease(&user(3))).await;
    assert!(matches!(refused, Err(LeaseError::QueueFull { .. })), "{refused:?}");
    waiters.shutdown().await;
    until("nobody waits", || house.waiting() == 0).await;
    let mut waiters = queue_up(&house, &[user(3), user(4)], &served).await;
    drop(first);
    within("both are served", async { while waiters.join_next().await.is_some() {} }).await;
    House::unwrap(house).finish().await;
}

#[tokio::test]
async fn nobody_passes_those_who_wait() {
    let (house, first) = full_house(Plan::default()).await;
    let (served, mut order) = mpsc::channel(4);
    let mut waiters = queue_up(&house, &[user(1)], &served).await;
    drop(first);
    let other = user(2);
    // Whoever would take what is there must leave it to whoever waits for it.
    within("the one who waits is served", async {
        loop {
            tokio::select! {
                biased;
                number = order.recv() => return assert_eq!(number, Some(0)),
                passed = house.lease_now(&other) => assert!(passed.is_none() || house.waiting() == 0),
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    while waiters.join_next().await.is_some() {}
    House::unwrap(house).finish().await;
}

#[tokio::test]
async fn waiters_are_told_when_sandboxes_can_not_be_started() {
    for call in [Call::Create, Call::Start, Call::Link, Call::Initialize, Call::Session] {
        let house = Arc::new(House::new(Plan { cap: 2, warm: 1, ..Plan::default() }));
        house.engine.always(call, Way::Error);
        let told = within("an answer", house.lease(&user(1))).await;
        assert!(matches!(told, Err(LeaseError::Failing(_))), "{call:?}: {told:?}");
        House::unwrap(house).finish().await;
    }
}
