//! A counter that adds up a column.

use super::{Definition, MetricKind, Names, Part};
use crate::exposition::{Encoder, Pairs, SeriesTotals};
use crate::source::metric_table::MetricTable;
use crate::source::{Slots, Sum};

/// The sum of a value column over the rows that are done (`sum = "column"`).
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnSum {
    slot: usize,
}

impl Definition for ColumnSum {
    const TABLE: &'static str = "counter";
    const WHEN: &'static str = "sum";
    const KEYS: &'static [&'static str] = &["where", "sum"];

    fn claims(table: &MetricTable<'_>) -> bool {
        table.has("sum")
    }

    fn parse(table: &mut MetricTable<'_>) -> Option<Self> {
        if table.remove("count") {
            table.problem("count", "stands beside sum: a counter adds values up or counts rows");
        }
        let only = table.take("where");
        let column: String = table.take("sum")?;
        let value = table.value("sum", &column);
        let sums = &mut table.source.sums;
        sums.push(Sum { value, only });
        Some(Self { slot: sums.len() - 1 })
    }
}

impl MetricKind for ColumnSum {
    fn type_name(&self) -> &'static str {
        Self::TABLE
    }

    fn slots(&self) -> Slots {
        Slots { sum: Some(self.slot), ..Slots::default() }
    }

    fn encode(&self, encoder: &mut dyn Encoder, labels: &Pairs<'_>, series: &SeriesTotals<'_>) {
        encoder.counter(labels, series);
    }

    fn aggregate(&self, _part: Part, names: &Names) -> String {
        names.sum()
    }
}
