//! What is measured of a group of rows, in SQL: counts, such as those of a histogram's buckets, sums, and rows one by one.

use super::value::number;
use super::{Columns, condition, exemplar, valid};
use crate::source::{Count, Source, Sum};

pub(super) fn array(kind: &str, name: &str, items: Vec<String>) -> String {
    format!("ARRAY[\n    {}\n  ]::{kind}[] AS {name}", items.join(",\n    "))
}

/// A sum that loses nothing, see [`crate::ledger::decimal`].
pub(super) fn exact_sum(source: &Source, sum: &Sum, columns: &Columns) -> String {
    let value = &source.values[sum.value];
    let only = sum.only.as_ref().map(|c| format!(" AND {}", condition(c))).unwrap_or_default();
    // The number itself and not the `float8` beside it, which has fewer digits than `numeric`.
    match (value.integer, only.as_str()) {
        (true, "") => format!("coalesce(sum({}), 0)", valid(value)),
        (true, _) => format!("coalesce(sum({}) FILTER (WHERE true{only}), 0)", valid(value)),
        (false, _) => {
            let number = number(value, columns);
            format!("coalesce(sum({number}::numeric) FILTER (WHERE {} IS NOT NULL{only}), 0)", valid(value))
        }
    }
}

pub(super) fn sum(source: &Source, sum: &Sum) -> String {
    let filter = sum.only.as_ref().map(|c| format!(" FILTER (WHERE {})", condition(c))).unwrap_or_default();
    // Only rows that are done have valid values. Sums of `bigint` are `numeric`, which takes longer, and to no end: what
    // is exported is `float8`, exact up to 2^53.
    format!("coalesce(sum({}::float8){filter}, 0)", valid(&source.values[sum.value]))
}

pub(super) fn count(source: &Source, count: &Count) -> String {
    // Inclusive, as Prometheus defines `le`; width_bucket would put a value on a bound into the next bucket.
    let counted = match (count.value.map(|value| valid(&source.values[value])), count.le) {
        (Some(valid), Some(le)) => format!("{valid} <= {le}"),
        (Some(valid), None) => format!("{valid} IS NOT NULL"),
        (None, _) => "done".to_owned(),
    };
    let only = count.only.as_ref().map(|c| format!(" AND {}", condition(c))).unwrap_or_default();
    format!("count(*) FILTER (WHERE {counted}{only})")
}

/// The rows of a group one by one, in the order of their ids: what names them, their values, and the columns that restrict
/// metrics. For native histograms, as the logarithms that would put values into buckets here are wrong on bounds, and for
/// exemplars.
pub(super) fn rows(source: &Source) -> Vec<String> {
    let list = |item: String| format!("coalesce(array_agg({item}) FILTER (WHERE done), '{{}}')");
    if !source.needs_rows() {
        return Vec::new();
    }
    let values = source.values.iter().map(|value| list(format!("{}::float8", valid(value))));
    let only = source.only().into_iter().map(|c| list(format!("{} IS TRUE", condition(c))));
    let names = source.exemplar_column().map(|column| list(exemplar(column)));
    names.into_iter().chain(values).chain(only).collect()
}
