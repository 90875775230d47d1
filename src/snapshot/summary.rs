//! A source in a few numbers, for people: what the status page shows beside the metrics.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::distribution::Histogram;
use super::series::SeriesReader;
use crate::ledger::{Labels, Ledger};
use crate::source::{Metric, Source};

/// Of more series than this, the summary names only the largest.
const TOP: usize = 50;
/// A source as of one poll.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Rows counted since the tables began, or the state file.
    pub rows: u64,
    /// Rows that are not done.
    pub open: u64,
    /// Ranges of ids that no poll has seen; not the wide ones, such as that below the smallest id.
    pub gaps: u64,
    /// Rejected values by column.
    pub rejected: Vec<(String, u64)>,
    /// Sets of identifying labels.
    pub sets: u64,
    /// Rows counted under `__overflow__`.
    pub overflowed: u64,
    /// Its metrics, in the order of the definition.
    pub metrics: Vec<MetricSummary>,
}

/// A metric over all its series, which are shown as they are in the exposition.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricSummary {
    /// The name.
    pub name: String,
    /// What it is.
    pub help: String,
    /// The type as Prometheus calls it.
    pub kind: &'static str,
    /// The unit, if it has one.
    pub unit: Option<String>,
    /// How many series there are.
    pub series: usize,
    /// Their sum; of a histogram, how many values; of a time, the time in seconds since the epoch.
    pub total: Option<f64>,
    /// How the values are distributed, for a histogram.
    pub histogram: Option<Histogram>,
    /// The total by the metric's own labels, for one that has some: their values, as one text.
    pub parts: Vec<(String, f64)>,
    /// The largest series: labels with their values, and the total.
    pub top: Vec<(Vec<(String, String)>, f64)>,
}

impl Summary {
    /// Adds up what the ledger shows.
    pub fn new(source: &Source, ledger: &Ledger) -> Self {
        let columns = source.values.iter().map(|value| value.column.clone());
        Self {
            rows: ledger.rows(),
            open: ledger.open(),
            gaps: ledger.gaps(),
            rejected: columns.zip(ledger.rejected().iter().copied()).collect(),
            sets: ledger.sets().len() as u64,
            overflowed: ledger.overflowed(),
            metrics: source.metrics.iter().map(|metric| MetricSummary::new(source, metric, ledger)).collect(),
        }
    }
}

impl MetricSummary {
    fn new(source: &Source, metric: &Metric, ledger: &Ledger) -> Self {
        let mut summary = Self {
            name: metric.name.clone(),
            help: metric.help.clone(),
            kind: metric.kind.type_name(),
            unit: metric.unit.clone(),
            series: 0,
            total: None,
            histogram: None,
            parts: Vec::new(),
            top: Vec::new(),
        };
        if metric.kind.is_gauge() {
            let values = metric.kind.gauge(source, metric, ledger).into_iter().map(|(_, value)| value);
            summary.total = metric.kind.combine().of(values);
        } else {
            summary.add_up(source, metric, ledger);
        }
        summary
    }

    fn add_up(&mut self, source: &Source, metric: &Metric, ledger: &Ledger) {
        let bounds = metric.kind.bounds();
        let empty = || Histogram { bounds: bounds.to_vec(), counts: vec![0; bounds.len() + 1], sum: 0.0 };
        let mut histogram = (!bounds.is_empty()).then(empty);
        let (mut all, mut total) = (Vec::new(), 0.0);
        let mut parts: BTreeMap<Vec<&str>, f64> = BTreeMap::new();
        let mut part = Vec::new();
        let mut reader = SeriesReader::new(source, metric);
        for (values, set) in ledger.sets() {
            reader.each(set, |more, shown| {
                let value = shown.value();
                if let Some(histogram) = &mut histogram {
                    crate::ledger::totals::add(&mut histogram.counts, shown.counts);
                    histogram.sum += shown.sum;
                }
                total += value;
                all.push((value, values, more.by));
                part.clear();
                part.extend(more);
                match parts.get_mut(part.as_slice()) {
                    Some(sum) => *sum += value,
                    None if part.is_empty() => {}
                    None => _ = parts.insert(part.clone(), value),
                }
            });
        }
        let descending = |a: &(f64, _, _), b: &(f64, _, _)| b.0.partial_cmp(&a.0).unwrap_or(Ordering::Equal);
        self.series = all.len();
        self.total = Some(total);
        self.parts = parts.into_iter().map(|(values, total)| (values.join(", "), total)).collect();
        self.histogram = histogram;
        // Most sources have far more series than anyone reads: no label of theirs is copied.
        if all.len() > TOP {
            all.select_nth_unstable_by(TOP, descending);
            all.truncate(TOP);
        }
        all.sort_by(descending);
        let names = |values: &Labels, by| {
            let own = source.labels.iter().zip(values).map(|(label, value)| (label.clone(), value.clone()));
            let more =
                metric.labels.iter().zip(reader.values(by)).map(|(label, value)| (label.clone(), value.to_owned()));
            own.chain(more).collect()
        };
        self.top = all.into_iter().map(|(value, values, by)| (names(values, by), value)).collect();
    }
}

/// The total of each metric, as its summary has it, after that of the rows.
pub fn totals(source: &Source, ledger: &Ledger) -> Vec<f64> {
    let total = |metric: &Metric| {
        let mut total = 0.0;
        if !metric.kind.is_gauge() {
            let mut reader = SeriesReader::new(source, metric);
            ledger.sets().iter().for_each(|(_, set)| reader.each(set, |_, shown| total += shown.value()));
        }
        total
    };
    std::iter::once(ledger.rows() as f64).chain(source.metrics.iter().map(total)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::decimal::Decimal;
    use crate::ledger::missing::Moment;

    #[test]
    fn a_summary_adds_up_what_the_exposition_shows() {
        let toml = "labels = [\"repo\"]\n[[counter]]\nname = \"x_total\"\nhelp = \"X.\"\nlabels = [\"status\"]\n\
                    [[histogram]]\nname = \"x_ms\"\nhelp = \"X.\"\nvalue = \"ms\"\nbuckets = [1, 2]\n\
                    [[gauge]]\nname = \"x_open\"\nhelp = \"X.\"\nof = \"open\"\n";
        let source = Source::parse(vec![("x".into(), "SELECT 1".into(), toml.into())], "q").unwrap().remove(0);
        let mut ledger = Ledger::new(source.shape(1000));
        let group = |id: i64, status: &str| crate::ledger::Group {
            set: vec![format!("repo {}", id % 60)],
            by: vec![status.to_owned()],
            done: status != "open",
            ids: vec![id],
            // Rows, two buckets, all values.
            counts: vec![1, 0, 1, 1],
            sums: vec![Decimal::parse("1.5").unwrap()],
            rejected: vec![u64::from(id == 7)],
            ..crate::ledger::Group::default()
        };
        let mut groups: Vec<_> =
            (1..=100).map(|id| group(id, if id % 4 == 0 { "failed" } else { "completed" })).collect();
        groups.push(group(101, "open"));
        ledger.apply(&ledger.plan(&[], 1000), None, groups, Moment::default()).unwrap();
        let summary = Summary::new(&source, &ledger);
        assert_eq!(totals(&source, &ledger), [100.0, 100.0, 100.0, 0.0]);
        assert_eq!((summary.rows, summary.open, summary.sets), (100, 1, 60));
        assert_eq!(summary.rejected, [("ms".to_owned(), 1)]);
        let [total, values, open] = summary.metrics.as_slice() else { panic!("{summary:?}") };
        assert_eq!((total.total, total.series), (Some(100.0), 60));
        assert_eq!(total.parts, [("completed".to_owned(), 75.0), ("failed".to_owned(), 25.0)]);
        assert_eq!(total.top.len(), TOP);
        // 40 sets have two rows: all of them are among the largest.
        assert_eq!(total.top.iter().filter(|(_, value)| *value == 2.0).count(), 40);
        let labels = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert!(total.top.iter().any(|(l, _)| *l == [labels("repo", "repo 1"), labels("status", "completed")]));
        let expected = Histogram { bounds: vec![1.0, 2.0], counts: vec![0, 100, 100], sum: 150.0 };
        assert_eq!((values.histogram.as_ref(), values.total, values.series), (Some(&expected), Some(100.0), 60));
        assert_eq!((open.total, open.series), (Some(1.0), 0));
    }
}
