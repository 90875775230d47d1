//! A statement that PostgreSQL has run to its end, and whose rows it keeps to be read again and again.

use super::family::{Happened, Step};
use crate::postgres::{Failure, Reason, Row, Session, in_file};
use crate::query::timeline::Piece;
use crate::source::Source;

/// Rows fetched at once.
const FETCH: usize = 2_000;

/// A cursor of a session's transaction.
#[derive(Debug)]
pub struct Cursor {
    name: String,
    /// How many rows are of pieces that are done.
    at: u64,
}

impl Cursor {
    /// Lets PostgreSQL run a statement to its end and keep the rows.
    ///
    /// # Errors
    /// Fails if the statement does; says what to do if it took too long.
    pub async fn declare(session: &Session, source: &Source, name: String, statement: &str) -> Result<Self, Failure> {
        let located = |failure: Failure| match failure.reason {
            Reason::Timeout => Failure {
                message: format!(
                    "{}: {}: reading and sorting the whole history took too long. Give it more time \
                     (--database.statement-timeout 30m), best on a replica",
                    source.name, failure.message
                ),
                ..failure
            },
            _ => in_file(source, None, failure),
        };
        let declare = format!("DECLARE {name} SCROLL CURSOR FOR\n{statement}");
        session.batch(&declare).await.map_err(located)?;
        session.execute(&format!("MOVE FORWARD ALL IN {name}")).await.map_err(located)?;
        Ok(Self { name, at: 0 })
    }

    /// Hands each row to `each`, from the first one of the current piece on, until it says that a row is of the next one.
    /// Returns how many rows were of this piece.
    pub async fn read<E: From<Failure>>(
        &self,
        session: &Session,
        mut each: impl FnMut(&Row) -> Result<bool, E>,
    ) -> Result<u64, E> {
        session.batch(&format!("MOVE ABSOLUTE {} IN {}", self.at, self.name)).await?;
        let mut read = 0;
        loop {
            let rows = session.rows(&format!("FETCH FORWARD {FETCH} FROM {}", self.name), &[]).await?;
            for row in &rows {
                if !each(row)? {
                    return Ok(read);
                }
                read += 1;
            }
            if rows.len() < FETCH {
                return Ok(read);
            }
        }
    }

    /// Goes on behind so many rows.
    pub fn advance(&mut self, rows: u64) {
        self.at += rows;
    }

    /// Lets PostgreSQL forget the rows.
    pub async fn close(self, session: &Session) -> Result<(), Failure> {
        session.batch(&format!("CLOSE {}", self.name)).await
    }
}

/// A row of [`crate::sql::history::Layout::steps`] with so many labels; nothing if it is of a later piece.
///
/// # Errors
/// Fails if the row has other columns.
pub fn step(row: &Row, labels: usize, piece: Option<&Piece>) -> Result<Option<Step>, Failure> {
    let mut cells = row.cells();
    let (labels, point, birth) = (cells.texts(labels)?, cells.take()?, cells.take()?);
    let happened = Happened { counts: cells.take()?, sums: cells.take()? };
    let number: i64 = cells.take()?;
    let is_later = piece.is_some_and(|piece| number > piece.number);
    Ok((!is_later).then_some(Step { labels, point, birth, happened }))
}
