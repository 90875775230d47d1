//! The samples of one metric family over time, from what happened step by step. Pure: rows in, text out.

use std::collections::{BTreeMap, BTreeSet};

use super::Timeline;
use crate::exposition::{Encoder as _, Format, Pairs, text};
use crate::ledger::Labels;
use crate::source::{Kind, Metric};
use crate::sql::history::Layout;

/// What happened to one series in one step, or what is gone from it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Happened {
    /// Counts, as the layout has them. What is gone can be negative where rows were changed after they were counted.
    pub counts: Vec<i64>,
    /// Sums, likewise.
    pub sums: Vec<f64>,
}

/// One row of the history.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Step {
    /// Values of all labels of the layout.
    pub labels: Labels,
    /// The point at which it first shows; 0 for all until the beginning.
    pub point: i64,
    /// The first point of the set of series.
    pub birth: i64,
    /// What happened.
    pub happened: Happened,
}

/// What was counted and is in no row any more, by the labels of the layout.
pub type Gone = BTreeMap<Labels, Happened>;

/// Relative size of what sums of fractions may lose or win by the order in which they are added.
///
/// A live value that is lower than the last of the history, be it in the last bit, would be a counter reset.
const ROUNDING: f64 = 1e-12;

/// Writes one family.
#[derive(Debug)]
pub struct Family<'a> {
    layout: &'a Layout<'a>,
    metric: &'a Metric,
    timeline: &'a Timeline,
    gone: &'a Gone,
    /// Labels added to every series, as they stand between the braces.
    extra: &'a [(String, String)],
    /// Combinations of the labels beside those of the source that exist as soon as the set does.
    enumerated: BTreeSet<Labels>,
    encoder: text::Encoder,
    series: Option<Series>,
    /// The values of the labels beside those of the source, in the current set.
    seen: BTreeSet<Labels>,
    /// The sets that had rows.
    sets: BTreeSet<Labels>,
}

#[derive(Debug)]
struct Series {
    labels: Labels,
    birth: i64,
    /// The next point to write.
    next: i64,
    total: Happened,
    /// Which sums had fractions, whose addition rounds.
    fractions: Vec<bool>,
    /// The last sum written.
    sum: f64,
}

impl<'a> Family<'a> {
    /// Begins a family.
    pub fn new(
        layout: &'a Layout<'a>,
        metric: &'a Metric,
        timeline: &'a Timeline,
        gone: &'a Gone,
        extra: &'a [(String, String)],
    ) -> Self {
        let mut encoder = text::Encoder::new(Format::OpenMetrics, false, 0);
        encoder.family(&metric.name, metric.kind.type_name(), metric.unit.as_deref(), &metric.help);
        let source = layout.source;
        let places: Vec<_> = layout.by.iter().filter_map(|l| source.by.iter().position(|by| by == l)).collect();
        let enumerated = source.enumerated.iter().map(|all| places.iter().map(|&i| all[i].clone()).collect());
        let enumerated = enumerated.collect();
        let (series, seen, sets) = (None, BTreeSet::new(), BTreeSet::new());
        Self { layout, metric, timeline, gone, extra, enumerated, encoder, series, seen, sets }
    }

    /// The text since the last call.
    pub fn take(&mut self) -> String {
        self.encoder.take()
    }

    /// Takes the next row; rows come in the order of their labels, then of time. `full` is called when there is much text.
    pub fn row<E>(&mut self, row: &Step, full: &mut impl FnMut(String) -> Result<(), E>) -> Result<(), E> {
        let same = self.series.as_ref().is_some_and(|series| series.labels == row.labels);
        if !same {
            self.end_series(full)?;
            let sets = self.layout.source.labels.len();
            let last = self.series.as_ref().map(|series| &series.labels[..sets]);
            if last.is_some_and(|last| last != &row.labels[..sets]) {
                self.end_set(full)?;
            }
            self.begin(row.labels.clone(), row.birth, row.point);
        }
        self.until(row.point, full)?;
        if let Some(series) = &mut self.series {
            series.add(&row.happened);
        }
        Ok(())
    }

    /// Ends the family, after its last row.
    pub fn end<E>(&mut self, full: &mut impl FnMut(String) -> Result<(), E>) -> Result<(), E> {
        self.end_series(full)?;
        self.end_set(full)?;
        // Sets of which no row is left have stood still all the time.
        let own = self.layout.source.labels.len();
        let sets: BTreeSet<Labels> = self.gone.keys().map(|labels| labels[..own].to_vec()).collect();
        for set in sets.difference(&self.sets.clone()) {
            let all: BTreeSet<Labels> = self.gone_of(set).chain(self.enumerated.iter().cloned()).collect();
            for by in all {
                self.begin([set.as_slice(), &by].concat(), 0, 0);
                self.end_series(full)?;
            }
            self.seen.clear();
            self.series = None;
        }
        Ok(())
    }

    /// The values of the labels beside those of the source, of all series of a set from which something is gone.
    fn gone_of(&self, set: &[String]) -> impl Iterator<Item = Labels> + use<'a> {
        let (set, own) = (set.to_vec(), set.len());
        let from = self.gone.range(set.clone()..).map(|(labels, _)| labels);
        from.take_while(move |labels| labels[..own] == set).map(move |labels| labels[own..].to_vec())
    }

    /// Begins a series whose set begins at `birth`, and which has its first row at `point`.
    fn begin(&mut self, labels: Labels, birth: i64, point: i64) {
        let own = self.layout.source.labels.len();
        let by = labels[own..].to_vec();
        let gone = self.gone.get(&labels).cloned();
        let of_set = labels[..own].to_vec();
        let first = if self.gone_of(&of_set).next().is_some() {
            0
        } else if by.is_empty() || self.enumerated.contains(&by) {
            birth
        } else {
            point
        };
        let mut total = gone.unwrap_or_default();
        total.counts.resize(self.layout.counts.len(), 0);
        total.sums.resize(self.layout.sums.len(), 0.0);
        self.sets.insert(of_set);
        self.seen.insert(by);
        let fractions = total.sums.iter().map(|sum| sum.fract() != 0.0).collect();
        // One point before its first event a series is 0, so that `increase()` sees the event.
        let next = (first - 1).max(0);
        self.series = Some(Series { labels, birth, next, total, fractions, sum: 0.0 });
    }

    /// Writes the points before `point`.
    fn until<E>(&mut self, point: i64, full: &mut impl FnMut(String) -> Result<(), E>) -> Result<(), E> {
        let Some(series) = &mut self.series else { return Ok(()) };
        let names = self.layout.labels();
        let values = series.labels.clone();
        let own = names.iter().copied().zip(values.iter().map(String::as_str));
        let extra = self.extra.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let labels: Vec<_> = own.chain(extra).collect();
        while series.next < point {
            self.encoder.at(self.timeline.time(series.next));
            series.write(&mut self.encoder, self.layout, self.metric, &labels);
            series.next += 1;
            if self.encoder.len() > 1 << 16 {
                full(self.encoder.take())?;
            }
        }
        Ok(())
    }

    fn end_series<E>(&mut self, full: &mut impl FnMut(String) -> Result<(), E>) -> Result<(), E> {
        self.until(self.timeline.last() + 1, full)
    }

    /// Writes the series of a set that are enumerated, or gone, and had no row.
    fn end_set<E>(&mut self, full: &mut impl FnMut(String) -> Result<(), E>) -> Result<(), E> {
        let Some(series) = self.series.take() else { return Ok(()) };
        let own = self.layout.source.labels.len();
        let set = &series.labels[..own];
        let all: BTreeSet<Labels> = self.gone_of(set).chain(self.enumerated.iter().cloned()).collect();
        for by in all.difference(&self.seen.clone()) {
            self.begin([set, by].concat(), series.birth, series.birth);
            self.end_series(full)?;
        }
        self.seen.clear();
        self.series = None;
        Ok(())
    }
}

impl Series {
    fn add(&mut self, more: &Happened) {
        self.total.counts.iter_mut().zip(&more.counts).for_each(|(total, more)| *total += more);
        self.total.sums.iter_mut().zip(&more.sums).for_each(|(total, more)| *total += more);
        self.fractions.iter_mut().zip(&more.sums).for_each(|(fraction, more)| *fraction |= more.fract() != 0.0);
    }

    fn write(&mut self, encoder: &mut text::Encoder, layout: &Layout, metric: &Metric, labels: &Pairs<'_>) {
        let count = |i: &usize| {
            let place = layout.counts.iter().position(|count| count == i);
            place.map_or(0, |place| self.total.counts[place]).max(0).unsigned_abs()
        };
        match &metric.kind {
            Kind::Rows(i) => encoder.counter(labels, count(i) as f64, None),
            Kind::Sum(i) => {
                let sum = self.sum(layout, *i);
                encoder.counter(labels, sum, None);
            }
            Kind::Histogram { buckets, first, sum } => {
                let counts: Vec<u64> = (*first..=first + buckets.len()).map(|i| count(&i)).collect();
                let sum = self.sum(layout, *sum);
                encoder.histogram(labels, buckets, &counts, sum, None);
            }
            Kind::Open | Kind::Newest => {}
        }
    }

    /// A sum that neither falls nor is above the live one.
    fn sum(&mut self, layout: &Layout, i: usize) -> f64 {
        let place = layout.sums.iter().position(|sum| *sum == i);
        let exact = place.map_or(0.0, |place| self.total.sums[place]);
        let fraction = place.is_some_and(|place| self.fractions[place]);
        let shown = if fraction { exact - exact.abs() * ROUNDING } else { exact };
        self.sum = self.sum.max(shown);
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;
    use crate::sql::history::layouts;

    const TOML: &str = "labels = [\"repo\"]\n[[counter]]\nname = \"x_total\"\nhelp = \"X.\"\nlabels = [\"status\"]\n\
        enumerate = { status = [\"good\", \"bad\"] }\n[[histogram]]\nname = \"x_ms\"\nhelp = \"X.\"\nvalue = \"ms\"\nbuckets = [10]\n";

    fn text(which: usize, rows: &[Step], gone: &Gone) -> String {
        let sources = Source::parse(vec![("x".into(), "SELECT 1".into(), TOML.into())], "q").unwrap();
        let layouts = layouts(&sources[0]);
        let timeline = Timeline { from: 1_000_000, to: 1_250_000, step: 100_000 };
        let extra = [("job".to_owned(), "a\"b".to_owned())];
        let mut family = Family::new(&layouts[which], layouts[which].metrics[0], &timeline, gone, &extra);
        let mut out = String::new();
        let mut full = |text: String| {
            out.push_str(&text);
            Ok::<(), ()>(())
        };
        rows.iter().for_each(|row| family.row(row, &mut full).unwrap());
        family.end(&mut full).unwrap();
        out + &family.take()
    }

    fn step(labels: &[&str], point: i64, birth: i64, counts: &[i64], sums: &[f64]) -> Step {
        let happened = Happened { counts: counts.to_vec(), sums: sums.to_vec() };
        Step { labels: labels.iter().map(|l| (*l).to_owned()).collect(), point, birth, happened }
    }

    #[test]
    fn series_are_born_at_zero_and_go_on_to_the_end() {
        let rows = [
            // Before the beginning, and again later.
            step(&["a", "good"], 0, 0, &[5], &[]),
            step(&["a", "good"], 2, 0, &[1], &[]),
            // Born in the range: with all that is enumerated, but `odd` only when it comes.
            step(&["b", "bad"], 2, 2, &[1], &[]),
            step(&["b", "odd"], 3, 2, &[1], &[]),
        ];
        insta::assert_snapshot!(text(0, &rows, &Gone::new()));
    }

    #[test]
    fn what_is_gone_counts_from_the_beginning() {
        let rows = [step(&["a"], 2, 2, &[1, 2], &[7.5]), step(&["c"], 1, 1, &[1, 1], &[3.0])];
        let gone: Gone = [
            (vec!["a".to_owned()], Happened { counts: vec![1, 1], sums: vec![4.0] }),
            (vec!["b".to_owned()], Happened { counts: vec![0, 1], sums: vec![90.0] }),
            // More in the table than was counted: rows were changed.
            (vec!["c".to_owned()], Happened { counts: vec![-1, -1], sums: vec![-3.0] }),
        ]
        .into();
        insta::assert_snapshot!(text(1, &rows, &gone));
    }
}
