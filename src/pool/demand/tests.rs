//! What is measured of demand, and the target that follows, step by step and for whatever happens.

use proptest::prelude::*;

use super::*;

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// A pool whose starts take a second, two at a time.
fn measured() -> Demand {
    let mut demand = Demand::new(2);
    for _ in 0..50 {
        demand.started(secs(1.0));
    }
    demand
}

fn target(demand: &mut Demand, now: f64) -> usize {
    demand.target(secs(now), 1, 50)
}

#[test]
fn nothing_asked_for_means_the_minimum() {
    assert_eq!(target(&mut Demand::new(2), 1e6), 1);
}

#[test]
fn an_even_demand_is_measured_as_what_it_is() {
    let mut demand = measured();
    for open in 1..=300 {
        demand.opened(secs(f64::from(open) * 2.0));
    }
    let sizing = demand.sizing(secs(600.0), 1, 50);
    assert!((sizing.rate - 0.5).abs() < 0.01, "{sizing:?}");
    assert!((sizing.rush - 1.0).abs() < f64::EPSILON, "each replacement is there before the next is asked for");
    assert_eq!(target(&mut demand, 600.0), 4);
}

#[test]
fn a_rush_counts_at_once_for_ten_minutes_and_then_fades() {
    let mut demand = measured();
    for _ in 0..20 {
        demand.opened(secs(100.0));
    }
    let targets = [100.0, 700.0, 1000.0, 1300.0, 1600.0].map(|now| target(&mut demand, now));
    assert_eq!(targets, [20, 20, 7, 3, 1], "less by the factor e every five minutes");
}

#[test]
fn a_template_that_keeps_nothing_by_itself_does_so_for_a_quarter_of_an_hour_after_an_open() {
    let mut demand = measured();
    demand.opened(secs(100.0));
    let targets = [100.0, 700.0, 1000.0, 1200.0].map(|now| demand.target(secs(now), 0, 9));
    assert_eq!(targets, [2, 2, 1, 0]);
}

#[test]
fn a_rush_is_what_starts_could_not_keep_up_with() {
    let mut demand = measured();
    // Ten opens in two seconds, while four sandboxes can be started.
    for open in 0..10 {
        demand.opened(secs(100.0 + f64::from(open) / 5.0));
    }
    let rush = demand.sizing(secs(101.8), 1, 50).rush;
    assert!((rush - 6.4).abs() < 0.01, "{rush}");
}

#[test]
fn an_hour_of_too_much_is_not_remembered_as_an_hour_of_orders() {
    let mut demand = measured();
    for open in 0..36_000 {
        demand.opened(secs(f64::from(open) / 10.0));
    }
    let sizing = demand.sizing(secs(3600.0), 1, 50);
    assert!(sizing.rush <= PATIENCE * 2.0, "{sizing:?}");
    assert!((sizing.rate - 10.0).abs() < 0.1, "{sizing:?}");
}

#[test]
fn starts_that_become_slower_are_noticed_within_a_few() {
    let mut demand = measured();
    assert_eq!(demand.starts.estimate(), secs(1.0));
    for _ in 0..8 {
        demand.started(secs(3.0));
    }
    assert!(demand.starts.estimate() > secs(2.3));
    for _ in 0..24 {
        demand.started(secs(1.0));
    }
    assert!(demand.starts.estimate() < secs(1.1));
}

#[test]
fn new_bounds_count_at_once() {
    let mut demand = measured();
    for _ in 0..20 {
        demand.opened(secs(100.0));
    }
    let targets = [(1, 50), (1, 5), (30, 50), (1, 50), (0, 0)].map(|(min, max)| demand.target(secs(100.0), min, max));
    assert_eq!(targets, [20, 5, 30, 20, 0]);
}

#[test]
fn a_clock_that_steps_back_counts_as_standing_still() {
    let mut demand = measured();
    demand.opened(secs(100.0));
    let before = demand.sizing(secs(100.0), 1, 50);
    demand.opened(secs(50.0));
    let after = demand.sizing(secs(50.0), 1, 50);
    assert!(after.rate > before.rate && after.rush > before.rush);
}

#[derive(Debug, Clone)]
enum Event {
    Opened(Duration),
    Started(Duration),
}

fn event() -> impl Strategy<Value = Event> {
    let any_time = prop_oneof![any::<Duration>(), (0_u64..10_000_000).prop_map(Duration::from_millis)];
    prop_oneof![any_time.clone().prop_map(Event::Opened), any_time.prop_map(Event::Started)]
}

proptest! {
    #[test]
    fn whatever_happens_estimates_are_finite_and_no_open_lowers_the_target(
        events in prop::collection::vec(event(), 0..60), start_limit in any::<usize>(), later in any::<Duration>(),
    ) {
        let mut demand = Demand::new(start_limit);
        for event in events {
            match event {
                Event::Opened(now) => {
                    let before = demand.target(now, 0, 100);
                    demand.opened(now);
                    prop_assert!(demand.target(now, 0, 100) >= before);
                }
                Event::Started(took) => demand.started(took),
            }
            for now in [demand.last, later] {
                let sizing = demand.sizing(now, 0, 100);
                prop_assert!(sizing.rate.is_finite() && sizing.rate >= 0.0);
                prop_assert!(sizing.rush.is_finite() && sizing.rush >= 0.0);
                prop_assert!(!sizing.start_time.is_zero());
            }
        }
    }

    #[test]
    fn with_time_alone_the_target_only_falls(
        opens in prop::collection::vec(0_u64..600_000, 1..80), steps in prop::collection::vec(0_u64..600_000, 1..20),
    ) {
        let mut demand = measured();
        let mut opens = opens;
        opens.sort_unstable();
        for open in &opens {
            demand.opened(Duration::from_millis(*open));
        }
        let mut now = demand.last;
        let mut before = usize::MAX;
        for step in steps {
            let target = demand.target(now, 0, 100);
            prop_assert!(target <= before);
            before = target;
            now += Duration::from_millis(step);
        }
    }
}
