//! Percentiles of a handful of times.

use std::{fmt, time::Duration};

use serde::Serialize;

/// A series in milliseconds, summed up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figures {
    /// Half of the values are not above it.
    pub p50: f64,
    /// Nine of ten.
    pub p90: f64,
    /// Ninety-nine of a hundred; of fewer values, that is the largest.
    pub p99: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// How many there are.
    pub count: usize,
}

impl Figures {
    /// Sums up; none of nothing.
    pub fn of(mut milliseconds: Vec<f64>) -> Option<Self> {
        milliseconds.sort_by(f64::total_cmp);
        let (min, max) = (*milliseconds.first()?, *milliseconds.last()?);
        // The nearest rank: always a value that was measured.
        let percentile = |percent: usize| milliseconds[(milliseconds.len() * percent).div_ceil(100).max(1) - 1];
        Some(Self {
            p50: percentile(50),
            p90: percentile(90),
            p99: percentile(99),
            min,
            max,
            count: milliseconds.len(),
        })
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50, p90, p99, min, max, count } = self;
        write!(formatter, "{count:>5} {min:>10.3} {p50:>10.3} {p90:>10.3} {p99:>10.3} {max:>10.3}")
    }
}

/// In milliseconds, to the microsecond: finer is noise.
pub fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
