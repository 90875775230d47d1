//! The metrics of one source, from its ledger.

use std::collections::BTreeMap;

use super::{Encoder, labels};
use crate::ledger::{Birth, Cell, Ledger, Set};
use crate::source::{Kind, Metric, Source};

/// What one series shows.
pub struct Totals {
    /// Whole-number measures, see [`Source::counts`].
    pub counts: Vec<u64>,
    /// Sums, see [`Source::sums`].
    pub sums: Vec<f64>,
    /// When it was born, in seconds since the epoch.
    pub created: f64,
}

/// Encodes every metric of a source. Series that are not released yet are shown as 0.
pub fn encode(encoder: &mut Encoder, source: &Source, ledger: &Ledger) {
    for metric in &source.metrics {
        // Nothing to say until a row has been counted: 0 would be a time.
        if metric.kind == Kind::Newest && ledger.newest().is_none() {
            continue;
        }
        encoder.family(&metric.name, metric.kind.type_name(), metric.unit.as_deref(), &metric.help);
        match &metric.kind {
            Kind::Open => open(encoder, source, metric, ledger),
            Kind::Newest => encoder.gauge("", ledger.newest().unwrap_or_default()),
            kind => {
                for (values, set) in ledger.sets() {
                    let own = source.labels.iter().zip(values).map(|(l, v)| (l.as_str(), v.as_str()));
                    let own: Vec<(&str, &str)> = own.collect();
                    for (more, totals) in series(source, metric, set) {
                        let more = metric.labels.iter().zip(more).map(|(l, v)| (l.as_str(), v));
                        let labels = labels(own.iter().copied().chain(more));
                        sample(encoder, kind, &labels, &totals);
                    }
                }
            }
        }
    }
}

fn sample(encoder: &mut Encoder, kind: &Kind, labels: &str, totals: &Totals) {
    let created = Some(totals.created);
    match kind {
        Kind::Rows(i) => encoder.counter(labels, totals.counts[*i] as f64, created),
        Kind::Sum(i) => encoder.counter(labels, totals.sums[*i], created),
        Kind::Histogram { buckets, first, sum } => {
            let counts = &totals.counts[*first..=first + buckets.len()];
            encoder.histogram(labels, buckets, counts, totals.sums[*sum], created);
        }
        Kind::Open | Kind::Newest => {}
    }
}

/// The series of a set for one metric: its cells, added up over the labels that the metric does not have.
pub fn series<'a>(source: &Source, metric: &Metric, set: &'a Set) -> BTreeMap<Vec<&'a str>, Totals> {
    let positions: Vec<usize> =
        metric.labels.iter().filter_map(|label| source.by.iter().position(|by| by == label)).collect();
    let mut series: BTreeMap<Vec<&str>, Totals> = BTreeMap::new();
    for (by, cell) in &set.cells {
        let key = positions.iter().map(|&i| by[i].as_str()).collect();
        let held = if positions.is_empty() { set.birth } else { cell.birth } != Birth::Released;
        let created = if positions.is_empty() { set.created } else { cell.created } as f64 / 1000.0;
        match series.entry(key) {
            std::collections::btree_map::Entry::Vacant(entry) => _ = entry.insert(shown(cell, held, created)),
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                let shown = shown(cell, held, created);
                let totals = entry.get_mut();
                crate::ledger::totals::add(&mut totals.counts, &shown.counts);
                crate::ledger::totals::add(&mut totals.sums, &shown.sums);
                totals.created = totals.created.min(shown.created);
            }
        }
    }
    series
}

fn shown(cell: &Cell, held: bool, created: f64) -> Totals {
    if held {
        return Totals { counts: vec![0; cell.counts.len()], sums: vec![0.0; cell.sums.len()], created };
    }
    Totals { counts: cell.counts.clone(), sums: cell.sums.clone(), created }
}

fn open(encoder: &mut Encoder, source: &Source, metric: &Metric, ledger: &Ledger) {
    let mut rows: BTreeMap<Vec<&str>, u64> = BTreeMap::new();
    if let [label] = metric.labels.as_slice() {
        for value in metric.enumerate.get(label).into_iter().flatten() {
            rows.insert(vec![value], 0);
        }
    }
    for ((set, by), count) in ledger.open_rows() {
        let value = |label: &String| {
            let own = source.labels.iter().position(|l| l == label).map(|i| set[i].as_str());
            own.or_else(|| source.by.iter().position(|l| l == label).map(|i| by[i].as_str()))
        };
        *rows.entry(metric.labels.iter().filter_map(value).collect()).or_default() += count;
    }
    for (values, count) in rows {
        let labels = labels(metric.labels.iter().map(String::as_str).zip(values));
        encoder.gauge(&labels, count as f64);
    }
    if metric.labels.is_empty() && ledger.open_rows().is_empty() {
        encoder.gauge("", 0.0);
    }
}
