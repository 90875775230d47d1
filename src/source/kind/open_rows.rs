//! A gauge of rows that are not done.

use std::collections::BTreeMap;

use super::{Definition, MetricKind, Names, Part};
use crate::ledger::{self, Labels, Ledger};
use crate::source::metric_table::MetricTable;
use crate::source::{Metric, Source};

/// How many rows are not done (`of = "open"`).
#[derive(Clone, Debug, PartialEq)]
pub struct OpenRows;

impl Definition for OpenRows {
    const TABLE: &'static str = "gauge";
    const WHEN: &'static str = "of = \"open\" (rows not done)";
    const KEYS: &'static [&'static str] = &["of"];

    fn claims(table: &MetricTable<'_>) -> bool {
        table.is("of", "open")
    }

    fn parse(table: &mut MetricTable<'_>) -> Option<Self> {
        table.remove("of");
        check_labels(table);
        Some(Self)
    }
}

impl MetricKind for OpenRows {
    fn type_name(&self) -> &'static str {
        Self::TABLE
    }

    fn gauge<'a>(&self, source: &Source, metric: &'a Metric, ledger: &'a Ledger) -> Vec<(Vec<&'a str>, f64)> {
        let rows = by_labels(source, metric, ledger, zeros(source, metric, ledger));
        rows.into_iter().map(|(values, open)| (values, open.rows as f64)).collect()
    }

    fn is_of_open_rows(&self) -> bool {
        true
    }

    fn conditions(&self, _names: &Names) -> Vec<String> {
        vec!["NOT done".to_owned()]
    }

    fn aggregate(&self, _part: Part, _names: &Names) -> String {
        "count(*)".to_owned()
    }
}

/// Open rows are told apart by what tells counted ones apart.
pub(super) fn check_labels(table: &mut MetricTable<'_>) {
    for label in table.labels.clone() {
        if !table.source.all_labels().any(|known| *known == label) {
            table.problem("labels", format!("\"{label}\" is the label of no counter or histogram"));
        }
    }
}

/// The open rows by the labels of a gauge, beside `rows`.
pub(super) fn by_labels<'a>(
    source: &Source,
    metric: &Metric,
    ledger: &'a Ledger,
    mut rows: BTreeMap<Vec<&'a str>, ledger::OpenRows>,
) -> BTreeMap<Vec<&'a str>, ledger::OpenRows> {
    let names = source.open_labels();
    for (values, open) in ledger.open_rows() {
        let value = |label: &String| names.iter().position(|name| name == label).map(|i| values[i].as_str());
        rows.entry(metric.labels.iter().filter_map(value).collect()).or_default().add(open);
    }
    rows
}

/// The series that there are also when no row is open: of each set there is, with each value that is enumerated. A series
/// that went away would keep its last value in queries for minutes.
fn zeros<'a>(source: &Source, metric: &'a Metric, ledger: &'a Ledger) -> BTreeMap<Vec<&'a str>, ledger::OpenRows> {
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
    rows.drain(..).map(|row| (row, ledger::OpenRows::default())).collect()
}
