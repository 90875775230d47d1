//! What the newest rows hold: series, labels, and values that are rejected.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::exposition::Format;
use crate::ledger::frontier::ReadPlan;
use crate::ledger::missing::Moment;
use crate::ledger::{Group, Ledger};
use crate::postgres::{Failure, Reason, Row, Session};
use crate::snapshot::series;
use crate::source::Source;
use crate::sql::view::{NAME, View, reason, view};
use crate::sql::{Columns, literal};

/// Of each label, so many values are shown.
const MOST: usize = 10;

/// What was found in the newest rows of a source.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Sample {
    /// How many rows were read.
    pub rows: usize,
    /// How many series each metric has from them.
    pub series: Vec<(String, usize)>,
    /// What each label is, most frequent values first.
    pub labels: Vec<Seen>,
    /// Why values were rejected.
    pub rejected: Vec<Rejected>,
}

/// The values of one label.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Seen {
    /// The label.
    pub label: String,
    /// The most frequent values with their rows.
    pub values: Vec<(String, usize)>,
    /// How many further values there are.
    pub more: usize,
}

/// Values rejected for one reason.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rejected {
    /// The column.
    pub column: String,
    /// What is wrong with the values.
    pub reason: String,
    /// How many rows.
    pub rows: i64,
    /// The newest of them.
    pub examples: Vec<i64>,
}

/// What the groups that answer `plan` say; an error when they would be counted wrongly.
pub fn of_groups(source: &Source, plan: &ReadPlan, groups: Vec<Group>, limit: usize) -> Result<Sample, Failure> {
    let mut labels: Vec<BTreeMap<String, usize>> = vec![BTreeMap::new(); source.labels.len() + source.by.len()];
    for group in groups.iter().filter(|group| !group.known) {
        for (value, seen) in group.set.iter().chain(&group.by).zip(&mut labels) {
            *seen.entry(value.clone()).or_default() += group.ids.len();
        }
    }
    let rows = groups.iter().map(|group| group.ids.len()).sum();
    let mut ledger = Ledger::new(source.shape(limit));
    ledger
        .apply(plan, None, groups, Moment::default())
        .map_err(|e| Failure::new(Reason::Duplicate, format!("{}.sql: {e}", source.name)))?;
    let names = source.labels.iter().chain(&source.by);
    let labels = names.zip(labels).map(|(label, seen)| {
        let mut values: Vec<(String, usize)> = seen.into_iter().collect();
        values.sort_by_key(|(_, rows)| std::cmp::Reverse(*rows));
        let more = values.len().saturating_sub(MOST);
        values.truncate(MOST);
        Seen { label: label.clone(), values, more }
    });
    Ok(Sample { rows, series: series(source, &ledger), labels: labels.collect(), rejected: Vec::new() })
}

/// How many series each metric has, as they would be exported.
fn series(source: &Source, ledger: &Ledger) -> Vec<(String, usize)> {
    let mut encoder = Format::Text.encoder(false, 0);
    series::encode(encoder.as_mut(), source, ledger);
    let mut series: Vec<(String, usize)> = Vec::new();
    for line in String::from_utf8_lossy(&encoder.finish()).lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            series.push((family.split(' ').next().unwrap_or_default().to_owned(), 0));
        } else if let (false, Some((_, count))) = (line.starts_with('#'), series.last_mut()) {
            *count += 1;
        }
    }
    series
}

/// Why values are rejected, of the rows for which `which` holds (see [`View::which`]); inside a transaction.
pub async fn rejected(
    session: &Session,
    source: &Source,
    columns: &Columns,
    which: String,
) -> Result<Vec<Rejected>, Failure> {
    if source.values.is_empty() {
        return Ok(Vec::new());
    }
    let shown = View { values: source.values.iter().collect(), reasons: true, which, ..View::default() };
    let values: Vec<String> =
        source.values.iter().map(|value| format!("({}, {})", literal(&value.column), reason(value))).collect();
    let statement = format!(
        "WITH {}\nSELECT value.name, value.reason, count(*), array_remove((array_agg(id ORDER BY id DESC))[1:5], NULL)\nFROM {NAME}\n\
         CROSS JOIN LATERAL (VALUES {}) AS value (name, reason)\nWHERE value.reason IS NOT NULL\nGROUP BY 1, 2\n\
         ORDER BY 1, 3 DESC, 2",
        view(source, columns, &shown),
        values.join(", "),
    );
    let rows = session.rows(&statement, &[]).await?;
    let read =
        |row: &Row| Ok(Rejected { column: row.get(0)?, reason: row.get(1)?, rows: row.get(2)?, examples: row.get(3)? });
    rows.iter().map(read).collect()
}
