//! Demand for one pool, as it is measured: how often sandboxes are asked for, how many at once, how long a start takes; and the target that
//! follows from it ([`super::sizing`]).
//!
//! Owned by whoever plans the pool's starts, who asks for the target whenever anything changes. It rises at once, is held for ten minutes and then
//! fades: a stock that grew for a rush is still there when the rush comes back, and nothing is started and destroyed in turns. Memory is
//! constant. There is no clock in here: `now` is the time since some moment that stays the same; one that is earlier than the last
//! counts as the last.
//!
//! Why a minute for the rate: averaged over ten seconds, chance alone tells now and then of nearly twice the rate, and at half load that looks as if
//! starts could not keep up. What a minute is too slow for is a rush, and that is counted apart. The figures are in `docs/performance.md`.

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
        // The minimum isn't demand: lowered, it is lower at once.
        let wanted = sizing::target(&self.sizing(now, 0, max));
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
mod tests;
