//! A gauge of the row that has waited longest.

use std::collections::BTreeMap;

use super::open_rows::{by_labels, check_labels};
use super::{Combine, Definition, MetricKind, Names, Part};
use crate::ledger::Ledger;
use crate::source::metric_table::MetricTable;
use crate::source::{Metric, Source};

/// Since when the oldest of the rows that are not done has been there (`of = "oldest"`), by a time in the column `since`.
#[derive(Clone, Debug, PartialEq)]
pub struct OldestOpen {
    since: usize,
}

impl Definition for OldestOpen {
    const TABLE: &'static str = "gauge";
    const WHEN: &'static str = "of = \"oldest\" (since when the oldest of them has been there)";
    const KEYS: &'static [&'static str] = &["of", "since"];

    fn claims(table: &MetricTable<'_>) -> bool {
        table.is("of", "oldest")
    }

    fn parse(table: &mut MetricTable<'_>) -> Option<Self> {
        table.remove("of");
        check_labels(table);
        for label in table.enumerate.keys().cloned().collect::<Vec<_>>() {
            let message = "this gauge is absent where no row is open: 0 would be a time";
            table.problem(&format!("enumerate.{label}"), message);
        }
        if !table.has("since") {
            table.problem("since", "is missing: in which column is the time since which an open row has been there?");
        }
        let column: String = table.take("since")?;
        let columns = &mut table.source.since;
        let since = columns.iter().position(|since| *since == column).unwrap_or_else(|| {
            columns.push(column);
            columns.len() - 1
        });
        Some(Self { since })
    }
}

impl MetricKind for OldestOpen {
    fn type_name(&self) -> &'static str {
        Self::TABLE
    }

    fn gauge<'a>(&self, source: &Source, metric: &'a Metric, ledger: &'a Ledger) -> Vec<(Vec<&'a str>, f64)> {
        let rows = by_labels(source, metric, ledger, BTreeMap::new()).into_iter();
        rows.filter_map(|(values, open)| Some((values, open.oldest.get(self.since).copied().flatten()?))).collect()
    }

    fn combine(&self) -> Combine {
        Combine::Earliest
    }

    fn is_of_open_rows(&self) -> bool {
        true
    }

    fn since(&self) -> Option<usize> {
        Some(self.since)
    }

    fn meaning(&self) -> Option<&'static str> {
        Some("Since when the oldest row that is not done has been there, in seconds since 1970-01-01 UTC.")
    }

    fn conditions(&self, names: &Names) -> Vec<String> {
        vec!["NOT done".to_owned(), format!("isfinite({})", names.since)]
    }

    fn aggregate(&self, _part: Part, names: &Names) -> String {
        format!("extract(epoch FROM min({}))::float8", names.since)
    }

    fn row_value(&self, names: &Names) -> Option<String> {
        Some(format!("extract(epoch FROM {})::float8", names.since))
    }
}
