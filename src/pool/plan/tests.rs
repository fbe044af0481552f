//! The planner on its own: single plans, and plans carried out one after the other in a small world.

use proptest::prelude::*;

use super::*;

fn pool(target: usize, fresh: usize) -> PoolState {
    PoolState { target, min: target, fresh, memory_mib: 100, may_start: true, ..PoolState::default() }
}

fn room(sandboxes: usize) -> Room {
    Room { sandboxes, memory_mib: sandboxes as u64 * 100 }
}

fn situation(pools: Vec<PoolState>, free: usize, turns: usize) -> Situation {
    Situation { pools, free: room(free), coming: Room::default(), excess: Room::default(), turns }
}

#[test]
fn callers_who_wait_come_before_stock() {
    let waits = PoolState { waiting: 1, ..pool(0, 0) };
    assert_eq!(plan(situation(vec![pool(4, 0), waits], 8, 1)), [Step::Start(1)]);
}

#[test]
fn two_pools_whose_callers_wait_take_turns() {
    let first = PoolState { waiting: 3, last_turn: 7, ..pool(0, 0) };
    let second = PoolState { waiting: 3, last_turn: 3, ..pool(0, 0) };
    let steps = plan(situation(vec![first, second], 8, 4));
    assert_eq!(steps, [Step::Start(1), Step::Start(0), Step::Start(1), Step::Start(0)]);
}

#[test]
fn idle_stock_makes_room_for_another_pools_caller() {
    let waits = PoolState { waiting: 1, ..pool(0, 0) };
    assert_eq!(plan(situation(vec![pool(4, 4), waits], 0, 2)), [Step::Retire(0)]);
    let mut ending = situation(vec![pool(4, 3), waits], 0, 2);
    ending.coming = room(1);
    assert_eq!(plan(ending), [], "what is ending already is room enough");
}

#[test]
fn several_small_ones_make_room_for_a_large_one() {
    let large = PoolState { waiting: 1, memory_mib: 250, ..pool(0, 0) };
    let mut now = situation(vec![pool(4, 4), large], 0, 1);
    now.free.sandboxes = 3;
    assert_eq!(plan(now), [Step::Retire(0), Step::Retire(0), Step::Retire(0)]);
}

#[test]
fn a_stale_one_goes_when_a_fresh_one_is_one_too_many() {
    let changed = PoolState { stale: 4, ..pool(4, 0) };
    assert_eq!(plan(situation(vec![changed], 4, 1)), [Step::Start(0)]);
    let one_ready = PoolState { stale: 4, ..pool(4, 1) };
    assert_eq!(plan(situation(vec![one_ready], 4, 1)), [Step::Retire(0), Step::Start(0)]);
}

#[test]
fn without_room_for_both_the_stale_one_goes_first() {
    let changed = PoolState { stale: 4, ..pool(4, 0) };
    assert_eq!(plan(situation(vec![changed], 0, 1)), [Step::Retire(0)]);
}

#[test]
fn who_waits_for_room_that_may_never_come_holds_nobody_up() {
    let large = PoolState { waiting: 1, memory_mib: 4_000, ..pool(0, 0) };
    let small = PoolState { waiting: 1, last_turn: 5, ..pool(1, 0) };
    assert_eq!(plan(situation(vec![large, small], 3, 2)), [Step::Start(1), Step::Start(1)]);
}

#[test]
fn what_is_beyond_the_capacity_is_no_room_to_come() {
    let mut now = situation(vec![pool(2, 2), PoolState { waiting: 1, ..pool(0, 0) }], 0, 1);
    (now.coming, now.excess) = (room(1), room(1));
    assert_eq!(plan(now), [Step::Retire(0)]);
}

#[test]
fn stock_beyond_the_minimum_gives_way_to_a_pool_below_its_own() {
    let rich = PoolState { min: 1, ..pool(6, 6) };
    assert_eq!(plan(situation(vec![rich, pool(2, 0)], 0, 1)), [Step::Retire(0)]);
    assert_eq!(
        plan(situation(vec![pool(6, 6), pool(2, 0)], 0, 1)),
        [],
        "nobody falls below their own minimum for stock"
    );
}

#[test]
fn a_pool_that_fails_tries_one_at_a_time_and_one_in_its_pause_none() {
    let careful = PoolState { careful: true, waiting: 5, ..pool(4, 0) };
    assert_eq!(plan(situation(vec![careful], 9, 4)), [Step::Start(0)]);
    let pausing = PoolState { may_start: false, waiting: 5, ..pool(4, 0) };
    assert_eq!(plan(situation(vec![pausing], 9, 4)), []);
}

#[test]
fn a_drained_pool_gives_up_all_it_has() {
    let drained = PoolState { drained: true, stale: 1, waiting: 2, ..pool(4, 1) };
    assert_eq!(plan(situation(vec![drained], 9, 4)), [Step::Retire(0), Step::Retire(0)]);
}

#[test]
fn idle_ones_go_until_a_smaller_capacity_holds() {
    let rich = PoolState { min: 1, ..pool(3, 3) };
    let mut now = situation(vec![pool(2, 2), rich], 0, 1);
    (now.excess, now.coming) = (room(4), room(1));
    assert_eq!(plan(now), [Step::Retire(1), Step::Retire(1), Step::Retire(0)]);
}

fn some_pool() -> impl Strategy<Value = PoolState> {
    let numbers = (0_usize..5, 0_usize..5, 0_usize..5, 0_usize..3, 0_usize..6, 0_usize..4, 1_u64..4);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (numbers, flags).prop_map(|((waiting, fresh, stale, starting, target, min, memory), flags)| {
        let (may_start, careful, courteous, drained) = flags;
        let (min, memory_mib) = (min.min(target), memory * 100);
        // Who waits has found nothing that isn't promised.
        let (fresh, stale) = if waiting > 0 { (0, 0) } else { (fresh, stale) };
        let states = PoolState { waiting, fresh, stale, starting, target, min, memory_mib, ..PoolState::default() };
        PoolState { may_start, careful, courteous, drained, ..states }
    })
}

/// Carries a plan out at once: what starts is ready, what is retired is gone, who waits is served.
fn carry_out(pools: &mut [PoolState], free: &mut Room, steps: &[Step]) {
    for step in steps {
        match *step {
            Step::Start(index) => {
                free.take(pools[index].memory_mib);
                pools[index].fresh += 1;
            }
            Step::Retire(index) => {
                free.give(pools[index].memory_mib);
                if pools[index].stale > 0 { pools[index].stale -= 1 } else { pools[index].fresh -= 1 }
            }
        }
    }
    for pool in pools {
        let served = pool.waiting.min(pool.fresh + pool.stale);
        pool.waiting -= served;
        // A session that nobody ends: its room is gone.
        let old = served.min(pool.stale);
        pool.stale -= old;
        pool.fresh -= served - old;
    }
}

proptest! {
    #[test]
    fn no_plan_starts_more_than_there_is_room_and_turns_for_or_retires_what_is_not_there(
        pools in prop::collection::vec(some_pool(), 0..4), free in 0_usize..6, memory in 0_u64..12, turns in 0_usize..4,
        coming in 0_usize..4, excess in 0_usize..4
    ) {
        // Of what there is too much taken, nothing is free.
        let excess = Room {
            sandboxes: if free == 0 { excess } else { 0 }, memory_mib: if memory == 0 { excess as u64 * 100 } else { 0 },
        };
        let now = Situation {
            pools: pools.clone(), free: Room { sandboxes: free, memory_mib: memory * 100 }, coming: room(coming), excess, turns,
        };
        let steps = plan(now);
        let started: Vec<_> = steps.iter().filter_map(|step| if let Step::Start(index) = step { Some(*index) } else { None }).collect();
        prop_assert!(started.len() <= turns.min(free));
        prop_assert!(started.iter().map(|index| pools[*index].memory_mib).sum::<u64>() <= memory * 100);
        for (index, pool) in pools.iter().enumerate() {
            let starts = started.iter().filter(|other| **other == index).count();
            let retired = steps.iter().filter(|step| **step == Step::Retire(index)).count();
            prop_assert!(retired <= pool.fresh + pool.stale);
            prop_assert!(starts == 0 || (pool.may_start && !pool.drained));
            prop_assert!(starts + pool.starting <= 1 || !pool.careful || starts == 0);
            prop_assert!(pool.fresh + pool.stale + pool.starting + starts <= (pool.target + pool.waiting).max(pool.fresh + pool.stale + pool.starting) + pool.stale);
        }
    }

    #[test]
    fn plans_come_to_rest_and_leave_nobody_waiting_for_whom_there_is_room(
        pools in prop::collection::vec(some_pool(), 1..4), free in 0_usize..8, memory in 0_u64..16, turns in 1_usize..4
    ) {
        let mut pools: Vec<_> = pools
            .into_iter()
            .map(|pool| PoolState { starting: 0, may_start: true, careful: false, courteous: false, drained: false, ..pool })
            .collect();
        let mut free = Room { sandboxes: free, memory_mib: memory * 100 };
        let mut rounds = 0;
        loop {
            let steps = plan(Situation { pools: pools.clone(), free, coming: Room::default(), excess: Room::default(), turns });
            if steps.is_empty() {
                break;
            }
            carry_out(&mut pools, &mut free, &steps);
            rounds += 1;
            prop_assert!(rounds < 100, "the plans never come to rest");
        }
        for pool in pools.iter().filter(|pool| pool.waiting > 0) {
            prop_assert!(!free.holds(pool.memory_mib));
        }
        for pool in &pools {
            let short_of_room = !free.holds(pool.memory_mib);
            prop_assert!(pool.fresh >= pool.target || short_of_room);
            prop_assert!(pool.stale == 0 || short_of_room);
        }
    }
}
