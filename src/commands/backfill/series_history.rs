//! What happened to the series of a source over time, as PostgreSQL has sorted it.

use std::io::Write;

use super::BackfillError;
use super::cursor::{Cursor, step};
use super::estimate::Lives;
use super::family::{Family, Gone, Totals, beginning};
use crate::commands::reconcile;
use crate::ledger::{Labels, Ledger};
use crate::postgres::{Failure, Row, Session};
use crate::query::timeline::{Piece, Timeline};
use crate::source::Source;
use crate::sql::Columns;
use crate::sql::history::Layout;

/// What happened to the series of a layout, with the totals up to the current piece.
pub struct History<'a> {
    /// The metrics with the same labels.
    pub layout: &'a Layout<'a>,
    cursor: Cursor,
    totals: Totals,
}

impl History<'_> {
    /// Writes the metrics for a piece; if it is `skipped`, only takes what happened in it to the totals.
    pub async fn write(
        &mut self,
        session: &Session,
        (timeline, piece): (&Timeline, &Piece),
        extra: &[(String, String)],
        skipped: bool,
        out: &mut dyn Write,
    ) -> Result<(), BackfillError> {
        let (mut totals, mut rows) = (Totals::new(), 0);
        let metrics = if skipped { &self.layout.metrics[..1] } else { &self.layout.metrics };
        let mut sink = |text: &str| out.write_all(text.as_bytes()).map_err(BackfillError::from);
        for metric in metrics {
            let mut family = Family::new((self.layout, metric), (timeline, piece), &self.totals, extra);
            let each = |row: &Row| match step(row, self.labels(), Some(piece))? {
                Some(step) => family.row(&step, &mut sink).map(|()| true),
                None => Ok(false),
            };
            rows = self.cursor.read(session, each).await?;
            totals = family.end(&mut sink)?;
        }
        self.cursor.advance(rows);
        self.totals = totals;
        Ok(())
    }

    /// How many labels a series has.
    fn labels(&self) -> usize {
        self.layout.source.labels.len() + self.layout.by.len()
    }
}

/// What it takes to read one source.
pub struct HistoryReader<'a> {
    /// A transaction that has begun.
    pub session: &'a Session,
    /// The definition.
    pub source: &'a Source,
    /// The columns of the SELECT.
    pub columns: &'a Columns,
    /// The points of time that are asked for.
    pub timeline: &'a Timeline,
    /// What was counted, if a state file tells.
    pub ledger: Option<&'a Ledger>,
}

impl HistoryReader<'_> {
    pub async fn declare(&self, kind: &str, number: usize, statement: &str) -> Result<Cursor, Failure> {
        Cursor::declare(self.session, self.source, format!("{kind}_{number}"), statement).await
    }

    /// Has PostgreSQL read and sort the history of a layout.
    pub async fn history<'b>(&self, layout: &'b Layout<'b>, number: usize) -> Result<History<'b>, Failure> {
        let totals = beginning(layout, self.gone(layout).await?);
        let statement = layout.steps(self.columns, reconcile::sets(self.ledger), self.timeline);
        Ok(History { layout, cursor: self.declare("history", number, &statement).await?, totals })
    }

    /// From when on each series is there, and how often it changes.
    pub async fn lives(&self, history: &History<'_>) -> Result<Lives, Failure> {
        let mut lives: Lives = history.totals.keys().map(|labels| (labels.clone(), (0, 0))).collect();
        let each = |row: &Row| {
            let step = step(row, history.labels(), None)?;
            if let Some(step) = step {
                lives.entry(step.labels).or_insert((step.point, 0)).1 += 1;
            }
            Ok::<_, Failure>(true)
        };
        history.cursor.read(self.session, each).await?;
        Ok(lives)
    }

    /// What the ledger has counted and the table does not show any more.
    pub async fn gone(&self, layout: &Layout<'_>) -> Result<Gone, Failure> {
        let Some(ledger) = self.ledger else { return Ok(Gone::new()) };
        let by: Vec<usize> = layout.by.iter().filter_map(|l| self.source.by.iter().position(|own| own == l)).collect();
        let mut gone = Gone::new();
        let mut add = |labels: Labels, counts: Vec<i64>, sums: Vec<f64>| {
            let entry = gone.entry(labels).or_default();
            entry.counts.resize(counts.len(), 0);
            entry.sums.resize(sums.len(), 0.0);
            entry.counts.iter_mut().zip(counts).for_each(|(total, more)| *total += more);
            entry.sums.iter_mut().zip(sums).for_each(|(total, more)| *total += more);
        };
        for (set, totals) in ledger.sets() {
            for (values, cell) in &totals.cells {
                let labels = set.iter().chain(by.iter().map(|&i| &values[i])).cloned().collect();
                let counts = layout.counts.iter().map(|&i| i64::try_from(cell.counts[i]).unwrap_or(i64::MAX));
                add(labels, counts.collect(), layout.sums.iter().map(|&i| cell.sums[i].to_f64()).collect());
            }
        }
        let statement = layout.totals(self.columns, reconcile::sets(Some(ledger)), &reconcile::counted(ledger));
        let cursor = self.declare("gone", 0, &statement).await?;
        let at = layout.source.labels.len() + layout.by.len();
        let each = |row: &Row| {
            let mut cells = row.cells();
            let (labels, counts, sums): (_, Vec<i64>, Vec<f64>) = (cells.texts(at)?, cells.take()?, cells.take()?);
            add(labels, counts.iter().map(|n| -n).collect(), sums.iter().map(|sum| -sum).collect());
            Ok::<_, Failure>(true)
        };
        cursor.read(self.session, each).await?;
        cursor.close(self.session).await?;
        // What is left of sums after that is rounding.
        gone.retain(|_, happened| {
            happened.counts.iter().any(|&n| n != 0) || happened.sums.iter().any(|s| s.abs() > 1e-6)
        });
        Ok(gone)
    }
}
