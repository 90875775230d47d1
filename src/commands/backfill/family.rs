//! The samples of one metric family in one piece of the timeline, from what happened step by step. Pure: rows in, text out.

use std::collections::{BTreeMap, BTreeSet};

use crate::exposition::{Encoder as _, Format, Pairs, SeriesTotals, text};
use crate::ledger::Labels;
use crate::query::timeline::{Piece, Timeline};
use crate::source::Metric;
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

/// The totals of each series of a layout at the beginning of a piece.
pub type Totals = BTreeMap<Labels, Total>;

/// The total of a series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Total {
    sum: Happened,
    /// Which sums had fractions, whose addition rounds.
    fractions: Vec<bool>,
    /// The last sums written.
    shown: Vec<f64>,
}

/// Relative size of what sums of fractions may lose or win by the order in which they are added.
///
/// A live value that is lower than the last of the history, be it in the last bit, would be a counter reset.
const ROUNDING: f64 = 1e-12;

/// Where the text of a family goes.
pub trait Sink<E>: FnMut(&str) -> Result<(), E> {}
impl<E, T: FnMut(&str) -> Result<(), E>> Sink<E> for T {}

/// Writes one family of one piece.
#[derive(Debug)]
pub struct Family<'a> {
    layout: &'a Layout<'a>,
    metric: &'a Metric,
    timeline: &'a Timeline,
    piece: &'a Piece,
    /// Labels added to every series, as they stand between the braces.
    extra: &'a [(String, String)],
    before: &'a Totals,
    encoder: text::Encoder,
    series: Option<Series>,
    /// The sets that begin in this piece, with the point at which they do.
    born: BTreeMap<Labels, i64>,
    /// The series written so far, as they are at the end of the piece.
    after: Totals,
}

#[derive(Debug)]
struct Series {
    labels: Labels,
    total: Total,
    /// The next point to write.
    next: i64,
    /// The last point written.
    written: i64,
}

/// The totals before the beginning: of what is gone, and of the series that stand beside it from the start.
pub fn beginning(layout: &Layout, gone: Gone) -> Totals {
    let own = layout.source.labels.len();
    let sets: BTreeSet<Labels> = gone.keys().map(|labels| labels[..own].to_vec()).collect();
    let enumerated = enumerated(layout);
    let beside = sets.iter().flat_map(|set| enumerated.iter().map(move |by| [set.as_slice(), by].concat()));
    let mut totals: Totals = beside.map(|labels| (labels, Total::new(layout, Happened::default()))).collect();
    totals.extend(gone.into_iter().map(|(labels, gone)| (labels, Total::new(layout, gone))));
    totals
}

/// Combinations of the labels beside those of the source that exist as soon as the set does.
pub fn enumerated(layout: &Layout) -> BTreeSet<Labels> {
    let source = layout.source;
    let places: Vec<_> = layout.by.iter().filter_map(|l| source.by.iter().position(|by| by == l)).collect();
    source.enumerated.iter().map(|all| places.iter().map(|&i| all[i].clone()).collect()).collect()
}

impl<'a> Family<'a> {
    /// Begins a family.
    pub fn new(
        (layout, metric): (&'a Layout<'a>, &'a Metric),
        (timeline, piece): (&'a Timeline, &'a Piece),
        before: &'a Totals,
        extra: &'a [(String, String)],
    ) -> Self {
        let mut encoder = text::Encoder::new(Format::OpenMetrics, false, 0);
        encoder.family(&metric.name, metric.kind.type_name(), metric.unit.as_deref(), &metric.help);
        let (series, born, after) = (None, BTreeMap::new(), Totals::new());
        Self { layout, metric, timeline, piece, extra, before, encoder, series, born, after }
    }

    /// Takes the next row; the rows of a series come together, in the order of time.
    pub fn row<E>(&mut self, row: &Step, sink: &mut impl Sink<E>) -> Result<(), E> {
        if self.series.as_ref().is_none_or(|series| series.labels != row.labels) {
            self.end_series(sink)?;
            let by = &row.labels[self.layout.source.labels.len()..];
            let is_enumerated = by.is_empty() || enumerated(self.layout).contains(by);
            self.begin(row.labels.clone(), if is_enumerated { row.birth } else { row.point });
            let set = row.labels[..self.layout.source.labels.len()].to_vec();
            self.born.insert(set, row.birth);
        }
        self.until(row.point, sink)?;
        if let Some(series) = &mut self.series
            && series.total.add(&row.happened, self.layout, self.metric)
        {
            series.next = row.point.max(self.piece.first);
        }
        Ok(())
    }

    /// Ends the family after its last row, and returns the totals at the end of the piece.
    pub fn end<E>(mut self, sink: &mut impl Sink<E>) -> Result<Totals, E> {
        self.end_series(sink)?;
        for (set, birth) in std::mem::take(&mut self.born) {
            for by in enumerated(self.layout) {
                let labels = [set.as_slice(), &by].concat();
                if !self.after.contains_key(&labels) && !self.before.contains_key(&labels) {
                    self.begin(labels, birth);
                    self.end_series(sink)?;
                }
            }
        }
        for labels in self.before.keys() {
            if !self.after.contains_key(labels) {
                self.begin(labels.clone(), 0);
                self.end_series(sink)?;
            }
        }
        sink(&self.encoder.take())?;
        Ok(self.after)
    }

    /// Begins a series that has been there before the piece, or else has its first event at `point`.
    fn begin(&mut self, labels: Labels, point: i64) {
        let before = self.before.get(&labels);
        let total = before.cloned().unwrap_or_else(|| Total::new(self.layout, Happened::default()));
        // One point before its first event a series is 0, so that `increase()` sees the event.
        let next = if before.is_some() { self.piece.first } else { (point - 1).max(self.piece.first) };
        self.series = Some(Series { labels, total, next, written: -1 });
    }

    /// Writes the points before `point` that are due.
    fn until<E>(&mut self, point: i64, sink: &mut impl Sink<E>) -> Result<(), E> {
        let Some(series) = &mut self.series else { return Ok(()) };
        let names = self.layout.labels();
        let values = series.labels.clone();
        let own = names.iter().copied().zip(values.iter().map(String::as_str));
        let extra = self.extra.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let labels: Vec<_> = own.chain(extra).collect();
        while series.next < point.min(self.piece.last + 1) {
            self.encoder.at(self.timeline.time(series.next));
            series.total.write(&mut self.encoder, self.layout, self.metric, &labels);
            series.written = series.next;
            series.next += self.timeline.stride();
            if self.encoder.len() > 1 << 16 {
                sink(&self.encoder.take())?;
            }
        }
        Ok(())
    }

    fn end_series<E>(&mut self, sink: &mut impl Sink<E>) -> Result<(), E> {
        self.until(self.piece.last + 1, sink)?;
        // What goes on live begins where the history ends.
        let last = self.timeline.last();
        if let Some(series) = self.series.as_mut().filter(|s| self.piece.last == last && s.written < last) {
            series.next = last;
            self.until(last + 1, sink)?;
        }
        if let Some(mut series) = self.series.take() {
            // The other metrics of the layout have written their sums.
            self.layout.sums.iter().for_each(|&i| _ = series.total.sum(self.layout, i));
            self.after.insert(series.labels, series.total);
        }
        Ok(())
    }
}

impl Total {
    /// A total that begins with what is gone.
    pub fn new(layout: &Layout, mut sum: Happened) -> Self {
        sum.counts.resize(layout.counts.len(), 0);
        sum.sums.resize(layout.sums.len(), 0.0);
        let fractions = sum.sums.iter().map(|sum| sum.fract() != 0.0).collect();
        Self { shown: vec![0.0; sum.sums.len()], sum, fractions }
    }

    /// Adds what happened; true if it changes the samples of `metric`.
    fn add(&mut self, more: &Happened, layout: &Layout, metric: &Metric) -> bool {
        self.sum.counts.iter_mut().zip(&more.counts).for_each(|(total, more)| *total += more);
        self.sum.sums.iter_mut().zip(&more.sums).for_each(|(total, more)| *total += more);
        self.fractions.iter_mut().zip(&more.sums).for_each(|(fraction, more)| *fraction |= more.fract() != 0.0);
        let count = |i: usize| more.counts.get(place(&layout.counts, i)).is_some_and(|n| *n != 0);
        let sum = |i: usize| more.sums.get(place(&layout.sums, i)).is_some_and(|sum| *sum != 0.0);
        let slots = metric.kind.slots();
        // Every value is in the last bucket.
        match slots.counts.last() {
            Some(all) => count(all),
            None => slots.sum.is_some_and(sum),
        }
    }

    /// Writes the samples of a metric.
    pub fn write(&mut self, encoder: &mut text::Encoder, layout: &Layout, metric: &Metric, labels: &Pairs<'_>) {
        let count =
            |i: usize| self.sum.counts.get(place(&layout.counts, i)).copied().unwrap_or_default().max(0).unsigned_abs();
        let slots = metric.kind.slots();
        let counts: Vec<u64> = slots.counts.map(count).collect();
        let sum = slots.sum.map_or(0.0, |sum| self.sum(layout, sum));
        metric.kind.encode(encoder, labels, &SeriesTotals { counts: &counts, sum, ..SeriesTotals::default() });
    }

    /// A sum that neither falls nor is above the live one.
    fn sum(&mut self, layout: &Layout, i: usize) -> f64 {
        let place = place(&layout.sums, i);
        let exact = self.sum.sums.get(place).copied().unwrap_or_default();
        let fraction = self.fractions.get(place).is_some_and(|fraction| *fraction);
        let now = if fraction { exact - exact.abs() * ROUNDING } else { exact };
        let Some(shown) = self.shown.get_mut(place) else { return now };
        *shown = shown.max(now);
        *shown
    }
}

/// Where a measure of the source stands among those of the layout; beyond their end if it does not.
fn place(measures: &[usize], i: usize) -> usize {
    measures.iter().position(|measure| *measure == i).unwrap_or(measures.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;
    use crate::sql::history::layouts;

    const TOML: &str = "labels = [\"repo\"]\n[[counter]]\nname = \"x_total\"\nhelp = \"X.\"\nlabels = [\"status\"]\n\
        enumerate = { status = [\"good\", \"bad\"] }\n[[histogram]]\nname = \"x_ms\"\nhelp = \"X.\"\nvalue = \"ms\"\nbuckets = [10]\n";

    /// The text of each piece.
    fn text(which: usize, timeline: &Timeline, rows: &[Step], gone: Gone) -> String {
        let sources = Source::parse(vec![("x".into(), "SELECT 1".into(), TOML.into())], "q").unwrap();
        let layout = &layouts(&sources[0])[which];
        let extra = [("job".to_owned(), "a\"b".to_owned())];
        let mut totals = beginning(layout, gone);
        let mut out = String::new();
        for piece in timeline.pieces() {
            let mut sink = |text: &str| {
                out.push_str(text);
                Ok::<(), ()>(())
            };
            let mut family = Family::new((layout, layout.metrics[0]), (timeline, &piece), &totals, &extra);
            let own = rows.iter().filter(|row| timeline.piece_of(row.point) == piece.number);
            own.for_each(|row| family.row(row, &mut sink).unwrap());
            totals = family.end(&mut sink).unwrap();
            out.push_str("--\n");
        }
        out
    }

    fn step(labels: &[&str], point: i64, birth: i64, counts: &[i64], sums: &[f64]) -> Step {
        let happened = Happened { counts: counts.to_vec(), sums: sums.to_vec() };
        Step { labels: labels.iter().map(|l| (*l).to_owned()).collect(), point, birth, happened }
    }

    fn seconds(from: i64, to: i64, step: i64, days: bool) -> Timeline {
        Timeline { from: from * 1000, to: to * 1000, step: step * 1000, days }
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
        insta::assert_snapshot!(text(0, &seconds(1000, 1750, 250, false), &rows, Gone::new()));
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
        insta::assert_snapshot!(text(1, &seconds(1000, 1750, 250, false), &rows, gone));
    }

    #[test]
    fn a_value_that_does_not_change_is_written_every_four_minutes_and_when_a_day_begins() {
        // From 23:50 to 00:10 by minutes; the only event is at 23:53.
        let timeline = seconds(86_400 - 600, 86_400 + 600, 60, true);
        let rows = [step(&["a", "good"], 3, 3, &[1], &[])];
        let text = text(0, &timeline, &rows, Gone::new());
        let good: Vec<&str> = text.lines().filter(|line| line.contains("good") || *line == "--").collect();
        let times: Vec<&str> = good.iter().map(|line| line.rsplit(' ').next().unwrap()).collect();
        // 0 at 23:52, 1 at 23:53, then at 23:57; midnight, 00:04, 00:08 and the end.
        assert_eq!(times, ["85920", "85980", "86220", "--", "86400", "86640", "86880", "87000", "--"], "{text}");
    }

    #[test]
    fn a_series_whose_first_event_is_at_midnight_is_0_the_day_before() {
        let timeline = seconds(86_400 - 120, 86_400 + 120, 60, true);
        let text = text(0, &timeline, &[step(&["a", "good"], 2, 2, &[1], &[])], Gone::new());
        let (before, after) = text.split_once("--\n").unwrap();
        let zero = "x_total{repo=\"a\",status=\"good\",job=\"a\\\"b\"} 0 86340\n";
        let one = "x_total{repo=\"a\",status=\"good\",job=\"a\\\"b\"} 1 86400\n";
        assert!(before.contains(zero) && after.contains(one), "{text}");
    }
}
