//! A histogram: classic buckets, and a native one beside them. [`crate::sql`] has the SQL of its buckets in `measure`, and of
//! one series of it in `series`.

use super::{Definition, MetricKind, Names, Part};
use crate::exposition::{Encoder, Pairs, SeriesTotals};
use crate::source::metric_table::MetricTable;
use crate::source::{Count, MAX_VALUE, Native, Slots, Sum};

/// The keys of the native histogram.
const NATIVE: [&str; 3] = ["factor", "max_buckets", "zero_threshold"];

/// How the values of a column are distributed over the rows that are done.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    bounds: Vec<f64>,
    /// Where the cumulative count of the first bucket stands; the others follow, then the count of all values.
    first: usize,
    sum: usize,
    native: Option<usize>,
}

impl Definition for Histogram {
    const TABLE: &'static str = "histogram";
    const WHEN: &'static str = "value";
    const KEYS: &'static [&'static str] =
        &["where", "value", "buckets", "native", "factor", "max_buckets", "zero_threshold"];

    fn claims(_table: &MetricTable<'_>) -> bool {
        true
    }

    fn parse(table: &mut MetricTable<'_>) -> Option<Self> {
        let only: Option<String> = table.take("where");
        let is_list = table.has("buckets");
        let bounds: Option<Vec<f64>> = table.take("buckets");
        let is_rising = |bounds: &[f64]| {
            !bounds.is_empty() && bounds.iter().all(|b| b.is_finite()) && bounds.is_sorted_by(|a, b| a < b)
        };
        // What is no list has been said.
        if bounds.as_deref().map_or(!is_list, |bounds| !is_rising(bounds)) {
            table
                .problem("buckets", "must be finite numbers, each larger than the one before; +Inf is added by itself");
        }
        if !table.has("value") {
            table.problem("value", "is missing: which column is distributed?");
        }
        let column = table.take::<String>("value");
        let value = column.map(|column| table.value("value", &column));
        let native = native(table, only.clone());
        let (bounds, value) = (bounds.unwrap_or_default(), value?);
        let source = &mut table.source;
        let first = source.counts.len();
        let count = |le| Count { value: Some(value), le, only: only.clone() };
        source.counts.extend(bounds.iter().map(|&le| count(Some(le))));
        source.counts.push(count(None));
        source.sums.push(Sum { value, only: only.clone() });
        let sum = source.sums.len() - 1;
        let native = native.map(|native| {
            source.natives.push(Native { sum, ..native });
            source.natives.len() - 1
        });
        Some(Self { bounds, first, sum, native })
    }
}

/// The native histogram, if one is wanted. Its settings are those of the client for Go.
fn native(table: &mut MetricTable<'_>, only: Option<String>) -> Option<Native> {
    let is_native = table.take::<bool>("native").unwrap_or_default();
    for key in NATIVE.into_iter().filter(|key| !is_native && table.has(key)).collect::<Vec<_>>() {
        table.problem(key, "is a key of native histograms: add native = true");
    }
    let factor = table.take("factor").unwrap_or(Native::FACTOR);
    let max_buckets = table.take("max_buckets").unwrap_or(Native::MAX_BUCKETS);
    let zero_threshold = table.take("zero_threshold").unwrap_or(Native::ZERO_THRESHOLD);
    if !(factor > 1.0 && factor.is_finite()) {
        table.problem("factor", "must be above 1: how many times as wide as the one before a bucket may be");
    }
    if max_buckets == 0 {
        table.problem("max_buckets", "must be at least 1");
    }
    if !(f64::MIN_POSITIVE..=MAX_VALUE).contains(&zero_threshold) {
        table.problem("zero_threshold", format!("must be above 0 and at most {MAX_VALUE:e}"));
    }
    is_native.then_some(Native { sum: 0, only, factor, max_buckets, zero_threshold })
}

impl MetricKind for Histogram {
    fn type_name(&self) -> &'static str {
        Self::TABLE
    }

    fn slots(&self) -> Slots {
        Slots { counts: self.first..self.first + self.bounds.len() + 1, sum: Some(self.sum), native: self.native }
    }

    fn bounds(&self) -> &[f64] {
        &self.bounds
    }

    fn suffixes(&self) -> &'static [(&'static str, Part)] {
        &[("_bucket", Part::Bucket), ("_count", Part::Count), ("_sum", Part::Sum)]
    }

    fn encode(&self, encoder: &mut dyn Encoder, labels: &Pairs<'_>, series: &SeriesTotals<'_>) {
        encoder.histogram(labels, &self.bounds, series);
    }

    fn aggregate(&self, part: Part, names: &Names) -> String {
        match part {
            Part::Sum => names.sum(),
            _ => format!("count({}){}", names.value.as_deref().unwrap_or("*"), names.filter),
        }
    }
}
