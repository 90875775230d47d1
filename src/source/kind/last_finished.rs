//! A gauge of the newest row.

use super::{Combine, Definition, History, MetricKind, Names, Part};
use crate::ledger::Ledger;
use crate::source::metric_table::MetricTable;
use crate::source::{Metric, Source};

/// When the newest row was done (`of = "newest"`).
#[derive(Clone, Debug, PartialEq)]
pub struct LastFinished;

impl Definition for LastFinished {
    const TABLE: &'static str = "gauge";
    const WHEN: &'static str = "of = \"newest\" (when the newest was done)";
    const KEYS: &'static [&'static str] = &["of"];

    fn claims(table: &MetricTable<'_>) -> bool {
        table.is("of", "newest")
    }

    fn parse(table: &mut MetricTable<'_>) -> Option<Self> {
        table.remove("of");
        if !table.labels.is_empty() {
            table.problem("labels", "this gauge has no labels");
            return None;
        }
        Some(Self)
    }
}

impl MetricKind for LastFinished {
    fn type_name(&self) -> &'static str {
        Self::TABLE
    }

    fn gauge<'a>(&self, _source: &Source, _metric: &'a Metric, ledger: &'a Ledger) -> Vec<(Vec<&'a str>, f64)> {
        ledger.newest().map(|newest| (Vec::new(), newest)).into_iter().collect()
    }

    fn combine(&self) -> Combine {
        Combine::Latest
    }

    fn history(&self) -> History {
        History::LastFinished
    }

    fn meaning(&self) -> Option<&'static str> {
        Some("When the newest execution finished, in seconds since 1970-01-01 UTC.")
    }

    fn conditions(&self, _names: &Names) -> Vec<String> {
        // As in a poll: a time that has not come yet says nothing.
        ["done", "isfinite(at)", "at <= clock_timestamp()"].map(str::to_owned).into()
    }

    fn aggregate(&self, _part: Part, _names: &Names) -> String {
        "extract(epoch FROM max(at))::float8".to_owned()
    }

    fn row_value(&self, _names: &Names) -> Option<String> {
        Some("extract(epoch FROM at)::float8".to_owned())
    }
}
