//! What is measured of a group of rows: whole numbers, sums and native histograms, which kinds of metrics are made of.

use std::ops::Range;

use crate::ledger::native;

/// Rows that are counted: all that are done, or fewer.
#[derive(Clone, Debug, PartialEq)]
pub struct Count {
    /// Only rows with a valid value in this one of [`Source::values`](super::Source::values).
    pub value: Option<usize>,
    /// Only rows whose value is not above this bound.
    pub le: Option<f64>,
    /// Only rows where this boolean column is true.
    pub only: Option<String>,
}

/// A sum over the rows that are done.
#[derive(Clone, Debug, PartialEq)]
pub struct Sum {
    /// Which of [`Source::values`](super::Source::values).
    pub value: usize,
    /// Only rows where this boolean column is true.
    pub only: Option<String>,
}

/// How a value column is distributed, in buckets that nobody has to choose.
#[derive(Clone, Debug, PartialEq)]
pub struct Native {
    /// Which of [`Source::sums`](super::Source::sums) adds up the same values of the same rows.
    pub sum: usize,
    /// Only rows where this boolean column is true.
    pub only: Option<String>,
    /// A bucket is at most so many times as wide as the one before.
    pub factor: f64,
    /// The largest number of buckets that are not empty.
    pub max_buckets: u32,
    /// Values up to this count as 0.
    pub zero_threshold: f64,
}

/// Where the measures of a metric stand among those of its source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slots {
    /// In [`Source::counts`](super::Source::counts): the number of rows, or cumulative buckets with the count of all values.
    pub counts: Range<usize>,
    /// In [`Source::sums`](super::Source::sums).
    pub sum: Option<usize>,
    /// In [`Source::natives`](super::Source::natives).
    pub native: Option<usize>,
}

impl Slots {
    /// True for a metric that is not added up from rows.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty() && self.sum.is_none()
    }
}

impl Native {
    /// The defaults, which are those of the client for Go: a bucket may be 10 % wider than the one before, there may be so
    /// many, and what is not above 2^-128 counts as 0.
    pub const FACTOR: f64 = 1.1;
    /// See [`Native::FACTOR`].
    pub const MAX_BUCKETS: u32 = 160;
    /// See [`Native::FACTOR`].
    pub const ZERO_THRESHOLD: f64 = 2.938735877055719e-39;

    /// What the ledger has to know.
    pub fn settings(&self) -> native::Settings {
        let Self { sum, factor, max_buckets, zero_threshold, .. } = *self;
        native::Settings { schema: native::schema(factor), max_buckets: max_buckets as usize, zero_threshold, sum }
    }

    /// How many times as wide as the one before each bucket really is, as long as the schema is not lowered.
    pub fn growth(&self) -> f64 {
        (-f64::from(native::schema(self.factor))).exp2().exp2()
    }
}
