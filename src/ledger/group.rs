//! Rows as a poll finds them, in groups that share their labels.

use serde::{Deserialize, Serialize};

use super::decimal::Decimal;
use super::exemplar::Exemplars;
use super::frontier::ReadPlan;
use super::totals::Labels;

/// Rows of one poll that share their labels and whether they are done, as the aggregate statement returns them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// Values of the labels that identify a set.
    pub set: Labels,
    /// Values of the other labels.
    pub by: Labels,
    /// Values of the labels of gauges of open rows.
    pub open: Labels,
    /// Whether these rows are finished.
    pub done: bool,
    /// True if they are not to be counted: they were before, see [`ReadPlan::ranges`], or the source leaves them out.
    pub known: bool,
    /// The ids of the rows.
    pub ids: Vec<i64>,
    /// When each of them finished, in seconds since the epoch.
    pub ats: Vec<Option<f64>>,
    /// When the newest of them finished that is not in the future, in seconds since the epoch.
    pub newest: Option<f64>,
    /// Whole-number measures, see [`super::Shape::counts`].
    pub counts: Vec<u64>,
    /// Sums, see [`super::Shape::sums`].
    pub sums: Vec<Decimal>,
    /// Rejected values, see [`super::Shape::values`].
    pub rejected: Vec<u64>,
    /// If they are not finished: since when the oldest has been there, in seconds since the epoch, by each column that says so.
    pub oldest: Vec<Option<f64>>,
    /// The values for each of [`super::Shape::natives`].
    pub values: Vec<Vec<f64>>,
    /// The newest rows behind the counts and sums.
    pub exemplars: Exemplars,
}

/// Ids of a watch that are there, by whether they are done and by the labels of gauges of open rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Whether these rows are finished.
    pub done: bool,
    /// Values of the labels of gauges of open rows.
    pub open: Labels,
    /// The ids of the rows.
    pub ids: Vec<i64>,
    /// True if the source leaves them out.
    pub known: bool,
    /// If they are not finished: since when each has been there, in seconds since the epoch, by each column that says so.
    pub since: Vec<Vec<Option<f64>>>,
}

/// Rows seen and not done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OpenRows {
    /// How many.
    pub rows: u64,
    /// Since when the oldest has been there, in seconds since the epoch, by each column that says so.
    pub oldest: Vec<Option<f64>>,
}

impl OpenRows {
    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.oldest.resize(self.oldest.len().max(other.oldest.len()), None);
        for (oldest, other) in self.oldest.iter_mut().zip(&other.oldest) {
            *oldest = oldest.iter().chain(other).copied().reduce(f64::min);
        }
    }
}

/// An answer that cannot be right; the ledger is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The SELECT returned one id more than once.
    #[error(
        "the SELECT returns id {0} more than once: each execution must be one row with an id of its own (a join that multiplies rows?)"
    )]
    Duplicate(i64),
    /// The SELECT returned an id that was not asked for.
    #[error("the SELECT returns id {0}, which was not asked for: the column \"id\" must be that of the table")]
    Foreign(i64),
    /// The SELECT returned one key more than once.
    #[error(
        "the SELECT returns one key more than once: each event must be one row with a key of its own (a join that multiplies rows?)"
    )]
    DuplicateKey,
    /// A row that was seen is not there under its key.
    #[error(
        "a row is not found under its key, read in the same moment: the columns of \"key\" must be those of the table, unchanged"
    )]
    Unfindable,
}

/// The ids of an answer in order with whether they are done, each once and asked for.
pub(super) fn checked_rows(plan: &ReadPlan, groups: &[Group]) -> Result<Vec<(i64, bool)>, ApplyError> {
    let mut rows: Vec<(i64, bool)> = groups.iter().flat_map(|g| g.ids.iter().map(|&id| (id, g.done))).collect();
    rows.sort_unstable();
    if let Some(pair) = rows.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(ApplyError::Duplicate(pair[0].0));
    }
    let asked = |id: i64| plan.ranges.get(plan.ranges.partition_point(|r| r.1 < id)).is_some_and(|r| r.0 <= id);
    match rows.iter().find(|row| !asked(row.0)) {
        Some(row) => Err(ApplyError::Foreign(row.0)),
        None => Ok(rows),
    }
}
