//! What the status page shows beside the metrics: a summary of each source, and how polls went.

mod trend;

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

pub use trend::{Totals, Trend};

use crate::db::Failure;
use crate::exposition::source as exposition;
use crate::ledger::{Labels, Ledger};
use crate::source::{Kind, Metric, Source};

/// Of more series than this, the summary names only the largest.
const TOP: usize = 50;
/// The polls of this time are one bar of the timeline.
pub const SLOT: Duration = Duration::from_secs(30);
/// The timeline has this many bars: one hour.
pub const SLOTS: u64 = 120;

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

/// A distribution.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Upper bounds, rising, finite.
    pub bounds: Vec<f64>,
    /// How many values are not above each bound, and how many there are in all.
    pub counts: Vec<u64>,
    /// The sum of all values.
    pub sum: f64,
}

impl Summary {
    /// Adds up what the ledger shows.
    pub fn new(source: &Source, ledger: &Ledger) -> Self {
        let columns = source.values.iter().map(|value| value.column.clone());
        Self {
            rows: ledger.rows(),
            open: ledger.frontier().open().len(),
            gaps: ledger.frontier().missing().watched(),
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
        match &metric.kind {
            Kind::Newest => summary.total = ledger.newest(),
            Kind::Open => summary.total = Some(ledger.open_rows().values().map(|open| open.rows).sum::<u64>() as f64),
            Kind::Oldest(i) => {
                let oldest = ledger.open_rows().values().filter_map(|open| open.oldest.get(*i).copied().flatten());
                summary.total = oldest.reduce(f64::min);
            }
            kind => summary.add_up(source, metric, kind, ledger),
        }
        summary
    }

    fn add_up(&mut self, source: &Source, metric: &Metric, kind: &Kind, ledger: &Ledger) {
        let mut histogram = match kind {
            Kind::Histogram { buckets, .. } => {
                Some(Histogram { bounds: buckets.clone(), counts: vec![0; buckets.len() + 1], sum: 0.0 })
            }
            _ => None,
        };
        let (mut all, mut total) = (Vec::new(), 0.0);
        let mut parts: BTreeMap<Vec<&str>, f64> = BTreeMap::new();
        let mut part = Vec::new();
        let mut reader = exposition::Reader::new(source, metric);
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

/// Where a quantile lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Quantile {
    /// At this value, as Prometheus' `histogram_quantile` has it.
    At(f64),
    /// Above the last bound.
    Above(f64),
}

impl Histogram {
    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.counts.last().copied().unwrap_or_default()
    }

    /// How many values are in each bucket alone.
    pub fn buckets(&self) -> Vec<u64> {
        let before = std::iter::once(&0).chain(&self.counts);
        self.counts.iter().zip(before).map(|(count, before)| count.saturating_sub(*before)).collect()
    }

    /// The value below which this part of the values is, 0 to 1; none without values.
    pub fn quantile(&self, part: f64) -> Option<Quantile> {
        let rank = part * self.count() as f64;
        let bucket = self.counts.iter().position(|count| *count > 0 && *count as f64 >= rank)?;
        let Some(upper) = self.bounds.get(bucket) else {
            return Some(Quantile::Above(self.bounds.last().copied()?));
        };
        let (lower, below) = match bucket.checked_sub(1) {
            Some(before) => (self.bounds[before], self.counts[before]),
            // Values are not negative: the first bucket begins at 0.
            None => (0.0_f64.min(*upper), 0),
        };
        let within = (self.counts[bucket] - below) as f64;
        let part = if within > 0.0 { (rank - below as f64) / within } else { 1.0 };
        Some(Quantile::At(lower + (upper - lower) * part))
    }
}

/// The total of each metric, as its summary has it, after that of the rows.
pub fn totals(source: &Source, ledger: &Ledger) -> Vec<f64> {
    let total = |metric: &Metric| {
        let mut total = 0.0;
        if !metric.kind.is_gauge() {
            let mut reader = exposition::Reader::new(source, metric);
            ledger.sets().iter().for_each(|(_, set)| reader.each(set, |_, shown| total += shown.value()));
        }
        total
    };
    std::iter::once(ledger.rows() as f64).chain(source.metrics.iter().map(total)).collect()
}

/// How polls went.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The polls of the last hour, oldest first.
    pub slots: VecDeque<Slot>,
    /// The last poll: when it ended and how long it took.
    pub last: Option<(SystemTime, Duration)>,
    /// When the next poll begins, unless one is going on.
    pub next: Option<Instant>,
    /// Why the database could not be read at all.
    pub failure: Option<Trouble>,
    /// Why sources could not be read, by name, when the database could.
    pub sources: BTreeMap<String, Trouble>,
    /// The server's version, and true if it is a standby.
    pub server: Option<(String, bool)>,
    /// When the state was last saved, and true if the last attempt to save it failed.
    pub saved: (Option<SystemTime>, bool),
}

/// A failure that goes on.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// The last one.
    pub failure: Failure,
    /// When the first of those in a row was.
    pub since: SystemTime,
}

impl Trouble {
    /// A failure that follows on what was before.
    pub fn after(failure: Failure, before: Option<&Self>) -> Self {
        Self { failure, since: before.map_or_else(SystemTime::now, |before| before.since) }
    }
}

/// The polls of a part of the hour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slot {
    /// Which part, counted from the start of the process.
    pub number: u64,
    /// The longest of them.
    pub longest: Duration,
    /// Whether any failed.
    pub failed: bool,
}

impl History {
    /// Adds a poll that ended now, `age` after the process began.
    pub fn add(&mut self, age: Duration, took: Duration, failure: Option<&Failure>) {
        let failed = failure.is_some() || !self.sources.is_empty();
        self.last = Some((SystemTime::now(), took));
        self.failure = failure.map(|failure| Trouble::after(failure.clone(), self.failure.as_ref()));
        let number = age.as_secs() / SLOT.as_secs();
        match self.slots.back_mut().filter(|slot| slot.number == number) {
            Some(slot) => *slot = Slot { number, longest: slot.longest.max(took), failed: slot.failed || failed },
            None => self.slots.push_back(Slot { number, longest: took, failed }),
        }
        while self.slots.front().is_some_and(|slot| slot.number + SLOTS <= number) {
            self.slots.pop_front();
        }
    }
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

    fn histogram(counts: &[u64]) -> Histogram {
        Histogram { bounds: vec![10.0, 20.0, 40.0], counts: counts.to_vec(), sum: 0.0 }
    }

    /// The expected values are what Prometheus' `histogram_quantile` gives for the same buckets.
    #[test]
    fn quantiles_lie_where_prometheus_puts_them() {
        let h = histogram(&[2, 4, 8, 8]);
        assert_eq!(h.quantile(0.5), Some(Quantile::At(20.0)));
        assert_eq!(h.quantile(0.25), Some(Quantile::At(10.0)));
        assert_eq!(h.quantile(0.75), Some(Quantile::At(30.0)));
        assert_eq!(histogram(&[0, 0, 1, 4]).quantile(0.95), Some(Quantile::Above(40.0)));
        assert_eq!(histogram(&[4, 4, 4, 4]).quantile(0.5), Some(Quantile::At(5.0)));
        assert_eq!(histogram(&[0, 0, 0, 0]).quantile(0.5), None);
        assert_eq!(histogram(&[2, 2, 5, 9]).buckets(), [2, 0, 3, 4]);
    }

    #[test]
    fn the_timeline_holds_an_hour_whatever_the_interval() {
        let mut history = History::default();
        for second in 0..10_000 {
            history.add(Duration::from_secs(second), Duration::from_millis(second), None);
        }
        assert_eq!(history.slots.len() as u64, SLOTS);
        assert_eq!(history.slots.back().map(|slot| slot.longest), Some(Duration::from_millis(9_999)));
        let failure = Failure::new(crate::db::Reason::Timeout, "slow");
        history.add(Duration::from_secs(20_000), Duration::from_secs(1), Some(&failure));
        assert_eq!(history.slots.iter().map(|slot| slot.failed).collect::<Vec<_>>(), [true]);
    }
}
