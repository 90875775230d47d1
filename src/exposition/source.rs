//! The metrics of one source, from its ledger.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{Encoder, Pairs};
use crate::ledger::decimal::Decimal;
use crate::ledger::native::{self, Native};
use crate::ledger::{Birth, Cell, Labels, Ledger, OpenRows, Set, Shape, totals};
use crate::source::{Kind, Metric, Source};

/// Encodes every metric of a source. Series that are not released yet are shown as 0.
///
/// Nothing is copied and nothing allocated for a single series but what is written.
pub fn encode(encoder: &mut dyn Encoder, source: &Source, ledger: &Ledger) {
    let mut labels = Vec::new();
    for metric in &source.metrics {
        let gauge = gauge(source, metric, ledger);
        // Nothing to say where there is no such row: 0 would be a time.
        if gauge.is_empty() && matches!(metric.kind, Kind::Newest | Kind::Oldest(_)) {
            continue;
        }
        encoder.family(&metric.name, metric.kind.type_name(), metric.unit.as_deref(), &metric.help);
        match &metric.kind {
            Kind::Open | Kind::Oldest(_) | Kind::Newest => {
                for (values, value) in gauge {
                    let labels: Vec<_> = metric.labels.iter().map(String::as_str).zip(values).collect();
                    encoder.gauge(&labels, value);
                }
            }
            kind => {
                let mut reader = Reader::new(source, metric);
                if encoder.has_natives() {
                    reader.read_natives(ledger.shape());
                }
                for (values, set) in ledger.sets() {
                    labels.clear();
                    labels
                        .extend(source.labels.iter().zip(values).map(|(name, value)| (name.as_str(), value.as_str())));
                    let own = labels.len();
                    reader.each(set, |more, shown| {
                        labels.truncate(own);
                        labels.extend(metric.labels.iter().map(String::as_str).zip(more));
                        sample(encoder, kind, &labels, &shown);
                    });
                }
            }
        }
    }
}

fn sample(encoder: &mut dyn Encoder, kind: &Kind, labels: &Pairs<'_>, shown: &Shown<'_>) {
    match kind {
        Kind::Rows(_) | Kind::Sum(_) => encoder.counter(labels, shown.value(), shown.start),
        Kind::Histogram { buckets, .. } => {
            encoder.histogram(labels, buckets, shown.counts, shown.sum, shown.start, shown.native);
        }
        Kind::Open | Kind::Oldest(_) | Kind::Newest => {}
    }
}

/// What one series shows.
#[derive(Debug)]
pub struct Shown<'r> {
    /// The whole-number measures of its metric: the rows, or the cumulative buckets with the count of all values.
    pub counts: &'r [u64],
    /// The sum of its metric.
    pub sum: f64,
    /// When it was born, in milliseconds since the epoch, where that is known.
    pub start: Option<i64>,
    /// The native histogram, if it has one that is [read](Reader::read_natives), and its zero threshold.
    pub native: Option<(&'r Native, f64)>,
}

impl Shown<'_> {
    /// How many rows or values there are; of a metric that only adds up values, their sum.
    pub fn value(&self) -> f64 {
        self.counts.last().map_or(self.sum, |count| *count as f64)
    }
}

/// Reads the series of one metric: the cells of a set, added up over the labels that the metric does not have.
#[derive(Debug)]
pub struct Reader<'a> {
    /// Where the labels of the metric stand among those of a cell.
    positions: Vec<usize>,
    counts: Range<usize>,
    sum: Option<usize>,
    native: Option<usize>,
    /// How the native histogram is made, if it is to be read.
    settings: Option<native::Settings>,
    /// The cells of the set that is being read, those of one series side by side.
    cells: Vec<(&'a Labels, &'a Cell)>,
    added: Vec<u64>,
    merged: Native,
}

impl<'a> Reader<'a> {
    /// A reader for all sets of a ledger of this source.
    pub fn new(source: &Source, metric: &Metric) -> Self {
        let position = |label| source.by.iter().position(|by| by == label);
        let (counts, sum, native) = match &metric.kind {
            Kind::Rows(i) => (*i..i + 1, None, None),
            Kind::Sum(i) => (0..0, Some(*i), None),
            Kind::Histogram { buckets, first, sum, native } => (*first..first + buckets.len() + 1, Some(*sum), *native),
            Kind::Open | Kind::Oldest(_) | Kind::Newest => (0..0, None, None),
        };
        let positions = metric.labels.iter().filter_map(position).collect();
        let (cells, added, merged) = Default::default();
        Self { positions, counts, sum, native, settings: None, cells, added, merged }
    }

    /// Reads native histograms from now on.
    pub fn read_natives(&mut self, shape: &Shape) {
        self.settings = self.native.and_then(|i| shape.natives.get(i).cloned());
    }

    /// The values of the labels of the metric among those of a cell.
    pub fn values<'r>(&'r self, by: &'a Labels) -> Values<'a, 'r> {
        Values { by, positions: self.positions.iter() }
    }

    /// Visits the series of a set, in the order of the values of the metric's labels.
    pub fn each(&mut self, set: &'a Set, mut visit: impl FnMut(Values<'a, '_>, Shown<'_>)) {
        let Self { positions, counts, sum, native, settings, cells, added, merged } = self;
        let values = |by: &'a Labels| Values { by, positions: positions.iter() };
        cells.clear();
        cells.extend(&set.cells);
        // The cells are in the order of all their labels, which is mostly this one too.
        cells.sort_by(|a, b| values(a.0).cmp(values(b.0)));
        for same in cells.chunk_by(|a, b| values(a.0).eq(values(b.0))) {
            let held = |cell: &Cell| if positions.is_empty() { set.birth } else { cell.birth } != Birth::Released;
            // Added up, they start with the first, and that is not known where it is not known of one: none is less than any.
            let start = if positions.is_empty() { set.start } else { same.iter().map(|c| c.1.start).min().flatten() };
            if let (Some(i), Some(settings)) = (*native, &*settings) {
                merged.clear();
                same.iter()
                    .filter(|(_, cell)| !held(cell))
                    .for_each(|(_, cell)| merged.merge(&cell.natives[i], settings));
                merged.lower(settings.schema);
            }
            let native = settings.as_ref().map(|settings| (&*merged, settings.zero_threshold));
            match same {
                [(by, cell)] if !held(cell) => {
                    let sum = sum.map_or(0.0, |i| cell.sums[i].to_f64());
                    visit(values(by), Shown { counts: &cell.counts[counts.clone()], sum, start, native });
                }
                _ => {
                    added.clear();
                    added.resize(counts.len(), 0);
                    let mut total = Decimal::default();
                    for (_, cell) in same.iter().filter(|(_, cell)| !held(cell)) {
                        totals::add(added, &cell.counts[counts.clone()]);
                        total += sum.map_or(Decimal::default(), |i| cell.sums[i]);
                    }
                    visit(values(same[0].0), Shown { counts: added, sum: total.to_f64(), start, native });
                }
            }
        }
    }
}

/// The values of the labels that a metric has beside those of the source.
#[derive(Clone, Debug)]
pub struct Values<'a, 'r> {
    /// All labels of a cell of the series beside those of the source.
    pub by: &'a Labels,
    positions: std::slice::Iter<'r, usize>,
}

impl<'a> Iterator for Values<'a, '_> {
    type Item = &'a str;

    fn next(&mut self) -> Option<Self::Item> {
        self.positions.next().map(|&i| self.by[i].as_str())
    }
}

/// The values of a gauge, by those of its labels; nothing for other metrics.
fn gauge<'a>(source: &Source, metric: &'a Metric, ledger: &'a Ledger) -> Vec<(Vec<&'a str>, f64)> {
    let open = match metric.kind {
        Kind::Newest => return ledger.newest().map(|newest| (Vec::new(), newest)).into_iter().collect(),
        Kind::Open => open(source, metric, ledger, zeros(source, metric, ledger)),
        Kind::Oldest(_) => open(source, metric, ledger, BTreeMap::new()),
        _ => return Vec::new(),
    };
    let value = |open: OpenRows| match metric.kind {
        Kind::Oldest(i) => open.oldest.get(i).copied().flatten(),
        _ => Some(open.rows as f64),
    };
    open.into_iter().filter_map(|(values, open)| Some((values, value(open)?))).collect()
}

/// The open rows by the labels of a gauge, beside `rows`.
fn open<'a>(
    source: &Source,
    metric: &Metric,
    ledger: &'a Ledger,
    mut rows: BTreeMap<Vec<&'a str>, OpenRows>,
) -> BTreeMap<Vec<&'a str>, OpenRows> {
    let names = source.open_labels();
    for (values, open) in ledger.open_rows() {
        let value = |label: &String| names.iter().position(|name| name == label).map(|i| values[i].as_str());
        rows.entry(metric.labels.iter().filter_map(value).collect()).or_default().add(open);
    }
    rows
}

/// The series that a gauge of open rows has also when there are none: of each set there is, with each value that is
/// enumerated. A series that went away would keep its last value in queries for minutes.
fn zeros<'a>(source: &Source, metric: &'a Metric, ledger: &'a Ledger) -> BTreeMap<Vec<&'a str>, OpenRows> {
    let own = |label: &String| source.labels.iter().position(|l| l == label);
    let add = |rows: Vec<Vec<&'a str>>, choices: Vec<&'a str>| -> Vec<Vec<&'a str>> {
        rows.iter().flat_map(|row| choices.iter().map(|c| row.iter().copied().chain([*c]).collect())).collect()
    };
    let of = |set: Option<&'a Labels>| {
        metric.labels.iter().fold(vec![Vec::new()], |rows, label| match (set, own(label)) {
            (Some(set), Some(i)) => add(rows, vec![&set[i]]),
            _ => add(rows, metric.enumerate.get(label).into_iter().flatten().map(String::as_str).collect()),
        })
    };
    let mut rows = match metric.labels.iter().any(|label| own(label).is_some()) {
        true => ledger.sets().keys().flat_map(|set| of(Some(set))).collect(),
        false => of(None),
    };
    rows.drain(..).map(|row| (row, OpenRows::default())).collect()
}
