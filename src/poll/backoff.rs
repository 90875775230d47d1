//! Waiting that grows with failures and spreads clients out.

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
}
