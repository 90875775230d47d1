//! The command `backfill`: the history as OpenMetrics with timestamps, from which `promtool` makes blocks.
//!
//! For each list of labels one scrollable cursor has, in the order of series and time, what happened in each step;
//! PostgreSQL sorts and keeps it. A family is one pass over the cursor, so that families and series come in one piece as
//! OpenMetrics wants it, and this side holds a few thousand rows whatever the range.

mod family;
mod progress;
mod timeline;

use std::io::Write;
use std::time::Duration;

use tokio_postgres::Row;

pub use timeline::Timeline;

use crate::config::Settings;
use crate::db::{Failure, Lossy, Reason, Session, definition, in_file};
use crate::exposition::{Encoder, Format, labels};
use crate::gone::{self, Ledgers};
use crate::ledger::{Labels, Ledger};
use crate::source::{Kind, Metric, Source};
use crate::sql::Columns;
use crate::sql::history::{self, Layout, layouts};
use family::{Family, Gone, Happened, Step};
use progress::Progress;

/// Rows fetched at once.
const FETCH: usize = 2_000;

/// What to write.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Where it begins, as [`timeline::parse`] reads it.
    pub from: String,
    /// Where it ends.
    pub to: String,
    /// From one sample to the next.
    pub step: Duration,
    /// Labels added to every series, those that Prometheus adds to what it scrapes.
    pub labels: Vec<(String, String)>,
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
    Timeline::new(&options.from, &options.to, options.step, now)
}

/// Writes the history of all sources, from one snapshot of the database.
pub async fn run(
    settings: &Settings,
    sources: &[Source],
    timeline: &Timeline,
    extra: &[(String, String)],
    ledgers: &Ledgers,
    out: &mut impl Write,
) -> Result<(), BackfillError> {
    let session = settings.target.connect().await?;
    session.begin().await?;
    // These statements read whole tables, in any way that is quick; all of what they give is wanted.
    session.batch("SET LOCAL enable_sort = on; SET LOCAL cursor_tuple_fraction = 1").await?;
    let mut progress = Progress::new();
    for (i, source) in sources.iter().enumerate() {
        let columns = session.describe(source).await?;
        definition::examine(&session, source, &columns).await?.refusal()?;
        let ledger = ledgers.of(&session, source).await?;
        let reader = Reader { session: &session, source, columns: &columns, timeline, extra, ledger };
        let layouts = layouts(source);
        for (j, layout) in layouts.iter().enumerate() {
            let begun = (i as f64 + j as f64 / layouts.len() as f64) / sources.len() as f64;
            let share = 1.0 / (layouts.len() * sources.len()) as f64;
            progress.show(begun, &format!("{}: PostgreSQL sorts", source.name));
            let mut show = |part: f64| progress.show(begun + share * part, &source.name);
            reader.layout(layout, out, &mut show).await?;
        }
        for metric in source.metrics.iter().filter(|metric| metric.kind == Kind::Newest) {
            reader.newest(metric, out).await?;
        }
    }
    session.end().await?;
    out.write_all(Format::OpenMetrics.end().as_bytes())?;
    out.flush()?;
    Ok(())
}

/// What it takes to read one source.
struct Reader<'a> {
    session: &'a Session,
    source: &'a Source,
    columns: &'a Columns,
    timeline: &'a Timeline,
    extra: &'a [(String, String)],
    ledger: Option<&'a Ledger>,
}

impl Reader<'_> {
    /// Writes the metrics of one layout.
    async fn layout(
        &self,
        layout: &Layout<'_>,
        out: &mut impl Write,
        show: &mut impl FnMut(f64),
    ) -> Result<(), BackfillError> {
        let gone = self.gone(layout).await?;
        let statement = layout.steps(self.columns, gone::sets(self.ledger), self.timeline);
        let rows = self.declare(&statement).await?;
        let all = (rows * layout.metrics.len() as u64).max(1) as f64;
        let mut read = 0;
        for metric in &layout.metrics {
            self.session.batch("MOVE ABSOLUTE 0 IN history").await?;
            let mut family = Family::new(layout, metric, self.timeline, &gone, self.extra);
            loop {
                let rows = self.fetch().await?;
                for row in &rows {
                    let step = self.step(layout, row)?;
                    family.row(&step, &mut |text: String| out.write_all(text.as_bytes()))?;
                }
                read += rows.len();
                show(read as f64 / all);
                if rows.len() < FETCH {
                    break;
                }
            }
            family.end(&mut |text: String| out.write_all(text.as_bytes()))?;
            out.write_all(family.take().as_bytes())?;
        }
        Ok(self.session.batch("CLOSE history").await?)
    }

    /// Lets PostgreSQL run a statement to its end and keep the rows; says how many there are.
    async fn declare(&self, statement: &str) -> Result<u64, Failure> {
        let located = |failure: Failure| match failure.reason {
            Reason::Timeout => Failure {
                message: format!(
                    "{}: {}: reading and sorting the whole history took too long. Give it more time \
                     (--database.statement-timeout 30m), best on a replica",
                    self.source.name, failure.message
                ),
                ..failure
            },
            _ => in_file(self.source, None, failure),
        };
        let declare = format!("DECLARE history SCROLL CURSOR FOR\n{statement}");
        self.session.batch(&declare).await.map_err(located)?;
        self.session.execute("MOVE FORWARD ALL IN history").await.map_err(located)
    }

    async fn fetch(&self) -> Result<Vec<Row>, Failure> {
        self.session.rows(&format!("FETCH FORWARD {FETCH} FROM history"), &[]).await
    }

    fn step(&self, layout: &Layout<'_>, row: &Row) -> Result<Step, Failure> {
        let at = layout.source.labels.len() + layout.by.len();
        let read = || {
            let labels = (0..at).map(|i| row.try_get::<_, Lossy>(i).map(|text| text.0));
            Ok(Step {
                labels: labels.collect::<Result<_, _>>()?,
                point: row.try_get(at)?,
                birth: row.try_get(at + 1)?,
                happened: Happened { counts: row.try_get(at + 2)?, sums: row.try_get(at + 3)? },
            })
        };
        read().map_err(|e: tokio_postgres::Error| self.broken(&e))
    }

    fn broken(&self, error: &tokio_postgres::Error) -> Failure {
        Failure::new(Reason::Decode, format!("{}: {error}", self.source.name))
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
        let statement = layout.totals(self.columns, gone::sets(Some(ledger)), &gone::counted(ledger));
        self.declare(&statement).await?;
        self.session.batch("MOVE ABSOLUTE 0 IN history").await?;
        let at = layout.source.labels.len() + layout.by.len();
        loop {
            let rows = self.fetch().await?;
            for row in &rows {
                let read = || {
                    let labels = (0..at).map(|i| row.try_get::<_, Lossy>(i).map(|text| text.0));
                    let counts: Vec<i64> = row.try_get(at)?;
                    let sums: Vec<f64> = row.try_get(at + 1)?;
                    Ok((labels.collect::<Result<_, _>>()?, counts, sums))
                };
                let (labels, counts, sums) = read().map_err(|e: tokio_postgres::Error| self.broken(&e))?;
                add(labels, counts.iter().map(|n| -n).collect(), sums.iter().map(|sum| -sum).collect());
            }
            if rows.len() < FETCH {
                break;
            }
        }
        self.session.batch("CLOSE history").await?;
        // What is left of sums after that is rounding.
        gone.retain(|_, happened| {
            happened.counts.iter().any(|&n| n != 0) || happened.sums.iter().any(|s| s.abs() > 1e-6)
        });
        Ok(gone)
    }

    /// Writes when the newest execution was, over time.
    async fn newest(&self, metric: &Metric, out: &mut impl Write) -> Result<(), BackfillError> {
        self.declare(&history::newest(self.source, self.columns, self.timeline)).await?;
        self.session.batch("MOVE ABSOLUTE 0 IN history").await?;
        let mut encoder = Encoder::new(Format::OpenMetrics, false);
        encoder.family(&metric.name, metric.kind.type_name(), metric.unit.as_deref(), &metric.help);
        let labels = labels(self.extra.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        // The newest may be gone; when it was, the ledger knows.
        let gone = self.ledger.and_then(Ledger::newest);
        let (mut next, mut newest) = (0, None);
        let mut until = |point: i64, newest: Option<f64>| -> std::io::Result<()> {
            while next < point {
                let time = self.timeline.time(next);
                encoder.at(time);
                let gone = gone.filter(|&at| at * 1000.0 <= time as f64);
                newest.into_iter().chain(gone).reduce(f64::max).iter().for_each(|&at| encoder.gauge(&labels, at));
                next += 1;
                if encoder.len() > 1 << 16 || next == point {
                    out.write_all(encoder.take().as_bytes())?;
                }
            }
            Ok(())
        };
        loop {
            let rows = self.fetch().await?;
            for row in &rows {
                let read = || Ok((row.try_get::<_, i64>(0)?, row.try_get::<_, f64>(1)?));
                let (point, at) = read().map_err(|e: tokio_postgres::Error| self.broken(&e))?;
                until(point, newest)?;
                newest = newest.into_iter().chain([at]).reduce(f64::max);
            }
            if rows.len() < FETCH {
                break;
            }
        }
        until(self.timeline.last() + 1, newest)?;
        Ok(self.session.batch("CLOSE history").await?)
    }
}
