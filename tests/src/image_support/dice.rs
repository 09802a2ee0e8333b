//! Chance that can be had again.

/// A generator for moments. Its seed is printed, and taken from `IMAGE_SEED`.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// From the clock, if nothing else is asked for.
    pub fn new() -> Self {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let given = std::env::var("IMAGE_SEED").ok();
        let seed = given.and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or_else(|| since.as_secs() << 30 | u64::from(since.subsec_nanos()));
        println!("IMAGE_SEED={seed}");
        Self(seed | 1)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % bound
    }

    /// A time below `bound`.
    pub fn moment(&mut self, bound: std::time::Duration) -> std::time::Duration {
        bound.mul_f64(self.below(10_000) as f64 / 10_000.0)
    }
}

impl Default for Dice {
    fn default() -> Self {
        Self::new()
    }
}
