//! Demand for one pool, as it is measured: how often sandboxes are asked for, how many at once, how long a start takes; and the target that
//! follows from it ([`super::sizing`]).
//!
//! Owned by whoever plans the pool's starts, who asks for the target whenever anything changes. It rises at once, is held for ten minutes and then
//! fades: a stock that grew for a rush is still there when the rush comes back, and nothing is started and destroyed in turns. Memory is
//! constant. There is no clock in here: `now` is the time since some moment that stays the same; one that is earlier than the last
//! counts as the last.
//!
//! Why a minute for the rate: averaged over ten seconds, chance alone tells of twice the rate, and at half load that looks as if starts
//! could not keep up. What a minute is too slow for is a rush, and that is counted apart. The figures are in `docs/performance.md`.

use std::time::Duration;

use super::sizing::{self, Sizing};

/// Opens are averaged over this time, in seconds.
const AVERAGED_OVER: f64 = 60.0;
/// The highest target counts for this long.
const HELD: Duration = Duration::from_secs(600);
/// Then this many seconds leave 37 % of it.
const FADING: f64 = 300.0;
/// Orders that a rush may pile up, in seconds of starts: who came before that is served by now or has given up.
const PATIENCE: f64 = 60.0;
/// A start's time before the first was measured.
const FIRST_GUESS: Duration = Duration::from_secs(2);
/// No start is quicker; keeps divisions sound.
const QUICKEST: Duration = Duration::from_millis(1);

/// What is known of one pool's demand.
#[derive(Debug, Clone)]
pub struct Demand {
    start_limit: usize,
    starts: StartTime,
    /// When the last open came.
    last: Duration,
    /// Opens per second, averaged, at that moment.
    average: f64,
    /// Replacements on order at that moment if there were always stock: each open orders one, and starts take them off as fast as they can.
    ordered: f64,
    highest: Peak,
}

impl Demand {
    /// Nothing is known yet. `start_limit`: starts at the same time.
    #[must_use]
    pub fn new(start_limit: usize) -> Self {
        Self {
            start_limit,
            starts: StartTime::default(),
            last: Duration::ZERO,
            average: 0.0,
            ordered: 0.0,
            highest: Peak::default(),
        }
    }

    /// Somebody asked for a sandbox, whether there was one or not.
    pub fn opened(&mut self, now: Duration) {
        let (average, ordered) = (self.average_at(now), self.ordered_at(now));
        self.last = self.last.max(now);
        self.average = average + AVERAGED_OVER.recip();
        self.ordered = (ordered + 1.0).min((PATIENCE * self.starts_a_second()).max(1.0));
    }

    /// A start took this long until its sandbox was ready.
    pub fn started(&mut self, took: Duration) {
        self.starts.measured(took);
    }

    /// What a stock has to be sized for at this moment.
    #[must_use]
    pub fn sizing(&self, now: Duration, min: usize, max: usize) -> Sizing {
        Sizing {
            rate: self.average_at(now),
            rush: self.ordered_at(now),
            start_time: self.starts.estimate(),
            start_limit: self.start_limit,
            min,
            max,
        }
    }

    /// Warm sandboxes to keep from now on.
    pub fn target(&mut self, now: Duration, min: usize, max: usize) -> usize {
        let wanted = sizing::target(&self.sizing(now, min, max));
        self.highest.rise(now, sizing::as_number(wanted));
        sizing::as_count(self.highest.at(now).round()).clamp(min, max.max(min))
    }

    fn average_at(&self, now: Duration) -> f64 {
        self.average * (-self.since_last(now) / AVERAGED_OVER).exp()
    }

    fn ordered_at(&self, now: Duration) -> f64 {
        (self.ordered - self.since_last(now) * self.starts_a_second()).max(0.0)
    }

    fn since_last(&self, now: Duration) -> f64 {
        now.saturating_sub(self.last).as_secs_f64()
    }

    fn starts_a_second(&self) -> f64 {
        sizing::as_number(self.start_limit.max(1)) / self.starts.estimate().as_secs_f64()
    }
}

/// The height something reached: held, then fading.
#[derive(Debug, Clone, Copy, Default)]
struct Peak {
    height: f64,
    reached: Duration,
}

impl Peak {
    fn rise(&mut self, now: Duration, height: f64) {
        if height >= self.at(now) {
            *self = Self { height, reached: self.reached.max(now) };
        }
    }

    fn at(&self, now: Duration) -> f64 {
        let fading = now.saturating_sub(self.reached).saturating_sub(HELD).as_secs_f64();
        self.height * (-fading / FADING).exp()
    }
}

/// How long a start takes, in seconds: a mean that moves by an eighth with each start, as TCP's of a round trip does (Jacobson 1988). TCP adds
/// deviations, not to be late; a stock needs the mean alone, which Palm's theorem is about.
#[derive(Debug, Clone, Copy, Default)]
struct StartTime(Option<f64>);

impl StartTime {
    fn measured(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        self.0 = Some(self.0.map_or(took, |mean| mean + (took - mean) / 8.0));
    }

    fn estimate(self) -> Duration {
        let Some(mean) = self.0 else { return FIRST_GUESS };
        Duration::try_from_secs_f64(mean).unwrap_or(Duration::MAX).max(QUICKEST)
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(target(&mut demand, 600.0), 3);
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
    fn a_template_that_keeps_nothing_by_itself_keeps_one_for_a_quarter_of_an_hour_after_an_open() {
        let mut demand = measured();
        demand.opened(secs(100.0));
        let targets = [100.0, 800.0, 1000.0].map(|now| demand.target(secs(now), 0, 9));
        assert_eq!(targets, [1, 1, 0]);
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
        assert_eq!(
            [(1, 50), (1, 5), (30, 50), (0, 0)].map(|(min, max)| demand.target(secs(100.0), min, max)),
            [20, 5, 30, 0]
        );
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
}
