//! A counter of rows.

use super::{Definition, MetricKind, Names, Part};
use crate::exposition::{Encoder, Pairs, SeriesTotals};
use crate::source::metric_table::MetricTable;
use crate::source::{Count, Slots};

/// Rows that are done: all, or those with a value in a column (`count = "column"`).
#[derive(Clone, Debug, PartialEq)]
pub struct RowCount {
    slot: usize,
}

impl Definition for RowCount {
    const TABLE: &'static str = "counter";
    const WHEN: &'static str = "no sum";
    const KEYS: &'static [&'static str] = &["where", "count"];

    fn claims(table: &MetricTable<'_>) -> bool {
        !table.has("sum")
    }

    fn parse(table: &mut MetricTable<'_>) -> Option<Self> {
        let only = table.take("where");
        let value = table.take::<String>("count").map(|column| table.value("count", &column));
        let counts = &mut table.source.counts;
        if value.is_none() && only.is_none() {
            // Every source has the number of its rows.
            return Some(Self { slot: 0 });
        }
        counts.push(Count { value, le: None, only });
        Some(Self { slot: counts.len() - 1 })
    }
}

impl MetricKind for RowCount {
    fn type_name(&self) -> &'static str {
        Self::TABLE
    }

    fn slots(&self) -> Slots {
        Slots { counts: self.slot..self.slot + 1, ..Slots::default() }
    }

    fn encode(&self, encoder: &mut dyn Encoder, labels: &Pairs<'_>, series: &SeriesTotals<'_>) {
        encoder.counter(labels, series);
    }

    fn aggregate(&self, _part: Part, names: &Names) -> String {
        format!("count({}){}", names.value.as_deref().unwrap_or("*"), names.filter)
    }

    fn row_value(&self, _names: &Names) -> Option<String> {
        None
    }
}
