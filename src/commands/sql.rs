//! The command `sql`: the statements that the numbers come from.

use std::fmt::Write;
use std::process::ExitCode;

use clap::Command;

use super::reconcile::{self, Ledgers};
use super::{CommandError, Invocation, Subcommand, block_on, output, selector};
use crate::config::Settings;
use crate::ledger::{Ledger, OVERFLOW};
use crate::poll::FIRST_LIMIT;
use crate::postgres::Failure;
use crate::query::resolved::ResolvedSelector;
use crate::source::Source;
use crate::sql;
use crate::sql::keyed;

/// The command.
pub const COMMAND: Subcommand =
    Subcommand { name: "sql", settings: &["database.", "state.", "queries.", "series.limit", "log."], define, run };

fn define(command: Command) -> Command {
    command
        .about("Print the SQL that a number comes from, to paste into psql")
        .arg(selector::argument("A metric or series; without one: the statements of a poll, as they run"))
        .after_long_help(format!(
            "{}\
The number is in the last column of the last row; with several series their sum,
and a row for each before it. With state.file it says how much of the number
comes from rows that are gone.

Examples:
  rsolv-exporter sql
  rsolv-exporter sql rsolv_validation_test_generated_total | psql \"$DATABASE_URL\"
  rsolv-exporter sql 'rsolv_validation_executions_total{{status=\"failed\"}}'
  rsolv-exporter sql \\
        'rsolv_validation_duration_milliseconds_bucket{{le=\"300000\"}}'",
            selector::HELP
        ))
}

fn run(invocation: &Invocation) -> Result<ExitCode, CommandError> {
    let (settings, sources) = invocation.prepare()?;
    let question = invocation.text("selector").map(|text| ResolvedSelector::parse(text, &sources)).transpose()?;
    block_on(async {
        let ledgers = Ledgers::load(&settings, &sources);
        let text = match &question {
            Some(question) => number(&settings, question, &ledgers).await?,
            None => poll(&settings, &sources, &ledgers).await?,
        };
        output::write(&text)?;
        Ok(ExitCode::SUCCESS)
    })
}

/// The transaction of a poll: of the next one with these ledgers, or of the first one without.
async fn poll(settings: &Settings, sources: &[Source], ledgers: &Ledgers) -> Result<String, Failure> {
    let session = settings.target.connect().await?;
    session.begin().await?;
    let mut text = settings.target.timeouts().opening().replace("; ", ";\n") + ";\n\n";
    for source in sources {
        let columns = session.describe(source).await?;
        if let Some(key) = &source.key {
            let statement = keyed::poll_filled_in(source, key, &columns, FIRST_LIMIT);
            let _ = writeln!(
                text,
                "-- {}: the first rows; later only those whose keys are not known\n{statement};\n",
                source.name
            );
            continue;
        }
        let empty = Ledger::new(source.shape(settings.series.limit));
        let ledger = ledgers.of(&session, source).await?.unwrap_or(&empty);
        let plan = ledger.frontier().plan_all(FIRST_LIMIT);
        let _ = writeln!(text, "-- {}\n{};\n", source.name, sql::poll_filled_in(source, &columns, &plan));
    }
    session.end().await?;
    Ok(text + "COMMIT;\n")
}

/// One statement that gives a number, with comments about it; and how many counted rows are gone, if a ledger tells.
async fn number(
    settings: &Settings,
    question: &ResolvedSelector<'_>,
    ledgers: &Ledgers,
) -> Result<String, CommandError> {
    let session = settings.target.connect().await?;
    session.begin().await?;
    selector::compile(&session, question.regular()).await?;
    let columns = session.describe(question.source).await?;
    let ledger = ledgers.of(&session, question.source).await?;
    let mut text = format!("-- {}\n", question.selector);
    let mut say = |line: &str| _ = writeln!(text, "-- {line}");
    question.metric.kind.meaning().into_iter().for_each(&mut say);
    if !question.is_pinned() {
        say(&format!(
            "One row per series; the last row, without labels, is their {}.",
            question.metric.kind.combine().word()
        ));
    }
    if question.metric.kind.is_of_open_rows() {
        say(match ledger {
            Some(_) => {
                "Rows that were counted before and are open again are left out, as the state file (state.file) has it."
            }
            None => {
                "Rows that were counted before and are open again are in here, and not in the gauge: only the state file \
                 (state.file)\n-- knows which they are."
            }
        });
    }
    if !question.ignored.is_empty() {
        say(&format!("Prometheus adds these labels, the rows know nothing of them: {}.", question.ignored.join(", ")));
    }
    if ledger.is_none() && question.matchers.iter().any(|m| m.value.contains(OVERFLOW)) {
        say(&format!("Which rows were counted under {OVERFLOW}, only the state file (state.file) knows."));
    }
    match ledger {
        None => {}
        Some(ledger) => match reconcile::compare(&session, question, &columns, ledger).await {
            Ok(Some(compared)) => match compared.difference() {
                Some(difference) => say(&format!(
                    "The state file has {}, the rows that it counted and that are still there give {}:\n\
                     -- {} {} from {}.",
                    compared.counted,
                    compared.there,
                    difference.abs(),
                    if difference < 0.0 { "more," } else { "of it is" },
                    compared.cause()
                )),
                None => say("The state file has the same number: no row that was counted is gone."),
            },
            Ok(None) => {}
            // The statement is worth printing all the same.
            Err(failure) => say(&format!("How many counted rows are gone is not known: {failure}")),
        },
    }
    let open = reconcile::never_counted(question, ledger);
    say("The exporter reads with search_path = public, pg_temp.");
    let _ = writeln!(text, "{};", sql::series::number(question, &columns, reconcile::sets(ledger), open.as_deref()));
    Ok(text)
}
