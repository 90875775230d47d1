//! Reads a source from its newest id backwards, through the primary key, in pieces that each are quick.
//!
//! No index follows time, so what happened lately is found by reading back. A search gives up when it has taken as long
//! as one statement may (`database.statement_timeout`), and then says how far it came.

use std::time::Duration;

use tokio::time::Instant;

use crate::poll::chunk_size::ChunkSize;
use crate::postgres::{Cells, Failure, Reason, Row, Session, in_file};
use crate::source::Source;
use crate::sql::Columns;
use crate::sql::view::{View, has_id, view};

/// Rows of the first piece.
const FIRST: usize = 2_000;
/// A piece has at least and at most so many rows; more would hold too much at once.
const ROWS: (usize, usize) = (500, 200_000);
/// A piece should take about this long, and at most a tenth of the whole search.
const PIECE: Duration = Duration::from_secs(1);
/// So many rows in a row that are too old end a search with a limit in time: what is older was written earlier, but an
/// execution that ran for long can finish after many that began later.
pub const OLDER: i64 = 10_000;

/// So many columns of each row say something of the piece, before those of what was found.
const PIECE_COLUMNS: usize = 4;

/// A row of what was found in a piece; if nothing was, there is one in which all columns are NULL.
#[derive(Debug)]
pub struct Found(Row);

impl Found {
    /// The columns of the SELECT that found it.
    pub fn cells(&self) -> Cells<'_> {
        self.0.cells().skip(PIECE_COLUMNS)
    }
}

/// Where a search stands, or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanState {
    /// There is more.
    Going,
    /// Every row was read.
    All,
    /// The last [`OLDER`] rows were too old.
    Older,
    /// It took too long.
    GaveUp,
}

/// A search through a source. It lives inside one transaction.
#[derive(Debug)]
pub struct BackwardScan<'a> {
    session: &'a Session,
    source: &'a Source,
    columns: &'a Columns,
    view: View<'a>,
    /// Not older than this, in seconds since the epoch.
    since: Option<f64>,
    deadline: Instant,
    piece: ChunkSize,
    below: Option<i64>,
    /// The condition on the only row to read.
    only: Option<String>,
    older: i64,
    /// Rows read.
    pub read: i64,
    /// When the row with the smallest id read happened, as text.
    pub reached: String,
    /// How it goes.
    pub state: ScanState,
}

/// SQL that shows a time: in UTC, with milliseconds, as RFC 3339.
pub fn time(column: &str) -> String {
    format!(
        "coalesce(to_char({column}::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'), {column}::text)"
    )
}

impl<'a> BackwardScan<'a> {
    /// A search that begins at the newest row.
    pub fn new(
        session: &'a Session,
        source: &'a Source,
        columns: &'a Columns,
        view: View<'a>,
        since: Option<f64>,
        limit: Duration,
    ) -> Self {
        Self {
            session,
            source,
            columns,
            view,
            since,
            deadline: Instant::now() + limit,
            piece: ChunkSize::new(FIRST, ROWS, PIECE.min(limit / 10)),
            below: None,
            only: None,
            older: 0,
            read: 0,
            reached: String::new(),
            state: ScanState::Going,
        }
    }

    /// The condition on the view that a row is not too old.
    pub fn recent(&self) -> Option<String> {
        self.since.map(|since| format!("at >= to_timestamp({since:?})"))
    }

    /// Reads the row with this id, or key as text, if one is given, and no other.
    pub fn only(&mut self, id: Option<&str>) {
        self.only = id.map(|id| has_id(self.source, self.columns, id).unwrap_or_else(|| "false".to_owned()));
    }

    /// The source that is searched.
    pub fn source(&self) -> &Source {
        self.source
    }

    /// How far back it came, for people.
    pub fn lowest(&self) -> String {
        match self.source.key {
            None => format!("id {}", self.below.unwrap_or_default()),
            Some(_) => format!("the newest {} rows", self.read),
        }
    }

    /// Reads the next piece: the rows of `found`, a SELECT from the view, in the order of the SELECT `order`.
    ///
    /// # Errors
    /// Fails if the database does not answer; that the first piece took too long counts as that.
    pub async fn next(&mut self, found: &str, order: &str) -> Result<Vec<Found>, Failure> {
        let started = Instant::now();
        let is_keyed = self.source.key.is_some();
        let below = match (&self.only, self.below) {
            (Some(only), _) => format!("WHERE {only}\n  "),
            (None, Some(id)) if !is_keyed => format!("WHERE execution.id < {id}\n  "),
            (None, _) => String::new(),
        };
        self.view.piece = (is_keyed && self.only.is_none()).then_some((self.read, self.piece.rows()));
        self.view.which = match is_keyed {
            true => format!("{below}LIMIT {}", self.piece.rows()),
            false => format!("{below}ORDER BY execution.id DESC LIMIT {}", self.piece.rows()),
        };
        let recent = self.recent().unwrap_or_else(|| "true".to_owned());
        let statement = format!(
            "WITH {}\nSELECT piece.*, found.* FROM (\n  SELECT count(*) AS rows, min(id) AS lowest,\n    \
             count(*) FILTER (WHERE {recent} OR NOT done) AS recent,\n    {} AS reached\n  FROM seen\n) AS piece\n\
             LEFT JOIN (\n{found}\n) AS found ON true\nORDER BY {order}",
            view(self.source, self.columns, &self.view),
            time("(array_agg(at ORDER BY id))[1]"),
        );
        let rows = match self.session.rows(&statement, &[]).await {
            Ok(rows) => rows,
            Err(failure) if failure.reason == Reason::Timeout && !failure.connection_lost && self.read > 0 => {
                self.state = ScanState::GaveUp;
                // The failure has ended the transaction; who goes on does so in a new one.
                self.session.batch("ROLLBACK").await?;
                self.session.begin().await?;
                return Ok(Vec::new());
            }
            Err(failure) => return Err(in_file(self.source, None, failure)),
        };
        let Some(first) = rows.first() else { return Ok(Vec::new()) };
        let mut cells = first.cells();
        let (read, lowest, recent): (i64, Option<i64>, i64) = (cells.take()?, cells.take()?, cells.take()?);
        if read > 0 && (!is_keyed || self.only.is_none()) {
            self.below = lowest;
            self.reached = cells.take::<Option<String>>()?.unwrap_or_default();
        }
        self.read += read;
        self.older = if recent == 0 { self.older + read } else { 0 };
        self.state = if read < self.piece.rows() as i64 || self.only.is_some() {
            ScanState::All
        } else if self.since.is_some() && self.older >= OLDER {
            ScanState::Older
        } else if Instant::now() >= self.deadline {
            ScanState::GaveUp
        } else {
            ScanState::Going
        };
        self.piece.adapt(started.elapsed(), true);
        Ok(rows.into_iter().map(Found).collect())
    }

    /// For people: how far a search that gave up has come.
    pub fn gave_up(&self) -> Option<String> {
        (self.state == ScanState::GaveUp).then(|| {
            format!(
                "gave up after database.statement_timeout: read the newest {} rows, back to {} of {}. \
                 A longer --database.statement-timeout looks further back",
                self.read,
                self.lowest(),
                self.reached
            )
        })
    }
}
