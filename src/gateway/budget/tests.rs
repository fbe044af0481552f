//! Whatever calls do, however they end and whoever goes away: never more than the budget, and everything comes back.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use proptest::prelude::*;
use tokio::{task::JoinSet, time::Instant};

use super::{purse::PATIENCE, *};
use crate::{
    config::Budget,
    ids::{SessionId, TierName, UserId},
};

/// Some noon.
const NOON: i64 = 1_800_014_400;

fn budget(hour: (u64, u64), day: (u64, u64), session: (u64, u64)) -> Budget {
    Budget {
        input_tokens_per_hour: Some(hour.0),
        output_tokens_per_hour: Some(hour.1),
        input_tokens_per_day: Some(day.0),
        output_tokens_per_day: Some(day.1),
        input_tokens_per_session: Some(session.0),
        output_tokens_per_session: Some(session.1),
        bytes_per_token: None,
    }
}

fn hourly(input: u64, output: u64) -> Budget {
    Budget { input_tokens_per_hour: Some(input), output_tokens_per_hour: Some(output), ..Budget::default() }
}

struct House {
    budgets: Budgets,
    seconds: Arc<AtomicI64>,
}

impl House {
    fn new(usual: &Budget) -> Self {
        let seconds = Arc::new(AtomicI64::new(NOON));
        let clock = Arc::clone(&seconds);
        let clock = move || Timestamp::from_second(clock.load(Ordering::SeqCst)).expect("a time");
        Self { budgets: Budgets::with_clock(usual, &BTreeMap::new(), Arc::new(clock)), seconds }
    }

    fn pass(&self, hours: i64) {
        self.seconds.fetch_add(hours * 3600, Ordering::SeqCst);
    }

    async fn account(&self, user: &str) -> Account {
        self.account_with(user, Vec::new()).await
    }

    async fn account_with(&self, user: &str, spent: Vec<HourSpent>) -> Account {
        let user = UserId::parse(user).expect("a good name");
        let load = |_hour| std::future::ready(Ok::<_, ()>(spent.clone()));
        let account = self.budgets.account(&user, None, &SessionId::random(), Cost::default(), load).await;
        account.expect("it loads")
    }

    async fn standing(&self, user: &str, window: Window) -> Standing {
        let user = UserId::parse(user).expect("a good name");
        let load = |_hour| std::future::ready(Ok::<_, ()>(Vec::new()));
        let standings = self.budgets.standings(&user, None, load).await.expect("it loads");
        standings.into_iter().find(|standing| standing.window == window).expect("there is one")
    }
}

const fn need(input: u64, output: u64) -> Need {
    Need { input, output, output_min: if output == 0 { 0 } else { 1 }, boundless: false }
}

const fn cost(input: u64, output: u64) -> Cost {
    Cost { input, output }
}

async fn reserve(account: &Account, need: Need) -> Result<Reservation, Exhausted> {
    let limits = account.limits().expect("there is a budget");
    account.reserve(limits, need).await.map(|reservation| reservation.expect("it has a book"))
}

#[tokio::test(start_paused = true)]
async fn sixty_four_calls_at_once_spend_a_budget_for_ten_exactly() {
    let house = House::new(&hourly(100, 50));
    let account = house.account("ada").await;
    let mut calls = JoinSet::new();
    for _ in 0..64 {
        let account = account.clone();
        calls.spawn(async move {
            let reservation = reserve(&account, need(10, 5)).await?;
            let held = reservation.cost();
            tokio::time::sleep(Duration::from_millis(20)).await;
            reservation.settle(held);
            Ok::<_, Exhausted>(held)
        });
    }
    let ended = calls.join_all().await;
    assert_eq!(ended.iter().filter(|call| **call == Ok(cost(10, 5))).count(), 10);
    let refused = ended.iter().filter_map(|call| call.err()).collect::<Vec<_>>();
    assert_eq!(refused.len(), 54);
    assert!(refused.iter().all(|no| no.window == Window::Hour && no.to_string().contains("this hour")), "{refused:?}");
    let now = house.standing("ada", Window::Hour).await;
    assert_eq!((now.spent, now.reserved), (cost(100, 50), cost(0, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_others_in_line_and_gets_what_they_give_back() {
    let house = House::new(&hourly(100, 100));
    let account = house.account("ada").await;
    let first = reserve(&account, need(80, 80)).await.expect("there is room");
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let account = account.clone();
        waiting.push(tokio::spawn(async move { reserve(&account, need(40, 40)).await }));
        tokio::task::yield_now().await;
    }
    // There would be room for it, but others were there before.
    let small = account.clone();
    let small = tokio::spawn(async move { reserve(&small, need(1, 1)).await });
    tokio::task::yield_now().await;
    assert!(!small.is_finished());
    first.settle(cost(20, 20));
    for call in waiting {
        let held = call.await.expect("no panic").expect("there is room now");
        assert_eq!(held.cost(), cost(40, 40));
        std::mem::forget(held);
    }
    // All is spent or held: it waits until its patience ends.
    let began = Instant::now();
    assert_eq!(small.await.expect("no panic").expect_err("nothing is left").window, Window::Hour);
    assert!(began.elapsed() >= PATIENCE);
}

#[tokio::test(start_paused = true)]
async fn what_is_left_is_given_where_the_output_does_not_fit() {
    let house = House::new(&hourly(100, 50));
    let account = house.account("ada").await;
    let first = reserve(&account, need(1, 1000)).await.expect("as much as there is");
    assert_eq!(first.cost(), cost(1, 50));
    // Somebody else has it all: the next waits for what comes back, and takes that.
    let next = account.clone();
    let next = tokio::spawn(async move { reserve(&next, need(1, 1000)).await });
    tokio::task::yield_now().await;
    first.settle(cost(1, 20));
    let next = next.await.expect("no panic").expect("there is some");
    assert_eq!(next.cost(), cost(1, 30));
    next.settle(cost(1, 30));
    assert!(reserve(&account, need(1, 1)).await.is_err());
    // What writes nothing costs none of it.
    assert!(reserve(&account, need(1, 0)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_can_not_fit_is_refused_at_once_and_says_for_how_long() {
    let house = House::new(&budget((100, 100), (1050, 1050), (150, 1000)));
    let account = house.account("ada").await;
    let no = |need| {
        let account = account.clone();
        async move { reserve(&account, need).await.expect_err("no room").to_string() }
    };
    assert_eq!(
        no(need(101, 1)).await,
        "the token budget of this hour is used up; it begins anew at 2027-01-15T13:00:00Z"
    );
    assert_eq!(no(need(151, 1)).await, "the token budget of this session is used up; open another session");
    let mine = house.account("ada").await;
    reserve(&mine, need(100, 1)).await.expect("fits").settle(cost(100, 1));
    house.pass(1);
    reserve(&mine, need(50, 1)).await.expect("another hour").settle(cost(50, 1));
    assert_eq!(mine.look().check().expect_err("used up").window, Window::Session);
    assert!(account.look().check().is_ok(), "another session of theirs goes on");
    for _ in 0..9 {
        house.pass(1);
        let fresh = house.account("ada").await;
        reserve(&fresh, need(100, 1)).await.expect("another hour").settle(cost(100, 1));
    }
    assert_eq!(no(need(1, 1)).await, "the token budget of this day is used up; it begins anew at 2027-01-16T00:00:00Z");
    house.pass(24);
    assert!(reserve(&account, need(1, 1)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_call_counts_where_it_began_whenever_it_ends() {
    let house = House::new(&hourly(100, 100));
    let account = house.account("ada").await;
    let first = reserve(&account, need(60, 60)).await.expect("fits");
    assert_eq!(i64::try_from(first.hour()).expect("small"), NOON / 3600);
    house.pass(1);
    let second = reserve(&account, need(100, 100)).await.expect("a new hour has a whole budget");
    first.settle(cost(60, 60));
    let now = house.standing("ada", Window::Hour).await;
    assert_eq!((now.spent, now.reserved), (cost(0, 0), cost(100, 100)));
    second.settle(cost(100, 100));
    house.seconds.fetch_sub(7200, Ordering::SeqCst);
    assert!(reserve(&account, need(1, 1)).await.is_err(), "setting the clock back brings no second budget");
    let day = house.standing("ada", Window::Day).await;
    assert_eq!((day.spent, day.reserved), (cost(160, 160), cost(0, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_call_without_a_bound_has_what_is_left_to_itself() {
    let house = House::new(&hourly(100, 1000));
    let account = house.account("ada").await;
    let boundless = Need { boundless: true, ..need(10, 10) };
    let held = reserve(&account, boundless).await.expect("fits");
    assert_eq!(held.cost(), cost(100, 10));
    let other = account.clone();
    let other = tokio::spawn(async move { reserve(&other, need(10, 10)).await });
    tokio::task::yield_now().await;
    assert!(!other.is_finished());
    held.settle(cost(70, 10));
    let other = other.await.expect("no panic").expect("fits");
    assert_eq!(other.cost(), cost(10, 10));
    // It waits until it is alone.
    let last = account.clone();
    let last = tokio::spawn(async move { reserve(&last, boundless).await });
    tokio::task::yield_now().await;
    drop(other);
    assert_eq!(last.await.expect("no panic").expect("fits").cost(), cost(30, 10));
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_in_the_line_leaves_nothing_behind() {
    let house = House::new(&hourly(100, 100));
    let account = house.account("ada").await;
    let held = reserve(&account, need(100, 100)).await.expect("fits");
    let mut line = Vec::new();
    for _ in 0..20 {
        let account = account.clone();
        line.push(tokio::spawn(async move { reserve(&account, need(50, 50)).await.map(|held| held.cost()) }));
        tokio::task::yield_now().await;
    }
    line.iter().take(19).for_each(tokio::task::JoinHandle::abort);
    tokio::task::yield_now().await;
    drop(held);
    let last = line.pop().expect("twenty were there").await.expect("no panic");
    assert_eq!(last, Ok(cost(50, 50)));
    let now = house.standing("ada", Window::Hour).await;
    assert_eq!((now.spent, now.reserved), (cost(0, 0), cost(0, 0)), "each reservation was dropped");
}

#[tokio::test]
async fn what_was_spent_before_is_known_and_not_counted_twice() {
    let house = House::new(&budget((100, 100), (200, 200), (1000, 1000)));
    let hour = u64::try_from(NOON / 3600).expect("after 1970");
    let spent = [(hour, 30), (hour - 1, 50), (hour - 12, 20), (hour - 13, 999)];
    let spent = spent.map(|(hour, tokens)| HourSpent { hour, cost: cost(tokens, tokens) });
    let account = house.account_with("ada", spent.to_vec()).await;
    // Read again it would be twice as much; but it is in the book already.
    let _other = house.account_with("ada", spent.to_vec()).await;
    let (of_hour, of_day) = (house.standing("ada", Window::Hour).await, house.standing("ada", Window::Day).await);
    assert_eq!((of_hour.spent, of_day.spent), (cost(30, 30), cost(100, 100)));
    assert_eq!(reserve(&account, need(70, 70)).await.expect("fits").cost(), cost(70, 70));
    assert!(reserve(&account, need(71, 1)).await.is_err());
}

#[tokio::test]
async fn a_tiers_budget_binds_and_new_settings_bind_the_next_call() {
    let house = House::new(&Budget::default());
    let (user, gold) = (UserId::parse("ada").expect("a good name"), TierName::parse("gold").expect("a good name"));
    let load = |_hour| std::future::ready(Ok::<_, ()>(Vec::new()));
    let session = SessionId::random();
    let account = house.budgets.account(&user, Some(gold), &session, Cost::default(), load).await.expect("loads");
    assert!(account.limits().is_none(), "there is no budget");
    account.spend(account.hour(), cost(5, 5));
    house.budgets.replace(&hourly(1, 1), &BTreeMap::from([("gold".to_owned(), hourly(20, 20))]));
    assert_eq!(reserve(&account, need(15, 15)).await.expect("fits").cost(), cost(15, 15));
    assert!(reserve(&account, need(16, 1)).await.is_err(), "what was spent without a budget counts");
    house.budgets.replace(&Budget::default(), &BTreeMap::new());
    assert!(account.limits().is_none());
}

#[tokio::test]
async fn the_book_forgets_only_what_the_store_knows() {
    let house = House::new(&hourly(100, 100));
    let account = house.account("ada").await;
    account.spend(account.hour(), cost(7, 7));
    drop(account);
    let fill = async |from: usize, to: usize| {
        for number in from..to {
            drop(house.account(&format!("user-{number}")).await);
        }
    };
    fill(0, 17_000).await;
    assert!(house.budgets.count() < 2_000, "{} purses are kept", house.budgets.count());
    // It isn't written down: it must not be read from there.
    let account = house.account("ada").await;
    assert_eq!(house.standing("ada", Window::Hour).await.spent, cost(7, 7));
    account.written(cost(7, 7));
    drop(account);
    fill(17_000, 34_000).await;
    assert_eq!(house.standing("ada", Window::Hour).await.spent, cost(0, 0), "it is read from the store again");
}

/// What may happen to calls.
#[derive(Debug, Clone)]
enum Step {
    Ask {
        session: usize,
        input: u64,
        output: u64,
        boundless: bool,
    },
    /// Ends a call with so many percent of what was held.
    Settle {
        which: usize,
        percent: u64,
    },
    Drop {
        which: usize,
    },
    /// Somebody in the line goes away.
    Leave {
        which: usize,
    },
    Pass {
        hours: i64,
    },
    /// Time for the line's patience.
    Wait,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ask = (0..3_usize, 0..60_u64, 0..60_u64, prop::bool::weighted(0.1))
        .prop_map(|(session, input, output, boundless)| Step::Ask { session, input, output, boundless });
    let step = prop_oneof![
        8 => ask,
        5 => (any::<usize>(), 0..=100_u64).prop_map(|(which, percent)| Step::Settle { which, percent }),
        2 => any::<usize>().prop_map(|which| Step::Drop { which }),
        1 => any::<usize>().prop_map(|which| Step::Leave { which }),
        1 => (1..30_i64).prop_map(|hours| Step::Pass { hours }),
        1 => Just(Step::Wait),
    ];
    prop::collection::vec(step, 1..60)
}

type Asking = tokio::task::JoinHandle<Result<Reservation, Exhausted>>;

async fn play(steps: Vec<Step>) {
    let limit = budget((100, 90), (250, 200), (160, 150));
    let house = House::new(&limit);
    let mut accounts = Vec::new();
    for _ in 0..3 {
        accounts.push(house.account("ada").await);
    }
    let (mut held, mut asking): (Vec<Reservation>, Vec<Asking>) = (Vec::new(), Vec::new());
    for step in steps {
        match step {
            Step::Ask { session, input, output, boundless } => {
                let account = accounts[session].clone();
                let need = Need { boundless, ..need(input, output) };
                asking.push(tokio::spawn(async move { reserve(&account, need).await }));
            }
            Step::Settle { which, percent } if !held.is_empty() => {
                let call = held.swap_remove(which % held.len());
                let Cost { input, output } = call.cost();
                call.settle(cost(input * percent / 100, output * percent / 100));
            }
            Step::Drop { which } if !held.is_empty() => drop(held.swap_remove(which % held.len())),
            Step::Leave { which } if !asking.is_empty() => asking.swap_remove(which % asking.len()).abort(),
            Step::Pass { hours } => house.pass(hours),
            Step::Wait => tokio::time::sleep(PATIENCE * 2).await,
            _ => {}
        }
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        let (done, waits) = asking.into_iter().partition(Asking::is_finished);
        asking = waits;
        for call in done {
            held.extend(call.await.expect("no panic").ok());
        }
        let mut standings = vec![house.standing("ada", Window::Hour).await, house.standing("ada", Window::Day).await];
        standings.extend(accounts.iter().filter_map(|account| account.look().standing()));
        for Standing { limit, spent, reserved, window, .. } in standings {
            let within =
                |limit: Option<u64>, spent: u64, reserved: u64| spent + reserved <= limit.expect("there is one");
            assert!(
                within(limit.0, spent.input, reserved.input),
                "{window:?}: {spent:?} and {reserved:?} of {limit:?}"
            );
            assert!(
                within(limit.1, spent.output, reserved.output),
                "{window:?}: {spent:?} and {reserved:?} of {limit:?}"
            );
        }
    }
    held.clear();
    asking.iter().for_each(Asking::abort);
    for call in asking {
        drop(call.await);
    }
    for account in &accounts {
        let left = account.look().standing().expect("it has an account");
        assert_eq!(left.reserved, cost(0, 0), "everything came back");
    }
    assert_eq!(house.standing("ada", Window::Day).await.reserved, cost(0, 0));
}

proptest! {
    #[test]
    fn nothing_calls_do_spends_more_than_the_budget_or_keeps_a_reservation(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(play(steps));
    }
}
