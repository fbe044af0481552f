//! How many warm sandboxes to keep, from what is known of demand. Pure: figures in, a number out.
//!
//! Every lease orders one replacement at once, so stock and orders together are always the target *S*, and an open finds the shelf empty
//! when *S* orders are out (the base-stock policy of inventories: Feeney & Sherbrooke 1966). With *λ* opens a second and *L* seconds from an
//! order to a ready sandbox the orders out are Poisson with mean *λL*, whatever the starts' spread (Palm 1938), so
//!
//! ```text
//! S = the smallest with P(Poisson(λL) < S) ≥ 99 %
//! L = T·(1 + ½·ρ^(√(2(c+1))−1) / (c·(1−ρ))),  ρ = λT/c    T: one start; c: starts at the same time
//! ```
//!
//! For many orders *S* is *λL + 2.33·√(λL)*, square-root staffing; for the few that a machine has out that is too little: at *λL* = 0.36 it gives 2,
//! which is 95 %. *L* is one start and the wait for a turn to start: Sakasegawa's (1977), halved because starts of one template hardly vary
//! (Allen & Cunneen); with one turn it is Pollaczek's and Khinchine's. When more is asked for than can be started (*ρ* ≥ 1), the largest
//! stock is right. All this is about evenly random opens. A class that begins at ten o'clock is a rush, and its size is measured
//! ([`super::demand`]): *S* is at least that.

use std::time::Duration;

/// The share of opens that are to find a warm sandbox: an idle one costs memory, a missing one costs a user a second.
const SERVED: f64 = 0.99;
/// Below one open in ten minutes nothing beyond the minimum is worth its memory. In opens per second.
const RARE: f64 = 1.0 / 600.0;
/// More orders than this are never out at once on one machine, and e^-745 is where numbers end.
const ORDERS_MAX: f64 = 700.0;

/// What a stock is sized for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sizing {
    /// Opens per second.
    pub rate: f64,
    /// The most orders that were out at once in a recent rush.
    pub rush: f64,
    /// From the beginning of a start to a ready sandbox.
    pub start_time: Duration,
    /// Starts at the same time.
    pub start_limit: usize,
    /// The least that is kept.
    pub min: usize,
    /// The most that is kept. One below `min` counts as `min`.
    pub max: usize,
}

/// Warm sandboxes to keep. Never falls when the rate, the rush or the start's time rises; figures that are no numbers count as none.
#[must_use]
pub fn target(sizing: &Sizing) -> usize {
    let Sizing { rate, rush, start_time, start_limit, min, max } = *sizing;
    let max = max.max(min);
    if rate.is_nan() || rate < RARE {
        return min;
    }
    let turns = as_number(start_limit.max(1));
    let starting = rate * start_time.as_secs_f64();
    let load = starting / turns;
    if load >= 1.0 {
        return max;
    }
    let queued = load.powf((2.0 * (turns + 1.0)).sqrt() - 1.0) / (2.0 * turns * (1.0 - load));
    let ordered = starting * (1.0 + queued);
    enough_for(ordered, max).max(as_count(rush)).clamp(min, max)
}

/// The smallest stock that Poisson orders of this mean exhaust in at most one of a hundred opens, or `max` if that is less.
fn enough_for(mean: f64, max: usize) -> usize {
    if mean > ORDERS_MAX {
        return max;
    }
    let (mut stock, mut exactly, mut fewer) = (0, (-mean).exp(), 0.0);
    while stock < max && fewer < SERVED {
        fewer += exactly;
        stock += 1;
        exactly *= mean / as_number(stock);
    }
    stock
}

#[expect(clippy::cast_precision_loss, reason = "counts of sandboxes are far below 2^53")]
pub(super) const fn as_number(count: usize) -> f64 {
    count as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, which is what is wanted"
)]
pub(super) fn as_count(number: f64) -> usize {
    number.ceil() as usize
}

#[cfg(test)]
mod tests {
    use proptest::{num::f64::ANY, prelude::*};

    use super::*;

    fn of(rate: f64) -> Sizing {
        Sizing { rate, rush: 0.0, start_time: Duration::from_secs(1), start_limit: 2, min: 1, max: 50 }
    }

    #[test]
    fn a_stock_rides_out_one_start_and_a_little_more() {
        // λL = 0.1, then 0.5 × 1.04 and 1 × 1.18; P(Poisson(0.1) < 1) is 90 %, < 2 is 99.5 %.
        assert_eq!([0.1, 0.5, 1.0].map(|rate| target(&of(rate))), [2, 4, 5]);
        assert_eq!(
            target(&Sizing { start_limit: 100, max: 100, ..of(50.0) }),
            68,
            "as 50 + 2.33 × √50 says, and one for its tail"
        );
    }

    #[test]
    fn with_one_turn_the_queue_is_the_textbooks() {
        // M/D/1 holds ρ + ρ² / (2·(1 − ρ)): 0.75 at half load, 4.95 at nine tenths.
        assert_eq!(target(&Sizing { start_limit: 1, ..of(0.5) }), 4, "P(Poisson(0.75) < 4) = 99.3 %");
        assert_eq!(target(&Sizing { start_limit: 1, ..of(0.9) }), 12, "P(Poisson(4.95) < 12) = 99.5 %");
    }

    #[test]
    fn demand_beyond_what_can_be_started_takes_the_largest_stock() {
        assert_eq!([2.0, 1e9, f64::INFINITY].map(|rate| target(&of(rate))), [50, 50, 50]);
    }

    #[test]
    fn nearly_no_demand_takes_the_smallest() {
        assert_eq!([0.0, 0.0016, -1.0, f64::NAN].map(|rate| target(&Sizing { rush: 9.0, ..of(rate) })), [1; 4]);
        assert_eq!(target(&Sizing { rush: 9.0, min: 0, max: 0, ..of(1.0) }), 0, "always cold");
    }

    #[test]
    fn a_rush_counts_as_what_it_took() {
        assert_eq!(target(&Sizing { rush: 11.2, ..of(0.1) }), 12);
        assert_eq!(target(&Sizing { rush: f64::NAN, ..of(0.1) }), 2);
    }

    prop_compose! {
        fn anything()(rate in ANY, rush in ANY, start_time in any::<Duration>(), start_limit in any::<usize>(), min in any::<usize>(), max in any::<usize>()) -> Sizing {
            Sizing { rate, rush, start_time, start_limit, min, max }
        }
    }

    prop_compose! {
        fn sensible()(rate in 0.0..20.0_f64, rush in 0.0..60.0_f64, millis in 0_u64..20_000, start_limit in 0_usize..20, min in 0_usize..9, more in 0_usize..90) -> Sizing {
            Sizing { rate, rush, start_time: Duration::from_millis(millis), start_limit, min, max: min + more }
        }
    }

    proptest! {
        #[test]
        fn whatever_is_measured_the_target_is_within_its_bounds(sizing in anything()) {
            let target = target(&sizing);
            prop_assert!(target >= sizing.min && target <= sizing.max.max(sizing.min));
        }

        #[test]
        fn more_demand_or_slower_starts_never_make_it_smaller(
            sizing in sensible(), rate in 0.0..5.0_f64, rush in 0.0..20.0_f64, millis in 0_u64..5_000,
        ) {
            let before = target(&sizing);
            let busier = Sizing { rate: sizing.rate + rate, ..sizing };
            let rushed = Sizing { rush: sizing.rush + rush, ..sizing };
            let slower = Sizing { start_time: sizing.start_time + Duration::from_millis(millis), ..sizing };
            for more in [busier, rushed, slower] {
                prop_assert!(target(&more) >= before, "{:?}", more);
            }
        }

        #[test]
        fn more_turns_to_start_never_make_it_larger(sizing in sensible(), turns in 1_usize..20) {
            let more = Sizing { start_limit: sizing.start_limit.max(1) + turns, ..sizing };
            prop_assert!(target(&more) <= target(&sizing));
        }
    }
}
