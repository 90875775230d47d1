//! The meaning of saved numbers, by which a changed definition is noticed.

use serde::{Deserialize, Serialize};

use crate::ledger::native::Settings;
use crate::source::Source;

/// SELECTs that were shipped before, with the same rows and labels: the source, and [`Fingerprint::rows`].
pub(super) const EARLIER: [(&str, u32); 2] =
    [("validation_executions", 904_512_538), ("mitigation_executions", 2_624_553_394)];

/// The meaning of a ledger's numbers: as long as it is the same, the numbers go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// The SELECT, the labels and what they are when they are missing: the meaning of every row and set.
    pub(super) rows: u32,
    /// The meaning of each of [`Source::counts`].
    pub(super) counts: Vec<String>,
    /// The meaning of each of [`Source::sums`].
    pub(super) sums: Vec<String>,
    /// The meaning of each of [`Source::values`].
    pub(super) values: Vec<String>,
    /// The labels of gauges of open rows.
    #[serde(default)]
    pub(super) open: Vec<String>,
    /// The meaning of each of [`Source::natives`].
    #[serde(default)]
    pub(super) natives: Vec<String>,
}

impl Fingerprint {
    /// The fingerprint of a definition.
    pub fn of(source: &Source) -> Self {
        let mut rows = format!("{:?}{:?}{:?}{:?}", source.sql, source.labels, source.by, source.missing);
        rows.extend(source.count_if.iter().map(|column| format!("{column:?}")));
        // How late rows can come may change.
        rows.extend(source.key.iter().map(|key| format!("{:?}{:?}", key.columns, key.order())));
        let value = |i: usize| format!("{:?}", source.values[i]);
        let count = |c: &crate::source::Count| format!("{:?} {:?} {:?}", c.value.map(value), c.le, c.only);
        // Nothing of the classic buckets is in it: their bounds may change.
        let native = |n: &crate::source::Native| {
            let Settings { schema, max_buckets, zero_threshold, sum } = n.settings();
            let value = value(source.sums[sum].value);
            format!("{value} {:?} {schema} {max_buckets} {zero_threshold:?}", n.only)
        };
        let mut counts: Vec<String> = source.counts.iter().map(count).collect();
        let mut sums: Vec<String> = source.sums.iter().map(|s| format!("{} {:?}", value(s.value), s.only)).collect();
        // A histogram is one: buckets of before beside new ones would not be cumulative.
        for metric in &source.metrics {
            let (bounds, slots) = (metric.kind.bounds(), metric.kind.slots());
            if !bounds.is_empty() {
                let of = format!(" of {bounds:?}");
                counts[slots.counts].iter_mut().for_each(|count| count.push_str(&of));
                slots.sum.iter().for_each(|&sum| sums[sum].push_str(&of));
            }
        }
        Self {
            rows: crc32fast::hash(rows.as_bytes()),
            counts,
            sums,
            values: source.values.iter().map(|v| format!("{v:?}")).collect(),
            open: source.open_labels().into_iter().map(str::to_owned).collect(),
            natives: source.natives.iter().map(native).collect(),
        }
    }
}
