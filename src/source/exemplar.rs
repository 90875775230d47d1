//! Which rows of a group are exemplars, and of which numbers.

use std::ops::Range;

use super::{Metric, REQUIRED, Slots, Source};
use crate::ledger::exemplar::{Exemplar, Exemplars};

/// The most characters that the name and the value of an exemplar's label may have (OpenMetrics 1.0, "Exemplars").
const MAX_CHARS: usize = 128;

/// The rows of a group that are done, side by side.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// What names each of them, unless that is the id.
    pub names: Vec<Option<String>>,
    /// Their ids.
    pub ids: Vec<i64>,
    /// When they were done, in seconds since the epoch.
    pub ats: Vec<Option<f64>>,
    /// The valid values by each of [`Source::values`].
    pub values: Vec<Vec<Option<f64>>>,
    /// By each of [`Source::only`], in its order, whether it is true.
    pub only: Vec<Vec<bool>>,
}

impl Source {
    /// The column that names rows in exemplars, if it is another one than the id.
    pub fn exemplar_column(&self) -> Option<&str> {
        self.exemplar.as_deref().filter(|column| self.key.is_some() || *column != REQUIRED[0])
    }

    /// True if the rows of a measure have this restriction and a value, which is returned; 1 without a value column.
    fn value_in(&self, rows: &Rows, row: usize, value: Option<usize>, only: Option<&str>) -> Option<f64> {
        if let Some(only) = only {
            let place = self.only().into_iter().position(|column| column == only)?;
            rows.only.get(place)?.get(row).filter(|is_true| **is_true)?;
        }
        value.map_or(Some(1.0), |value| rows.values.get(value)?.get(row).copied().flatten())
    }

    /// The values for each of [`Source::natives`].
    pub fn native_values(&self, rows: &Rows) -> Vec<Vec<f64>> {
        let values = |native: &super::Native| {
            let value = self.sums[native.sum].value;
            (0..rows.ids.len())
                .filter_map(|row| self.value_in(rows, row, Some(value), native.only.as_deref()))
                .collect()
        };
        self.natives.iter().map(values).collect()
    }

    /// True if a poll reads the rows of a group one by one.
    pub fn needs_rows(&self) -> bool {
        self.exemplar.is_some() || !self.natives.is_empty()
    }

    /// The places of the exemplars of a metric, see [`Exemplars`]: one for a counter, one for each bucket of a histogram.
    pub fn exemplar_places(&self, metric: &Metric) -> Range<usize> {
        let Slots { counts, sum, .. } = metric.kind.slots();
        match sum.map(|sum| self.counts.len() + sum).filter(|_| counts.is_empty()) {
            Some(place) => place..place + 1,
            None => counts,
        }
    }

    /// The newest row of each number that is exported: of a counter, and of each bucket alone. A row without a time, or with
    /// one after `now` (in seconds since the epoch), or with too long a name is none.
    pub fn exemplars(&self, rows: &Rows, now: f64) -> Exemplars {
        let Some(label) = &self.exemplar else { return Vec::new() };
        let at = |row: &usize| rows.ats.get(*row).copied().flatten().filter(|at| at.is_finite() && *at <= now);
        let mut newest: Vec<(usize, f64)> =
            (0..rows.ids.len()).filter_map(|row| at(&row).map(|at| (row, at))).collect();
        newest.sort_by(|(a, at), (b, other)| other.total_cmp(at).then(rows.ids[*b].cmp(&rows.ids[*a])));
        let name = |row: usize| -> Option<Box<str>> {
            let name = if rows.names.is_empty() { rows.ids[row].to_string() } else { rows.names[row].clone()? };
            (label.chars().count() + name.chars().count() <= MAX_CHARS).then(|| name.into())
        };
        let mut exemplars = Exemplars::new();
        for metric in &self.metrics {
            let (bounds, only, places) = (metric.kind.bounds(), self.only_of(metric), self.exemplar_places(metric));
            let value = self.value_of(metric).and_then(|value| self.values.iter().position(|v| v == value));
            let is_known = |exemplars: &Exemplars, place| exemplars.iter().any(|(known, _)| *known == place);
            let mut left = places.len();
            for &(row, at) in newest.iter().take_while(|_| !places.is_empty()) {
                let Some(measured) = self.value_in(rows, row, value, only) else { continue };
                let place = places.start + bounds.partition_point(|bound| *bound < measured);
                if is_known(&exemplars, place) {
                    continue;
                }
                let Some(row) = name(row) else { continue };
                let counts_rows = bounds.is_empty() && metric.kind.slots().sum.is_none();
                exemplars.push((place, Exemplar { row, value: if counts_rows { 1.0 } else { measured }, at }));
                left -= 1;
                if left == 0 {
                    break;
                }
            }
        }
        exemplars.sort_by_key(|(place, _)| *place);
        exemplars
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOML: &str = "labels = []\n[[counter]]\nname = \"x_total\"\nhelp = \"X.\"\n[[counter]]\nname = \"x_good_total\"\n\
                        help = \"X.\"\nwhere = \"good\"\n[[counter]]\nname = \"x_spent_total\"\nhelp = \"X.\"\nsum = \"ms\"\n\
                        [[histogram]]\nname = \"x_ms\"\nhelp = \"X.\"\nvalue = \"ms\"\nbuckets = [1, 2]\nnative = true\n";

    fn source() -> Source {
        Source::parse(vec![("x".into(), "SELECT 1".into(), TOML.into())], "q").unwrap().remove(0)
    }

    #[test]
    fn each_number_has_the_newest_row_that_raised_it() {
        let source = source();
        let rows = Rows {
            ids: vec![7, 8, 9, 10, 11],
            ats: vec![Some(50.0), Some(40.0), Some(30.0), None, Some(99.0)],
            values: vec![vec![Some(1.0), Some(1.5), Some(9.0), Some(2.0), Some(2.0)]],
            only: vec![vec![false, true, true, true, true]],
            ..Rows::default()
        };
        let found = source.exemplars(&rows, 60.0);
        let found: Vec<_> = found.iter().map(|(place, e)| (*place, &*e.row, e.value, e.at)).collect();
        // Rows, good ones, three buckets; then the sum of the counter.
        let buckets = [(2, "7", 1.0, 50.0), (3, "8", 1.5, 40.0), (4, "9", 9.0, 30.0)];
        assert_eq!(found, [&[(0, "7", 1.0, 50.0), (1, "8", 1.0, 40.0)][..], &buckets, &[(5, "7", 1.0, 50.0)]].concat());
        assert_eq!(source.native_values(&rows), [[1.0, 1.5, 9.0, 2.0, 2.0]]);
    }

    #[test]
    fn a_name_that_is_too_long_or_missing_is_passed_over() {
        let source = Source { exemplar: Some("trace".to_owned()), ..source() };
        let names = [Some("é".repeat(MAX_CHARS - 4)), Some("x".repeat(MAX_CHARS - 5)), None];
        let rows = Rows {
            names: names.to_vec(),
            ids: vec![3, 2, 1],
            ats: vec![Some(3.0), Some(2.0), Some(9.0)],
            values: vec![vec![None; 3]],
            only: vec![vec![false; 3]],
        };
        let found = source.exemplars(&rows, 10.0);
        assert_eq!(found.iter().map(|(place, e)| (*place, e.at)).collect::<Vec<_>>(), [(0, 2.0)]);
        let none = Source { exemplar: None, ..source };
        assert_eq!(none.exemplars(&rows, 10.0), []);
    }
}
