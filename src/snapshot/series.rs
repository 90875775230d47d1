//! The series of one source, from its ledger.

use std::ops::Range;

use crate::exposition::{Encoder, SeriesTotals};
use crate::ledger::decimal::Decimal;
use crate::ledger::exemplar::Exemplar;
use crate::ledger::native::{self, Native};
use crate::ledger::{Birth, Cell, Labels, Ledger, Set, Shape, totals};
use crate::source::{Combine, Metric, Slots, Source};

/// Encodes every metric of a source. Series that are not released yet are shown as 0.
///
/// Nothing is copied and nothing allocated for a single series but what is written.
pub fn encode(encoder: &mut dyn Encoder, source: &Source, ledger: &Ledger) {
    let mut labels = Vec::new();
    for metric in &source.metrics {
        let gauge = metric.kind.gauge(source, metric, ledger);
        // Nothing to say where there is no such row: 0 would be a time.
        if gauge.is_empty() && metric.kind.combine() != Combine::Sum {
            continue;
        }
        encoder.family(&metric.name, metric.kind.type_name(), metric.unit.as_deref(), &metric.help);
        for (values, value) in gauge {
            let labels: Vec<_> = metric.labels.iter().map(String::as_str).zip(values).collect();
            encoder.gauge(&labels, value);
        }
        if metric.kind.is_gauge() {
            continue;
        }
        let mut reader = SeriesReader::new(source, metric);
        if encoder.has_exemplars() {
            reader.read_exemplars(source, metric);
        }
        if encoder.has_natives() {
            reader.read_natives(ledger.shape());
        }
        for (values, set) in ledger.sets() {
            labels.clear();
            labels.extend(source.labels.iter().zip(values).map(|(name, value)| (name.as_str(), value.as_str())));
            let own = labels.len();
            reader.each(set, |more, series| {
                labels.truncate(own);
                labels.extend(metric.labels.iter().map(String::as_str).zip(more));
                metric.kind.encode(encoder, &labels, &series);
            });
        }
    }
}

/// Reads the series of one metric: the cells of a set, added up over the labels that the metric does not have.
#[derive(Debug)]
pub struct SeriesReader<'a> {
    /// Where the labels of the metric stand among those of a cell.
    positions: Vec<usize>,
    counts: Range<usize>,
    sum: Option<usize>,
    native: Option<usize>,
    /// How the native histogram is made, if it is to be read.
    settings: Option<native::Settings>,
    /// The cells of the set that is being read, those of one series side by side.
    cells: Vec<(&'a Labels, &'a Cell)>,
    /// The places of the exemplars of the metric, if they are to be read, and their label.
    places: Range<usize>,
    exemplar_label: &'a str,
    exemplars: Vec<Option<&'a Exemplar>>,
    added: Vec<u64>,
    merged: Native,
}

impl<'a> SeriesReader<'a> {
    /// A reader for all sets of a ledger of this source.
    pub fn new(source: &Source, metric: &Metric) -> Self {
        let position = |label| source.by.iter().position(|by| by == label);
        let Slots { counts, sum, native } = metric.kind.slots();
        let positions = metric.labels.iter().filter_map(position).collect();
        let (cells, added, merged) = Default::default();
        let (places, exemplar_label, exemplars) = Default::default();
        let settings = None;
        Self { positions, counts, sum, native, settings, cells, places, exemplar_label, exemplars, added, merged }
    }

    /// Reads exemplars from now on.
    pub fn read_exemplars(&mut self, source: &'a Source, metric: &Metric) {
        self.places = source.exemplar_places(metric);
        self.exemplar_label = source.exemplar.as_deref().unwrap_or_default();
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
    pub fn each(&mut self, set: &'a Set, mut visit: impl FnMut(Values<'a, '_>, SeriesTotals<'_>)) {
        let Self { positions, counts, sum, native, settings, cells, places, exemplar_label, exemplars, added, merged } =
            self;
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
            exemplars.clear();
            exemplars.extend(places.clone().map(|place| {
                let found = same.iter().filter(|(_, cell)| !held(cell)).filter_map(|(_, cell)| {
                    let i = cell.exemplars.binary_search_by_key(&place, |(place, _)| *place).ok()?;
                    Some(&cell.exemplars[i].1)
                });
                found.max_by(|a, b| a.at.total_cmp(&b.at))
            }));
            let native = settings.as_ref().map(|settings| (&*merged, settings.zero_threshold));
            match same {
                [(by, cell)] if !held(cell) => {
                    let sum = sum.map_or(0.0, |i| cell.sums[i].to_f64());
                    let counts = &cell.counts[counts.clone()];
                    visit(values(by), SeriesTotals { counts, sum, start, native, exemplars, exemplar_label });
                }
                _ => {
                    added.clear();
                    added.resize(counts.len(), 0);
                    let mut total = Decimal::default();
                    for (_, cell) in same.iter().filter(|(_, cell)| !held(cell)) {
                        totals::add(added, &cell.counts[counts.clone()]);
                        total += sum.map_or(Decimal::default(), |i| cell.sums[i]);
                    }
                    let (counts, sum) = (added.as_slice(), total.to_f64());
                    visit(values(same[0].0), SeriesTotals { counts, sum, start, native, exemplars, exemplar_label });
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
