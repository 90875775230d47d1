//! How many rows one statement reads: more when that is quick, fewer when it is slow.

use std::time::Duration;

/// How many rows the next statement reads.
#[derive(Clone, Copy, Debug)]
pub struct ChunkSize {
    rows: usize,
    smallest: usize,
    largest: usize,
    /// How long a statement should take.
    target: Duration,
}

impl ChunkSize {
    /// Begins with `rows` and stays from `smallest` to `largest`, so that a statement takes about as long as `target`.
    pub fn new(rows: usize, (smallest, largest): (usize, usize), target: Duration) -> Self {
        Self { rows, smallest, largest, target }
    }

    /// How many rows the next statement reads.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Adapts to a statement that `took` so long, and that `is_full` if there was more to read.
    pub fn adapt(&mut self, took: Duration, is_full: bool) {
        if took > self.target {
            self.rows = (self.rows / 2).max(self.smallest);
        } else if is_full && took < self.target / 3 {
            self.rows = (self.rows * 2).min(self.largest);
        }
    }

    /// Adapts to a statement that did not end in time.
    pub fn timed_out(&mut self) {
        self.rows = (self.rows / 4).max(self.smallest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_statements_read_more_and_slow_ones_less() {
        let mut size = ChunkSize::new(1000, (500, 3000), Duration::from_secs(3));
        let mut after = |millis, is_full| {
            size.adapt(Duration::from_millis(millis), is_full);
            size.rows()
        };
        assert_eq!([after(999, false), after(999, true), after(1000, true), after(1, true)], [1000, 2000, 2000, 3000]);
        assert_eq!(
            [after(3000, true), after(3001, true), after(9000, false), after(9000, true)],
            [3000, 1500, 750, 500]
        );
        let mut slow = ChunkSize::new(4000, (500, 8000), Duration::from_secs(1));
        slow.timed_out();
        assert_eq!(slow.rows(), 1000);
    }
}
