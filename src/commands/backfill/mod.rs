//! The command `backfill`: the history as OpenMetrics with timestamps, from which `promtool` makes blocks.
//!
//! For each list of labels one scrollable cursor has, in the order of time in pieces (days, or one for all), of series and
//! of time, what happened in each step; PostgreSQL sorts and keeps it. A family of a piece is one pass over the rows of the
//! piece, so that families and series come in one piece as OpenMetrics wants it. This side holds a few thousand rows and
//! the total of each series, whatever the range.

mod cursor;
mod estimate;
mod family;
mod last_finished;
mod progress;
mod series_history;
mod target;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, Command};

use super::arguments::duration;
use super::reconcile::Ledgers;
use super::{CommandError, Invocation, Subcommand, block_on, output};
use crate::clock::Clock;
use crate::config::Settings;
use crate::exposition::Format;
use crate::ledger::Ledger;
use crate::postgres::{Failure, definition};
use crate::query::timeline::Timeline;
use crate::source::{Source, is_label_name, kind};
use crate::sql::history::{self, Layout, layouts};
use estimate::{Estimate, size};
use last_finished::LastFinished;
use progress::Progress;
use series_history::HistoryReader;
use target::Days;

/// The command.
pub const COMMAND: Subcommand = Subcommand {
    name: "backfill",
    settings: &["database.", "state.", "queries.", "series.limit", "log."],
    define,
    run,
};

fn define(command: Command) -> Command {
    command
        .about("Write the history as OpenMetrics with timestamps, for promtool")
        .arg(
            Arg::new("from")
                .long("from")
                .value_name("TIME")
                .required(true)
                .help("The first sample: 2026-01-31, 2026-01-31T12:00:00Z, 30d (ago) or seconds since the epoch"),
        )
        .arg(Arg::new("to").long("to").value_name("TIME").default_value("now").help("The last sample"))
        .arg(
            Arg::new("step")
                .long("step")
                .value_name("DURATION")
                .default_value("1m")
                .value_parser(duration)
                .help("From one sample to the next"),
        )
        .arg(
            Arg::new("output-dir")
                .long("output-dir")
                .value_name("DIRECTORY")
                .help("Write a file for each day there, and go on there after an interruption"),
        )
        .arg(
            Arg::new("label")
                .long("label")
                .value_name("NAME=VALUE")
                .action(ArgAction::Append)
                .value_parser(pair)
                .help("A label for every series; give job and instance as Prometheus does, so that live series go on"),
        )
        .after_long_help(
            "\
Every series begins one step before its first event, where it is 0, or at --from.
It has a sample at every step at which it changes, else one every four minutes.
Its last value is the live one, less what happened after --to; rows that are gone
count as before --from, as far as state.file knows them. Gauges of open rows have
no history and are left out. How much it will be is said first.

PostgreSQL reads each table once for every list of labels that metrics have, once
more for a gauge of the newest execution, and once more for every list with
state.file; it sorts what it reads, if need be on disk. Run it on a replica, with
a statement_timeout to match. The transaction lasts until all is written. This
side holds a few thousand rows and the total of each series, whatever the range.

promtool reads a file again for every block in it: with a file for each day and
blocks of a day that is seldom. The same command in the same directory goes on
after an interruption. Leave out the last three hours (--to 3h): Prometheus still
writes to the block in memory there. Blocks older than Prometheus' retention are
deleted as soon as it sees them.

Example:
  rsolv-exporter backfill --from 30d --to 3h --output-dir history \\
    --database.statement-timeout 30m \\
    --label job=rsolv-exporter --label instance=exporter:10060
  for day in history/*.om; do promtool tsdb create-blocks-from openmetrics \\
    --max-block-duration=24h $day /var/lib/prometheus/metrics2; done",
        )
}

fn run(invocation: &Invocation) -> Result<ExitCode, CommandError> {
    let (settings, sources) = invocation.prepare()?;
    let options = Options::new(invocation);
    let timeline = check(&options, &sources, Clock::default().milliseconds())?;
    block_on(async {
        let ledgers = Ledgers::load(&settings, &sources);
        let mut out = output::stdout();
        write(&settings, &sources, &timeline, &options, &ledgers, &mut out).await?;
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    })
}

fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').ok_or("must be NAME=VALUE")?;
    Ok((pair.0.to_owned(), pair.1.to_owned()))
}

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

impl Options {
    fn new(invocation: &Invocation) -> Self {
        let text = |name: &str| invocation.text(name).unwrap_or_default().to_owned();
        Self {
            from: text("from"),
            to: text("to"),
            step: invocation.arguments.get_one("step").copied().unwrap_or_default(),
            labels: invocation.arguments.get_many("label").into_iter().flatten().cloned().collect(),
            output_dir: invocation.text("output-dir").map(PathBuf::from),
        }
    }
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

impl From<BackfillError> for CommandError {
    fn from(error: BackfillError) -> Self {
        match error {
            BackfillError::Write(error) => Self::Write(error),
            BackfillError::Other(_) => Self::invalid_question(error),
            error => Self::failed(error),
        }
    }
}

/// What `options` mean at `now` (milliseconds since the epoch), for these sources.
fn check(options: &Options, sources: &[Source], now: i64) -> Result<Timeline, CommandError> {
    for (name, _) in &options.labels {
        let taken = sources.iter().any(|source| source.labels.iter().chain(&source.by).any(|label| label == name));
        if !is_label_name(name)
            || taken
            || name == "le"
            || options.labels.iter().filter(|(other, _)| other == name).count() > 1
        {
            let problem =
                format!("--label {name}: is no label name, is given twice, or is a label of the metrics already");
            return Err(CommandError::invalid_question(problem));
        }
    }
    let timeline = Timeline::new(&options.from, &options.to, options.step, options.output_dir.is_some(), now);
    timeline.map_err(CommandError::invalid_question)
}

/// Writes the history of all sources, from one snapshot of the database; says on standard error how much that will be.
///
/// # Errors
/// Fails if the database does not answer, or if the history cannot be written.
async fn write(
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
        let reader = HistoryReader { session: &session, source, columns: &columns, timeline, ledger };
        for layout in layouts.iter().filter(|layout| std::ptr::eq(layout.source, source)) {
            progress.show(0.0, &format!("{}: PostgreSQL sorts", source.name));
            let history = reader.history(layout, histories.len()).await?;
            estimate.add(layout, timeline, extra, reader.lives(&history).await?);
            histories.push(history);
        }
        for metric in source.metrics.iter().filter(|metric| metric.kind.history() == kind::History::LastFinished) {
            let cursor = reader.declare("newest", newest.len(), &history::newest(source, &columns, timeline)).await?;
            newest.push(LastFinished { metric, cursor, gone: ledger.and_then(Ledger::newest), at: None });
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
