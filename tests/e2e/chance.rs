//! Chance that can be had again: the same seed gives the same numbers.

/// The seed, unless `CHAOS_SEED` names another.
const SEED: u64 = 0x6772_6565_6e72_6f6f;

/// A stream of numbers (SplitMix64, by Steele, Lea and Flood).
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// The stream of one of many that share the run's seed.
    pub fn of(number: usize) -> Self {
        Self(seed() ^ (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// The seed of this run, for whoever wants the same again.
pub fn seed() -> u64 {
    let told = std::env::var("CHAOS_SEED").ok();
    told.map_or(SEED, |told| told.parse().expect("CHAOS_SEED is a number"))
}
