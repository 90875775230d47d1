//! The command `rows`: the executions behind a series.

mod catalogue;
mod format;
mod hint;
mod one;
mod rejected;

use std::cmp::Ordering;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Arg, Command};

use catalogue::catalogue;
use format::Format;
use one::find_everywhere;
use rejected::Rejected;

use super::backward_scan::{BackwardScan, OLDER, ScanState, time};
use super::reconcile::{self, Ledgers};
use super::text_table::{visible_lines, width};
use super::{CommandError, Invocation, Subcommand, arguments, block_on, output, selector};
use crate::config::Settings;
use crate::ledger::{Ledger, MAX_LABEL_BYTES, OVERFLOW};
use crate::postgres::{Failure, Lossy, Session};
use crate::query::resolved::ResolvedSelector;
use crate::source::{REQUIRED, Source};
use crate::sql::series::{behind, row_value, view_of};
use crate::sql::{ColumnType, Columns, view};

/// The command.
pub const COMMAND: Subcommand =
    Subcommand { name: "rows", settings: &["database.", "state.", "queries.", "series.limit", "log."], define, run };

fn define(command: Command) -> Command {
    command
        .about("List the executions behind a series, newest first")
        .arg(selector::argument("The series; without it: the metrics that there are, with their labels"))
        .arg(arguments::since().help("Only executions that finished within this time, such as 24h"))
        .arg(
            Arg::new("id")
                .long("id")
                .value_name("ID")
                .allow_negative_numbers(true)
                .conflicts_with("since")
                .help("Only the row with this id (or key, its columns with commas between them); without a selector: of every source, with all that is in it"),
        )
        .arg(
            Arg::new("limit")
                .long("limit")
                .value_name("NUMBER")
                .default_value("50")
                .value_parser(clap::value_parser!(u32).range(1..))
                .help("At most so many"),
        )
        .arg(
            Arg::new("format")
                .long("format")
                .value_name("FORMAT")
                .default_value("table")
                .value_parser(PossibleValuesParser::new(["table", "csv", "json"]).map(|name| Format::of(&name)))
                .help("How to write them"),
        )
        .after_long_help(format!(
            "{}\
Of a histogram's own name, le is the bucket into which a row falls: le=\"+Inf\" are
the rows above the last bound. Of NAME_bucket, le=\"300000\" are the rows that this
series counts (up to 300000), le!=\"300000\" those that it does not.

The table is read backwards by id. A search ends when it has found enough, after
10000 rows in a row that are older than --since, or after
database.statement_timeout; notes on standard error say how far it came.

Examples:
  rsolv-exporter rows --since 24h \\
    'rsolv_validation_executions_total{{repo=\"org/app\",status=\"failed\"}}'
  the ones over 5 minutes:
  rsolv-exporter rows \\
    'rsolv_validation_duration_milliseconds_bucket{{le!=\"300000\"}}'
  between one and two minutes, as CSV:
  rsolv-exporter rows --format csv --limit 1000 \\
    'rsolv_validation_duration_milliseconds{{le=\"120000\"}}'
  one row as the exporter sees it, and whether it is counted:
  rsolv-exporter rows --id 4711
  the values that were rejected, and why:
  rsolv-exporter rows \\
        'rsolv_exporter_rejected_values_total{{column=\"trust_score\"}}'",
            selector::HELP
        ))
}

fn run(invocation: &Invocation) -> Result<ExitCode, CommandError> {
    let options = Options::new(invocation);
    if options.selector.is_none() && options.id.is_none() {
        // What there is to ask for stands in the definitions: no database is needed.
        output::print(&catalogue(&invocation.sources()?));
        return Ok(ExitCode::SUCCESS);
    }
    let (settings, sources) = invocation.prepare()?;
    block_on(async {
        let listing = list(&settings, &sources, &options).await?;
        let text = listing.render(options.format, width());
        // A file gets what is in the rows; a terminal would obey it.
        output::write(&if io::stdout().is_terminal() { visible_lines(&text) } else { text })?;
        listing.notes.iter().for_each(|note| eprintln!("{note}"));
        Ok(ExitCode::SUCCESS)
    })
}

async fn list(settings: &Settings, sources: &[Source], options: &Options) -> Result<Listing, CommandError> {
    let ledgers = || Ledgers::load(settings, sources);
    let is_number = |id: &String| id.parse::<i64>().is_ok();
    if let Some(id) =
        options.id.as_ref().filter(|id| !is_number(id) && sources.iter().all(|source| source.key.is_none()))
    {
        return Err(CommandError::invalid_question(format!("--id {id}: the ids of all sources are whole numbers")));
    }
    match (&options.selector, &options.id) {
        (None, Some(id)) => Ok(find_everywhere(settings, sources, id, options, &ledgers()).await?),
        (selector, _) => {
            let selector = selector.as_deref().unwrap_or_default();
            if let Some(rejected) = Rejected::parse(selector, sources)? {
                return rejected.find(settings, options).await;
            }
            let question = ResolvedSelector::parse(selector, sources)?;
            find(settings, &question, options, &ledgers()).await
        }
    }
}

/// What to list.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Which series; none: the metrics that there are.
    pub selector: Option<String>,
    /// Only the row with this id, or with this key as text.
    pub id: Option<String>,
    /// Not older than this.
    pub since: Option<Duration>,
    /// At most so many.
    pub limit: usize,
    /// How to write them.
    pub format: Format,
}

impl Options {
    fn new(invocation: &Invocation) -> Self {
        let arguments = &invocation.arguments;
        Self {
            selector: invocation.text("selector").map(str::to_owned),
            id: arguments.get_one("id").cloned(),
            since: arguments.get_one("since").copied(),
            limit: arguments.get_one::<u32>("limit").map_or(usize::MAX, |&limit| limit as usize),
            format: arguments.get_one("format").copied().unwrap_or(Format::Table),
        }
    }
}

/// Which column of a listing has the value.
const VALUE: usize = 2;

/// A column of a listing.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// Its name.
    pub name: String,
    /// What its cells hold.
    pub kind: ColumnType,
    /// True if the selector alone says what is in it: a table leaves it out.
    pub known: bool,
}

/// Rows that were found.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// The columns.
    pub columns: Vec<Head>,
    /// The cells; `None` is NULL.
    pub rows: Vec<Vec<Option<String>>>,
    /// What else the reader should know.
    pub notes: Vec<String>,
}

impl Head {
    fn new(name: impl Into<String>, kind: ColumnType) -> Self {
        Self { name: name.into(), kind, known: false }
    }

    /// The column with the id, or with the text of the key.
    fn id(source: &Source) -> Self {
        Self::new("id", if source.key.is_some() { ColumnType::Text } else { ColumnType::Number })
    }

    /// A value as it is shown: a label as it is exported, a number without zeros at its end.
    fn cell(&self, source: &Source, mut text: String) -> String {
        if source.all_labels().any(|label| *label == self.name) {
            text.truncate(text.floor_char_boundary(MAX_LABEL_BYTES));
        } else if self.kind == ColumnType::Number && text.contains('.') && !text.contains(['e', 'E']) {
            text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
        }
        text
    }
}

/// Finds the rows, newest first; of what is oldest, the oldest first.
async fn find(
    settings: &Settings,
    question: &ResolvedSelector<'_>,
    options: &Options,
    ledgers: &Ledgers,
) -> Result<Listing, CommandError> {
    let session = settings.target.connect().await?;
    let clock = session.begin().await?.clock;
    selector::compile(&session, question.regular()).await?;
    let columns = session.describe(question.source).await?;
    let ledger = ledgers.of(&session, question.source).await?;
    let others = others(question, &columns);
    let mut listing = Listing { columns: head(question, &others, &columns), ..Listing::default() };
    let mut view = view_of(question, reconcile::sets(ledger));
    view.raw.clone_from(&others);
    let since = options.since.map(|since| clock - since.as_secs_f64());
    let mut scan =
        BackwardScan::new(&session, question.source, &columns, view, since, settings.target.timeouts().statement);
    // The newest execution, or the oldest, can have any id.
    let by_time = question.metric.kind.combine().order();
    scan.only(options.id.as_deref());
    let mut conditions = behind(question);
    conditions.extend(reconcile::never_counted(question, ledger));
    conditions.extend(scan.recent());
    let value = row_value(question).unwrap_or_else(|| "1".to_owned());
    let list: Vec<String> = others.iter().map(|c| format!(", {}", view::raw(c))).collect();
    while scan.state == ScanState::Going && (by_time.is_some() || listing.rows.len() < options.limit) {
        let limit = if by_time.is_some() { options.limit } else { options.limit - listing.rows.len() };
        let found = format!(
            "  SELECT {}, {} AS at, ({})::text AS value{}, id AS \"(id)\"\n  FROM seen\n  WHERE {}\n  ORDER BY {}\n  LIMIT {limit}",
            view::shown_id(question.source),
            time("at"),
            value,
            list.concat(),
            conditions.join("\n    AND "),
            by_time.map_or("id DESC".to_owned(), |order| format!("{value} {order}")),
        );
        let order = by_time.map(|order| format!("found.value::float8 {order}, ")).unwrap_or_default();
        listing.read(&mut scan, &found, &format!("{order}found.\"(id)\" DESC")).await?;
        if let Some(order) = by_time {
            let time = |row: &[Option<String>]| row[VALUE].as_deref().and_then(|time| time.parse::<f64>().ok());
            let ascending = |a: &[_], b: &[_]| time(a).partial_cmp(&time(b)).unwrap_or(Ordering::Equal);
            listing.rows.sort_by(|a, b| if order == "ASC" { ascending(a, b) } else { ascending(b, a) });
            listing.rows.truncate(options.limit);
        }
    }
    if options.id.is_none() {
        listing.say_how_far(&scan, options.limit, if by_time == Some("ASC") { "oldest" } else { "newest" });
    }
    if listing.rows.is_empty() && options.id.is_none() {
        listing.notes.extend(hint::values(&session, question, &columns, reconcile::sets(ledger)).await);
    }
    match &options.id {
        Some(id) if listing.rows.is_empty() => listing.notes.push(format!(
            "the row with id {id}, if there is one, is not behind {}: rows --id {id} alone shows it",
            question.selector
        )),
        Some(_) => {}
        None => note(&session, question, &columns, ledger, &mut listing.notes).await,
    }
    Ok(listing)
}

impl Listing {
    /// Reads the next piece of a search: `found` has the columns of the listing.
    async fn read(&mut self, scan: &mut BackwardScan<'_>, found: &str, order: &str) -> Result<(), Failure> {
        for row in &scan.next(found, order).await? {
            let mut found = row.cells();
            let Some(id) = found.take::<Option<Lossy>>()? else { continue };
            let mut cells = vec![Some(id.0)];
            for head in &self.columns[1..] {
                let text = found.take::<Option<Lossy>>()?;
                cells.push(text.map(|text| head.cell(scan.source(), text.0)));
            }
            self.rows.push(cells);
        }
        Ok(())
    }

    /// Notes whether there can be more than was found.
    fn say_how_far(&mut self, scan: &BackwardScan<'_>, limit: usize, first: &str) {
        if self.rows.len() >= limit {
            self.notes.push(format!("the {first} {}; --limit shows more", self.rows.len()));
            return;
        }
        self.notes.extend(scan.gave_up());
        if scan.state == ScanState::Older {
            let lowest = scan.lowest();
            self.notes.push(format!("read back to {lowest}: {OLDER} rows in a row are older than --since"));
        }
    }
}

async fn note(
    session: &Session,
    question: &ResolvedSelector<'_>,
    columns: &Columns,
    ledger: Option<&Ledger>,
    notes: &mut Vec<String>,
) {
    if !question.ignored.is_empty() {
        let labels = question.ignored.join(", ");
        notes.push(format!("Prometheus adds these labels, the rows know nothing of them: {labels}"));
    }
    let Some(ledger) = ledger else {
        if question.matchers.iter().any(|m| m.value.contains(OVERFLOW)) {
            notes.push(format!("which rows were counted under {OVERFLOW}, only the state file (state.file) knows"));
        }
        return;
    };
    match reconcile::compare(session, question, columns, ledger).await {
        Ok(compared) => notes.extend(compared.and_then(|compared| {
            let difference = compared.difference()?;
            let than = if difference < 0.0 { "more than" } else { "of" };
            Some(format!(
                "{} {than} the {} that the state file has is from {}",
                difference.abs(),
                compared.counted,
                compared.cause()
            ))
        })),
        Err(failure) => notes.push(format!("how many counted rows are gone is not known: {failure}")),
    }
}

/// The columns of the SELECT that are shown: labels, then what no metric has and so is for readers, then values.
fn others<'a>(question: &ResolvedSelector<'a>, columns: &'a Columns) -> Vec<&'a str> {
    let source: &Source = question.source;
    let measured = question.value().map(|value| value.column.as_str());
    let mut others: Vec<&str> = Vec::new();
    let labels = source.all_labels().map(String::as_str);
    let values: Vec<&str> = source.values.iter().map(|value| value.column.as_str()).chain(source.only()).collect();
    let rest = columns.keys().map(String::as_str).filter(|column| !values.contains(column));
    for column in labels.chain(rest).chain(values.iter().copied()) {
        let shown = REQUIRED.contains(&column) || Some(column) == measured || others.contains(&column);
        // The key of the map lives as long as the columns.
        others.extend(columns.get_key_value(column).filter(|_| !shown).map(|(name, _)| name.as_str()));
    }
    others
}

fn head(question: &ResolvedSelector, others: &[&str], columns: &Columns) -> Vec<Head> {
    let counted = Head { known: row_value(question).is_none(), ..Head::new("value", ColumnType::Number) };
    let mut head = vec![Head::id(question.source), Head::new("at", ColumnType::Text), counted];
    head.extend(others.iter().map(|&name| Head {
        // Rows with many labels are counted under the overflow.
        known: question.pinned(name).is_some_and(|value| value != OVERFLOW),
        ..Head::new(name, columns.get(name).map_or(ColumnType::Text, |column| column.kind))
    }));
    head
}
