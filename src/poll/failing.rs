//! Rows on which the SELECT itself raises, such as a division by zero or a damaged value: they are found by halving, left
//! out, and tried again from time to time, so that one of them does not hide the others.

use std::collections::BTreeMap;

use tokio::time::{Duration, Instant};

use crate::ledger::frontier::{Range, ReadPlan};
use crate::postgres::{Failure, Session};
use crate::source::Source;

/// So many such rows are looked for in one read at most, each of which takes a statement for every halving.
const MOST: usize = 20;
/// So many of those that are known are tried again by one poll.
const AGAIN: usize = 5;
/// And each of them after this time, as every skipped id is.
const RETRY: Duration = Duration::from_secs(300);

/// The rows of a source on which its SELECT raised.
#[derive(Debug, Default)]
pub struct Failing {
    /// When each is tried again.
    due: BTreeMap<i64, Instant>,
    /// Those that are being tried again.
    tried: Vec<i64>,
}

/// What could be read.
#[derive(Debug, Default)]
pub struct Part<T> {
    /// The answers of one or several statements.
    pub rows: Vec<T>,
    /// The ids of rows on which the SELECT raises, in order.
    pub failing: Vec<i64>,
    /// What the server said of the first one.
    pub failure: Option<Failure>,
    /// True if a range was full, so that there may be more.
    pub is_cut: bool,
    /// True if so many rows fail that some were not tried: all of them lie above those that were.
    pub is_partial: bool,
}

impl<T> Part<T> {
    /// Adds what another read gave.
    pub fn append(&mut self, more: Self) {
        self.rows.extend(more.rows);
        self.failing.extend(more.failing);
        self.failure = self.failure.take().or(more.failure);
        self.is_cut |= more.is_cut;
        self.is_partial |= more.is_partial;
    }
}

impl Failing {
    /// Leaves the known ids out of ranges that are in order, but for a few that are tried again.
    pub fn cut_out(&mut self, ranges: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
        let now = Instant::now();
        let is_asked = |id: i64| ranges.get(ranges.partition_point(|range| range.1 < id)).is_some_and(|r| r.0 <= id);
        let mut again: Vec<_> =
            self.due.iter().filter(|(id, due)| **due <= now && is_asked(**id)).map(|(id, due)| (*due, *id)).collect();
        again.sort_unstable();
        self.tried = again.into_iter().map(|(_, id)| id).take(AGAIN).collect();
        let left_out: Vec<i64> = self.due.keys().filter(|id| !self.tried.contains(id)).copied().collect();
        let mut cut = Vec::with_capacity(ranges.len());
        for (mut lo, hi) in ranges {
            let inside = left_out.partition_point(|&id| id < lo)..left_out.partition_point(|&id| id <= hi);
            for &id in &left_out[inside] {
                cut.extend((lo < id).then(|| (lo, id - 1)));
                lo = id.saturating_add(1);
            }
            cut.extend((lo <= hi).then_some((lo, hi)));
        }
        cut
    }

    /// Takes over which rows fail now; returns those that did not before. Those that were tried and do not fail are
    /// forgotten.
    pub fn note(&mut self, failing: &[i64]) -> Vec<i64> {
        for id in self.tried.drain(..).filter(|id| !failing.contains(id)) {
            self.due.remove(&id);
        }
        let due = Instant::now() + RETRY;
        failing.iter().filter(|&&id| self.due.insert(id, due).is_none()).copied().collect()
    }
}

/// Reads ranges of which each has at most `limit` rows, without the rows on which the SELECT raises.
///
/// Runs after `SAVEPOINT source` and goes back to it when a row raises; a read in which none does costs nothing.
///
/// # Errors
/// Fails if the database does not answer, or if so many rows fail that none could be read.
pub async fn read<T, F: Future<Output = Result<Vec<T>, Failure>>>(
    session: &Session,
    source: &Source,
    ranges: &[Range],
    limit: usize,
    read: impl Fn(Vec<Range>) -> F,
) -> Result<Part<T>, Failure> {
    let mut part = Part { rows: Vec::new(), failing: Vec::new(), failure: None, is_cut: false, is_partial: false };
    let first = match read(ranges.to_vec()).await {
        Err(failure) if is_of_a_row(&failure) => failure,
        rows => return Ok(Part { rows: rows?, ..part }),
    };
    session.batch("ROLLBACK TO SAVEPOINT source").await?;
    // The ids alone: the columns that raise are not computed for them.
    let ids = session.ids(source, ranges, limit).await?;
    let plan = ReadPlan { ranges: ranges.to_vec(), limit, ..ReadPlan::default() };
    part.is_cut = plan.is_cut(&ids.iter().map(|id| (id.0, true)).collect::<Vec<_>>());
    halve(session, &ids, first, part, read).await
}

/// Reads the rows of keys by their numbers, without the rows on which the SELECT raises; like [`read`] otherwise.
///
/// # Errors
/// Fails if the database does not answer, or if so many rows fail that none could be read.
pub async fn read_numbers<T, F: Future<Output = Result<Vec<T>, Failure>>>(
    session: &Session,
    numbers: &[Range],
    read: impl Fn(Vec<Range>) -> F,
) -> Result<Part<T>, Failure> {
    let part = Part { rows: Vec::new(), failing: Vec::new(), failure: None, is_cut: false, is_partial: false };
    match read(numbers.to_vec()).await {
        Err(failure) if is_of_a_row(&failure) => {
            session.batch("ROLLBACK TO SAVEPOINT source").await?;
            halve(session, numbers, failure, part, read).await
        }
        rows => Ok(Part { rows: rows?, ..part }),
    }
}

/// Reads rows one by one where it must, by halves where it can; `first` is the failure of all of them.
async fn halve<T, F: Future<Output = Result<Vec<T>, Failure>>>(
    session: &Session,
    ids: &[Range],
    first: Failure,
    mut part: Part<T>,
    read: impl Fn(Vec<Range>) -> F,
) -> Result<Part<T>, Failure> {
    let mut is_any_read = false;
    let mut left = vec![ids];
    while let Some(ids) = left.pop().filter(|ids| !ids.is_empty()) {
        if part.failing.len() >= MOST {
            part.is_partial = true;
            break;
        }
        session.batch("SAVEPOINT half").await?;
        match read(ids.to_vec()).await {
            Ok(rows) => {
                session.batch("RELEASE SAVEPOINT half").await?;
                is_any_read = true;
                part.rows.extend(rows);
            }
            Err(failure) if is_of_a_row(&failure) => {
                session.batch("ROLLBACK TO SAVEPOINT half; RELEASE SAVEPOINT half").await?;
                if let &[(id, ..)] = ids {
                    part.failing.push(id);
                    part.failure.get_or_insert(failure);
                } else {
                    let (low, high) = ids.split_at(ids.len() / 2);
                    left.extend([high, low]);
                }
            }
            Err(failure) => return Err(failure),
        }
    }
    // It is no matter of single rows when none can be read.
    if part.is_partial && !is_any_read { Err(first) } else { Ok(part) }
}

/// True if the server raised while it computed a row: data exceptions, a subquery with several rows, an exception of a
/// function's own, damaged data or indexes.
pub fn is_of_a_row(failure: &Failure) -> bool {
    let code = failure.code().unwrap_or_default();
    !failure.connection_lost && (code.starts_with("22") || ["21000", "P0001", "XX001", "XX002"].contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn known_ids_are_left_out_until_it_is_their_turn() {
        let mut failing = Failing::default();
        assert_eq!(failing.note(&[3, 5, 9]), [3, 5, 9]);
        assert_eq!(failing.note(&[5]), [0; 0], "it is known");
        assert_eq!(failing.cut_out(vec![(1, 4), (5, 5), (7, i64::MAX)]), [(1, 2), (4, 4), (7, 8), (10, i64::MAX)]);
        tokio::time::advance(RETRY).await;
        failing.note(&(10..20).collect::<Vec<_>>());
        assert_eq!(
            failing.cut_out(vec![(0, 4), (6, 100)]),
            [(0, 4), (6, 9), (20, 100)],
            "3 and 9, but 5 was not asked for"
        );
        assert_eq!(failing.note(&[9]), [0; 0]);
        assert_eq!(failing.cut_out(vec![(0, 9)]), [(0, 8)], "3 did not fail, 5 is due");
    }
}
