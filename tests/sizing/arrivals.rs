//! When sandboxes are asked for. Made, not measured: each trace is drawn from a named random process with a written seed, so that every run on
//! every machine sees the same one.

/// Seconds since the trace began, in order.
pub type Arrivals = Vec<f64>;

pub const HOUR: f64 = 3600.0;
pub const DAY: f64 = 24.0 * HOUR;

/// SplitMix64 (Steele, Lea & Flood 2014): small, and good enough to draw arrivals from.
pub struct Chance(u64);

impl Chance {
    pub const fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Between 0 and 1, neither of them.
    pub fn fraction(&mut self) -> f64 {
        (f64::from(u32::try_from(self.next() >> 32).expect("32 bits")) + 0.5) / f64::from(u32::MAX)
    }

    /// Exponentially distributed.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -self.fraction().min(1.0).ln() * mean
    }

    /// One of `0..count`.
    pub fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.next() % count as u64).expect("less than count")
    }
}

/// Many users who know nothing of each other: a Poisson process whose rate changes with time, by thinning (Lewis & Shedler 1979).
pub fn independent(chance: &mut Chance, seconds: f64, peak: f64, rate: impl Fn(f64) -> f64) -> Arrivals {
    let mut arrivals = Vec::new();
    let mut now = 0.0;
    loop {
        now += chance.exponential(peak.recip());
        if now > seconds {
            return arrivals;
        }
        if chance.fraction() < rate(now) / peak {
            arrivals.push(now);
        }
    }
}

/// The same rate all the time.
pub fn steady(seed: u64, seconds: f64, rate: f64) -> Arrivals {
    independent(&mut Chance::seeded(seed), seconds, rate, |_| rate)
}

/// Quiet and busy in turns of twenty minutes.
pub fn steps(seed: u64, seconds: f64, quiet: f64, busy: f64) -> Arrivals {
    independent(&mut Chance::seeded(seed), seconds, busy, |now| if now % 2400.0 < 1200.0 { quiet } else { busy })
}

/// A rate at a time of a day that begins at midnight: lowest then, highest at noon, never less than a twentieth of the mean.
pub fn wave(mean: f64) -> impl Fn(f64) -> f64 {
    move |now| mean * (1.0 - 0.95 * (now / DAY * std::f64::consts::TAU).cos())
}

/// A daily wave around this mean rate.
pub fn daily(seed: u64, days: f64, mean: f64) -> Arrivals {
    independent(&mut Chance::seeded(seed), days * DAY, mean * 1.95, wave(mean))
}

/// Groups of 8 to 20 who open within two seconds, at working hours only (9 to 17), 2 to 14 minutes apart; between them, one open in
/// fifty seconds.
pub fn bursts(seed: u64, days: f64) -> Arrivals {
    let mut chance = Chance::seeded(seed);
    let mut arrivals = independent(&mut chance, days * DAY, 0.02, |_| 0.02);
    let mut now = 0.0;
    while now < days * DAY {
        if (9.0 * HOUR..17.0 * HOUR).contains(&(now % DAY)) {
            let group = 8 + chance.below(13);
            arrivals.extend((0..group).map(|_| now + 2.0 * chance.fraction()));
        }
        now += 120.0 + 720.0 * chance.fraction();
    }
    arrivals.sort_by(f64::total_cmp);
    arrivals
}
