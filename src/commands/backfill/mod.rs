//! The command `backfill`: the history as OpenMetrics with timestamps, from which `promtool` makes blocks.
//!
//! For each list of labels one scrollable cursor has, in the order of time in pieces (days, or one for all), of series and
//! of time, what happened in each step; PostgreSQL sorts and keeps it. A family of a piece is one pass over the rows of the
//! piece, so that families and series come in one piece as OpenMetrics wants it. This side holds a few thousand rows and
//! the total of each series, whatever the range.

mod cursor;
mod estimate;
mod family;
mod progress;
mod target;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

pub use crate::query::timeline::Timeline;

use crate::commands::reconcile::{self, Ledgers};
use crate::config::Settings;
use crate::exposition::{Encoder as _, Format, text};
use crate::ledger::{Labels, Ledger};
use crate::postgres::{Failure, Reason, Session, definition};
use crate::query::timeline::Piece;
use crate::source::kind;
use crate::source::{Metric, Source};
use crate::sql::Columns;
use crate::sql::history::{self, Layout, layouts};
use cursor::{Cursor, step, texts};
use estimate::{Estimate, Lives, size};
use family::{Family, Gone, Totals, beginning};
use progress::Progress;
use target::Days;

/// What to write.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Where it begins, as [`Timeline`] reads it.
    pub from: String,
    /// Where it ends.
    pub to: String,
    /// From one sample to the next.
    pub step: Duration,
    /// Labels added to every series, those that Prometheus adds to what it scrapes.
    pub labels: Vec<(String, String)>,
    /// Where a file for each day is written, instead of all to standard output.
    pub output_dir: Option<PathBuf>,
}

/// Why there is no history, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum BackfillError {
    /// The database did not give it.
    #[error(transparent)]
    Database(#[from] Failure),
    /// It could not be written.
    #[error("cannot write: {0}")]
    Write(#[from] std::io::Error),
    /// A file of `--output-dir` could not be written.
    #[error("cannot write {0}: {1}")]
    File(PathBuf, std::io::Error),
    /// The directory of `--output-dir` holds something else.
    #[error(
        "--output-dir: {0} holds other files, or history written with other options (step, labels or metrics): name an \
         empty directory, or the same options to go on there"
    )]
    Other(PathBuf),
}

/// What `options` mean at `now` (milliseconds since the epoch), for these sources.
pub fn check(options: &Options, sources: &[Source], now: i64) -> Result<Timeline, String> {
    for (name, _) in &options.labels {
        let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
        let valid = name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit());
        let taken = sources.iter().any(|source| source.labels.iter().chain(&source.by).any(|label| label == name));
        if !valid || taken || name == "le" || options.labels.iter().filter(|(other, _)| other == name).count() > 1 {
            return Err(format!(
                "--label {name}: is no label name, is given twice, or is a label of the metrics already"
            ));
        }
    }
    Timeline::new(&options.from, &options.to, options.step, options.output_dir.is_some(), now)
}

/// Writes the history of all sources, from one snapshot of the database; says on standard error how much that will be.
///
/// # Errors
/// Fails if the database does not answer, or if the history cannot be written.
pub async fn run(
    settings: &Settings,
    sources: &[Source],
    timeline: &Timeline,
    options: &Options,
    ledgers: &Ledgers,
    out: &mut impl Write,
) -> Result<(), BackfillError> {
    let dir = options.output_dir.as_ref();
    let mut days = dir.map(|dir| Days::open(dir, options, sources, timeline)).transpose()?;
    let session = settings.target.connect().await?;
    session.begin().await?;
    // These statements read whole tables, in any way that is quick; all of what they give is wanted.
    session.batch("SET LOCAL enable_sort = on; SET LOCAL cursor_tuple_fraction = 1").await?;
    let mut progress = Progress::new();
    let extra = &options.labels;
    let layouts: Vec<Layout<'_>> = sources.iter().flat_map(layouts).collect();
    let (mut histories, mut newest, mut estimate) = (Vec::new(), Vec::new(), Estimate::default());
    for source in sources {
        let columns = session.describe(source).await?;
        definition::examine(&session, source, &columns).await?.refusal()?;
        let ledger = ledgers.of(&session, source).await?;
        let reader = Reader { session: &session, source, columns: &columns, timeline, ledger };
        for layout in layouts.iter().filter(|layout| std::ptr::eq(layout.source, source)) {
            progress.show(0.0, &format!("{}: PostgreSQL sorts", source.name));
            let history = reader.history(layout, histories.len()).await?;
            estimate.add(layout, timeline, extra, reader.lives(&history).await?);
            histories.push(history);
        }
        for metric in source.metrics.iter().filter(|metric| metric.kind.history() == kind::History::LastFinished) {
            let cursor = reader.declare("newest", newest.len(), &history::newest(source, &columns, timeline)).await?;
            newest.push(Newest { source, metric, cursor, gone: ledger.and_then(Ledger::newest), at: None });
        }
    }
    progress.clear();
    eprintln!("{estimate}");
    let pieces = timeline.pieces();
    for (i, piece) in pieces.iter().enumerate() {
        let mut day = match &days {
            Some(days) => days.begin(piece, i + 1 == pieces.len())?,
            None => None,
        };
        let skipped = days.is_some() && day.is_none();
        let to: &mut dyn Write = match &mut day {
            Some(day) => day,
            None if skipped => &mut std::io::sink(),
            None => out,
        };
        for (j, history) in histories.iter_mut().enumerate() {
            let done = (i as f64 + j as f64 / layouts.len() as f64) / pieces.len() as f64;
            progress.show(done, &history.layout.source.name);
            history.write(&session, (timeline, piece), extra, skipped, to).await?;
        }
        for newest in &mut newest {
            newest.write(&session, (timeline, piece), extra, to).await?;
        }
        to.write_all(Format::OpenMetrics.end().as_bytes())?;
        to.flush()?;
        if let (Some(days), Some(day)) = (&mut days, day) {
            days.end(day)?;
        }
    }
    session.end().await?;
    progress.clear();
    if let (Some(dir), Some(Days { written: (files, bytes), .. })) = (dir, days) {
        let dir = dir.display();
        eprintln!(
            "wrote {files} of {} days, {}; now Prometheus takes them in:\n  for day in {dir}/*.om; do promtool tsdb \
             create-blocks-from openmetrics --max-block-duration=24h \"$day\" PROMETHEUS_DATA; done",
            pieces.len(),
            size(bytes)
        );
    }
    Ok(())
}

/// What happened to the series of a layout, with the totals up to the current piece.
struct History<'a> {
    layout: &'a Layout<'a>,
    cursor: Cursor,
    totals: Totals,
}

impl History<'_> {
    /// Writes the metrics for a piece; if it is `skipped`, only takes what happened in it to the totals.
    async fn write(
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
            let each =
                |row: &tokio_postgres::Row| match step(row, self.labels(), Some(piece)).map_err(|e| self.broken(&e))? {
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

    fn broken(&self, error: &tokio_postgres::Error) -> Failure {
        broken(self.layout.source, error)
    }
}

fn broken(source: &Source, error: &tokio_postgres::Error) -> Failure {
    Failure::new(Reason::Decode, format!("{}: {error}", source.name))
}

/// When the newest execution was, over time.
struct Newest<'a> {
    source: &'a Source,
    metric: &'a Metric,
    cursor: Cursor,
    /// When the newest execution was that is gone, as the ledger knows.
    gone: Option<f64>,
    /// When the newest execution was before the current piece.
    at: Option<f64>,
}

impl Newest<'_> {
    /// Writes the gauge for a piece.
    async fn write(
        &mut self,
        session: &Session,
        (timeline, piece): (&Timeline, &Piece),
        extra: &[(String, String)],
        out: &mut dyn Write,
    ) -> Result<(), BackfillError> {
        let Self { source, metric, cursor, gone, at } = self;
        let mut encoder = text::Encoder::new(Format::OpenMetrics, false, 0);
        encoder.family(&metric.name, metric.kind.type_name(), metric.unit.as_deref(), &metric.help);
        let labels: Vec<_> = extra.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut next = piece.first;
        let mut until = |point: i64, newest: Option<f64>| -> std::io::Result<()> {
            while next < point.min(piece.last + 1) {
                let time = timeline.time(next);
                encoder.at(time);
                let gone = gone.filter(|&at| at * 1000.0 <= time as f64);
                newest.into_iter().chain(gone).reduce(f64::max).iter().for_each(|&at| encoder.gauge(&labels, at));
                let last = timeline.last();
                next += if next < last { timeline.stride().min(last - next) } else { 1 };
                if encoder.len() > 1 << 16 {
                    out.write_all(encoder.take().as_bytes())?;
                }
            }
            next = next.min(point.max(piece.first));
            Ok(())
        };
        let read = cursor
            .read(session, |row| {
                let read = || Ok((row.try_get::<_, i64>(0)?, row.try_get::<_, f64>(1)?, row.try_get::<_, i64>(2)?));
                let (point, time, number) = read().map_err(|e: tokio_postgres::Error| broken(source, &e))?;
                if number > piece.number {
                    return Ok(false);
                }
                until(point, *at)?;
                *at = at.iter().copied().chain([time]).reduce(f64::max);
                Ok::<_, BackfillError>(true)
            })
            .await?;
        until(piece.last + 1, *at)?;
        out.write_all(encoder.take().as_bytes())?;
        cursor.advance(read);
        Ok(())
    }
}

/// What it takes to read one source.
struct Reader<'a> {
    session: &'a Session,
    source: &'a Source,
    columns: &'a Columns,
    timeline: &'a Timeline,
    ledger: Option<&'a Ledger>,
}

impl Reader<'_> {
    async fn declare(&self, kind: &str, number: usize, statement: &str) -> Result<Cursor, Failure> {
        Cursor::declare(self.session, self.source, format!("{kind}_{number}"), statement).await
    }

    /// Has PostgreSQL read and sort the history of a layout.
    async fn history<'b>(&self, layout: &'b Layout<'b>, number: usize) -> Result<History<'b>, Failure> {
        let totals = beginning(layout, self.gone(layout).await?);
        let statement = layout.steps(self.columns, reconcile::sets(self.ledger), self.timeline);
        Ok(History { layout, cursor: self.declare("history", number, &statement).await?, totals })
    }

    /// From when on each series is there, and how often it changes.
    async fn lives(&self, history: &History<'_>) -> Result<Lives, Failure> {
        let mut lives: Lives = history.totals.keys().map(|labels| (labels.clone(), (0, 0))).collect();
        let each = |row: &tokio_postgres::Row| {
            let step = step(row, history.labels(), None).map_err(|e| history.broken(&e))?;
            if let Some(step) = step {
                lives.entry(step.labels).or_insert((step.point, 0)).1 += 1;
            }
            Ok::<_, Failure>(true)
        };
        history.cursor.read(self.session, each).await?;
        Ok(lives)
    }

    /// What the ledger has counted and the table does not show any more.
    async fn gone(&self, layout: &Layout<'_>) -> Result<Gone, Failure> {
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
        let each = |row: &tokio_postgres::Row| {
            let read = || Ok((texts(row, at)?, row.try_get::<_, Vec<i64>>(at)?, row.try_get::<_, Vec<f64>>(at + 1)?));
            let (labels, counts, sums) = read().map_err(|e: tokio_postgres::Error| broken(self.source, &e))?;
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
