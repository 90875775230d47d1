//! Tells the log what changed, once per change and not once per poll.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::{Duration, Instant};

use super::read_keyed::Answer;
use crate::ledger::{Applied, IdReset, Ledger};
use crate::postgres::{Failure, Target};
use crate::source::Source;
use crate::source::key::Key;
use crate::telemetry::systemd;

/// While history is read, progress is told this often.
const PROGRESS: Duration = Duration::from_secs(5);

/// What was said last.
#[derive(Debug, Default)]
pub struct ChangeLog {
    /// True if failures are said by someone else.
    pub leaves_failures: bool,
    database: Option<Result<Option<String>, String>>,
    sources: BTreeMap<String, Option<String>>,
    progress: BTreeMap<String, Instant>,
    /// Sources whose counted rows were seen to move.
    moved: BTreeSet<String>,
}

impl ChangeLog {
    /// Says whether the database could be read as a whole, if that has changed.
    pub fn polled(&mut self, target: &Target, failure: Option<&Failure>) {
        let server = target.server();
        let said = failure.map_or_else(|| Ok(server.clone()), |f| Err(f.message.clone()));
        if self.database.as_ref() == Some(&said) {
            return;
        }
        match failure {
            Some(f) if self.leaves_failures => detail(f),
            Some(f) => {
                let Failure { reason, message, .. } = f;
                tracing::error!(%reason, database = %target, server, "the database cannot be read: {message}; trying again");
                detail(f);
            }
            None => tracing::info!(database = %target, server, "the database is being read"),
        }
        self.database = Some(said);
    }

    /// Says whether a source could be read, if that has changed.
    pub fn source(&mut self, source: &Source, ledger: &Ledger, failure: Option<&Failure>) {
        let said = failure.map(|f| f.message.clone());
        if self.sources.get(&source.name) == Some(&said) {
            return;
        }
        match failure {
            Some(f) if self.leaves_failures => detail(f),
            Some(f) => {
                let Failure { reason, message, .. } = f;
                tracing::error!(source = source.name, %reason, "the source cannot be read: {message}");
                detail(f);
            }
            None if ledger.is_complete() => {
                let (rows, open, gaps) = (ledger.rows(), ledger.open(), ledger.gaps());
                tracing::info!(source = source.name, rows, open, gaps, "the source is being read");
            }
            // The first read goes on: it will be said at its end.
            None => return,
        }
        self.sources.insert(source.name.clone(), said);
    }

    /// What rows that were counted before say of the table.
    pub fn judged(&self, source: &Source, judgement: IdReset) {
        let source = &source.name;
        match judgement {
            IdReset::None => {}
            IdReset::Reset => tracing::warn!(
                source,
                "the ids started again, or were set back: rows under ids that were counted before are new if they are \
                 others; totals stay"
            ),
            IdReset::OtherDatabase => tracing::warn!(
                source,
                "none of the rows of this database was counted: they are counted anew, and totals become the larger of both"
            ),
        }
    }

    /// What is worth knowing of rows that were counted.
    pub fn applied(&self, definition: &Source, applied: &Applied) {
        let source = &definition.name;
        if applied.late > 0 && definition.key.is_some() {
            let rows = applied.late;
            tracing::warn!(
                source,
                rows,
                "counted late: rows turned up further behind the newest one than late in the definition allows; others may \
                 have been missed: a longer late finds them"
            );
        } else if applied.late > 0 {
            let rows = applied.late;
            tracing::warn!(
                source,
                rows,
                "counted late: rows turned up under ids that had been given up (poll.gap_watch)"
            );
        }
        if applied.uncertain > 0 {
            let rows = applied.uncertain;
            tracing::warn!(
                source,
                rows,
                "ids were handed out again, and only the time of these rows tells whether they were counted before: \
                 totals may be off, by so many rows at most"
            );
        }
    }

    /// Rows on which the SELECT raises, each when that is first seen.
    pub fn failing(&self, source: &Source, ids: &[i64], failure: Option<&Failure>) {
        if let (false, Some(failure)) = (ids.is_empty(), failure) {
            let Failure { reason, message, .. } = failure;
            tracing::error!(
                source = source.name,
                %reason,
                ?ids,
                "rows are left out, on which the SELECT raises: {message}; they are tried again every few minutes"
            );
            detail(failure);
        }
    }

    /// What is worth knowing of rows that were found by their keys.
    pub fn keyed(&mut self, source: &Source, answer: &Answer) {
        let source_name = &source.name;
        if let (Some(Failure { reason, message, .. }), rows) = (&answer.failure, answer.newly_failing)
            && rows > 0
        {
            tracing::error!(
                source = source_name,
                %reason,
                rows,
                "rows are left out, on which the SELECT raises: {message}; they are tried again every few minutes"
            );
            answer.failure.iter().for_each(detail);
        }
        if answer.sweep.counted_moved > 0 && self.moved.insert(source_name.clone()) {
            let order = source.key.as_ref().map_or("", Key::order);
            tracing::warn!(
                source = source_name,
                rows = answer.sweep.counted_moved,
                "the order of rows that have been counted changes: one that was counted long ago would be counted again. \
                 {order} must be set once, for each key"
            );
        }
    }

    /// A chunk of a long read was counted.
    pub fn progress(&mut self, source: &Source, ledger: &Ledger) {
        let now = Instant::now();
        let last = self.progress.entry(source.name.clone()).or_insert_with(|| now - PROGRESS);
        if now - *last >= PROGRESS {
            *last = now;
            let id = ledger.frontier().high().unwrap_or_default();
            tracing::info!(source = source.name, rows = ledger.rows(), id, "reading rows from before");
            systemd::status(&format!("reading rows of {} from before: {} so far", source.name, ledger.rows()));
        }
    }
}

fn detail(failure: &Failure) {
    if let Some(detail) = &failure.detail {
        tracing::debug!(detail, "the server's words");
    }
}
