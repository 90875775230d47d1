//! A small seeded source of random numbers: the demo tells the same story at
//! every run.

/// Marsaglia's xorshift64 with a multiplier (xorshift64*).
pub struct Random(u64);

impl Random {
    /// A sequence of its own for every `seed`.
    pub fn new(seed: u64) -> Self {
        // The state must not be zero, and small seeds should not look alike.
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A whole number in `low..=high`.
    pub fn between(&mut self, low: u32, high: u32) -> u32 {
        low + (self.unit() * f64::from(high - low + 1)) as u32
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: f64) -> bool {
        self.unit() * 100.0 < percent
    }

    /// An index into something of this length.
    pub fn index(&mut self, length: usize) -> usize {
        (self.unit() * length as f64) as usize
    }

    /// One of `choices`.
    pub fn pick(&mut self, choices: &[&'static str]) -> &'static str {
        choices[self.index(choices.len())]
    }
}
