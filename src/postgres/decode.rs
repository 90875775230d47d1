//! Rows of the statements of a poll, as the ledger takes them.

use tokio_postgres::types::FromSql;

use super::failure::{Failure, Reason};
use super::row::{Cells, Lossy, Row};
use crate::ledger::decimal::Decimal;
use crate::ledger::witness::Mark;
use crate::ledger::{Group, Seen, cut};
use crate::source::Source;
use crate::source::exemplar::Rows;
use crate::sql;

/// The columns of a row of a source, taken one after the other.
struct Columns<'r> {
    source: &'r Source,
    cells: Cells<'r>,
}

impl<'r> Columns<'r> {
    fn of(source: &'r Source, row: &'r Row) -> Self {
        Self { source, cells: row.cells() }
    }

    fn take<T: FromSql<'r>>(&mut self) -> Result<T, Failure> {
        self.cells.take().map_err(|failure| self.wrong(&failure.message))
    }

    fn wrong(&self, what: &str) -> Failure {
        Failure::new(Reason::Decode, format!("{}: {what}", self.source.name))
    }

    fn labels<'s>(&mut self, names: impl Iterator<Item = &'s str>) -> Result<Vec<String>, Failure> {
        let label = |name: &str| -> Result<String, Failure> {
            let text: Option<Lossy> = self.take()?;
            Ok(cut(self.source.label(name, text.as_ref().map(|text| text.0.as_str()))))
        };
        names.map(label).collect()
    }

    fn counts(&mut self, expected: usize) -> Result<Vec<u64>, Failure> {
        let numbers: Vec<i64> = self.take()?;
        if numbers.len() != expected {
            return Err(self.wrong("a row of the wrong shape"));
        }
        Ok(numbers.into_iter().map(i64::unsigned_abs).collect())
    }

    /// Sums that fit stand apart from the others as whole numbers.
    fn sums(&mut self) -> Result<Vec<Decimal>, Failure> {
        let (whole, others): (Vec<i64>, Vec<String>) = (self.take()?, self.take()?);
        let (mut whole, mut others) = (whole.iter().map(i64::to_string), others.into_iter());
        let values = self.source.sums.iter().map(|sum| &self.source.values[sum.value]);
        let sums = values.map(|value| if sql::is_int4(value) { whole.next() } else { others.next() });
        let sums: Option<Vec<Decimal>> = sums.map(|sum| Decimal::parse(&sum?)).collect();
        sums.ok_or_else(|| self.wrong("a sum is no decimal"))
    }

    /// Infinite times are none: nothing is older, or younger, than they are.
    fn times(&mut self) -> Result<Vec<Option<f64>>, Failure> {
        let times: Option<Vec<Option<f64>>> = self.take()?;
        Ok(times.into_iter().flatten().map(|time| time.filter(|time| time.is_finite())).collect())
    }
}

/// A row of [`sql::poll`].
///
/// # Errors
/// Fails if the row does not have the columns of that statement.
pub fn group(source: &Source, row: &Row) -> Result<Group, Failure> {
    let mut columns = Columns::of(source, row);
    let mut set = columns.labels(source.row_labels())?;
    let by = set.split_off(source.labels.len());
    let open = source.open_labels().into_iter().map(|label| source.label_of(label, &set, &by).to_owned()).collect();
    let mut group = Group {
        set,
        by,
        open,
        done: columns.take()?,
        known: columns.take()?,
        ids: columns.take()?,
        ats: columns.take()?,
        newest: columns.take()?,
        counts: columns.counts(source.counts.len())?,
        sums: columns.sums()?,
        rejected: columns.counts(source.values.len())?,
        oldest: columns.take()?,
        ..Group::default()
    };
    if group.done && !group.known && source.needs_rows() {
        let mut rows = Rows { ids: group.ids.clone(), ats: group.ats.clone(), ..Rows::default() };
        if source.exemplar_column().is_some() {
            rows.names = columns.take()?;
        }
        rows.values = source.values.iter().map(|_| columns.take()).collect::<Result<_, _>>()?;
        rows.only = source.only().iter().map(|_| columns.take()).collect::<Result<_, _>>()?;
        group.values = source.native_values(&rows);
        // What finished after the newest that counts as such has a time of the future.
        group.exemplars = source.exemplars(&rows, group.newest.unwrap_or(f64::NEG_INFINITY));
    } else {
        group.values = vec![Vec::new(); source.natives.len()];
    }
    Ok(group)
}

/// A row of [`sql::watch`].
///
/// # Errors
/// Fails if the row does not have the columns of that statement.
pub fn seen(source: &Source, row: &Row) -> Result<Seen, Failure> {
    let mut columns = Columns::of(source, row);
    Ok(Seen {
        open: columns.labels(source.open_labels().into_iter())?,
        done: columns.take()?,
        ids: columns.take()?,
        known: columns.take()?,
        since: source.since.iter().map(|_| columns.times()).collect::<Result<_, _>>()?,
    })
}

/// A row of [`sql::witnesses`]: its id, and what is remembered of it.
///
/// # Errors
/// Fails if the row does not have the columns of that statement.
pub fn witness(source: &Source, row: &Row) -> Result<(i64, Mark), Failure> {
    let mut columns = Columns::of(source, row);
    let (id, at) = (columns.take()?, columns.take()?);
    Ok((id, Mark::new(at, &columns.labels(source.row_labels())?)))
}
