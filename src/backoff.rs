//! Waiting that grows with failures and spreads clients out.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// The first wait after a failure.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait, unless polls are rarer anyway.
const LONGEST: Duration = Duration::from_secs(60);

/// Exponential backoff, never slower than the polls themselves.
#[derive(Debug)]
pub struct Backoff {
    cap: Duration,
    failures: u32,
}

impl Backoff {
    /// A backoff for polls at this interval.
    pub fn new(interval: Duration) -> Self {
        Self { cap: interval.min(LONGEST), failures: 0 }
    }

    /// Forgets all failures.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The wait after one more failure: between half of the step and the step.
    pub fn next(&mut self, random: f64) -> Duration {
        let step = FIRST.saturating_mul(2_u32.saturating_pow(self.failures)).min(self.cap);
        self.failures = self.failures.saturating_add(1);
        step.mul_f64(0.5 + random / 2.0)
    }
}

/// A time up to 5% shorter or longer, so that exporters that started together drift apart.
pub fn jitter(interval: Duration, random: f64) -> Duration {
    interval.mul_f64(0.95 + random / 10.0)
}

/// A random number from 0 to below 1; good enough to spread clients out.
pub fn random() -> f64 {
    (RandomState::new().build_hasher().finish() >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_to_its_cap_and_starts_again() {
        let mut backoff = Backoff::new(Duration::from_secs(15));
        let steps: Vec<u64> = (0..6).map(|_| backoff.next(1.0).as_secs()).collect();
        assert_eq!(steps, [1, 2, 4, 8, 15, 15]);
        backoff.reset();
        assert_eq!(backoff.next(0.0), Duration::from_millis(500));
        (0..100).for_each(|_| _ = backoff.next(1.0));
    }

    #[test]
    fn jitter_stays_near() {
        let all = (0..1000).map(|_| jitter(Duration::from_secs(100), random()).as_secs_f64());
        assert!(all.into_iter().all(|s| (95.0..105.0).contains(&s)));
    }
}
