//! The command `check`: settings, definitions and privileges against the real database, and what it finds there.

mod keyed;
mod plan;
mod privileges;
mod references;
mod report;
mod sample;
mod state;

use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Arg, Command};

use report::{Clock, Line, Report};

use super::{CommandError, FAILED, Invocation, Subcommand, block_on, invocation, output};
use crate::config::Settings;
use crate::ledger::frontier::ReadPlan;
use crate::poll::failing;
use crate::postgres::remedy::remedy;
use crate::postgres::{Failure, Opening, Reason, Session, definition};
use crate::source::Source;
use crate::sql;
use crate::web::AccessControl;

/// So many of the newest rows are read to see that the statement of a poll works, and what they hold.
const SAMPLE: i64 = 10_000;
/// A larger difference of clocks is worth a warning, in seconds.
const CLOCKS: f64 = 5.0;

/// The command.
pub const COMMAND: Subcommand = Subcommand {
    name: "check",
    settings: &["database.", "state.", "queries.", "series.limit", "web.config_file", "log."],
    define,
    run,
};

fn define(command: Command) -> Command {
    command
        .about("Check settings, queries and privileges against the real database")
        .arg(
            Arg::new("format")
                .long("format")
                .value_name("FORMAT")
                .default_value("table")
                .value_parser(PossibleValuesParser::new(["table", "json"]))
                .help("For people, or for programs"),
        )
        .after_long_help(
            "\
It runs the statement of a poll on the newest 10000 rows, and shows how PostgreSQL
runs it, what is in the rows, and which values are rejected and why. Missing
privileges come with the GRANT that gives them. Exit status 1 says that numbers
would be wrong or absent.

Examples:
  rsolv-exporter check
  rsolv-exporter check --format json | jq .problems",
        )
}

fn run(invocation: &Invocation) -> Result<ExitCode, CommandError> {
    let (settings, sources) = (invocation.settings()?, invocation.sources()?);
    AccessControl::open(settings.web.config_file.clone()).map_err(CommandError::invalid_web_config)?;
    invocation::start_log(&settings);
    block_on(async {
        let report = check(&settings, &sources).await;
        output::print(&if invocation.text("format") == Some("json") { report.to_json() } else { report.to_string() });
        Ok(if report.good { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
    })
}

/// Checks everything that can be checked without changing anything.
async fn check(settings: &Settings, sources: &[Source]) -> Report {
    let mut report = Report { database: settings.target.to_string(), ..Report::default() };
    state::check(&mut report, settings, sources);
    match settings.target.connect().await {
        Err(failure) => report.problems.push(explain(settings, &failure)),
        Ok(session) => {
            if let Err(failure) = server(&mut report, &session).await {
                report.problems.push(explain(settings, &failure));
            }
            for source in sources.iter().filter(|_| !session.is_over()) {
                report.warnings.extend(source.warnings());
                let line = check_source(&mut report, settings, &session, source).await;
                report.sources.push(line);
            }
        }
    }
    report.good = report.problems.is_empty();
    report
}

async fn server(report: &mut Report, session: &Session) -> Result<(), Failure> {
    let clock = crate::clock::Clock::default();
    let before = clock.seconds();
    let Opening { position, clock: server_clock, .. } = session.begin().await?;
    let after = clock.seconds();
    let difference =
        Clock { ahead_seconds: server_clock - (before + after) / 2.0, uncertainty_seconds: (after - before) / 2.0 };
    report.clock = Some(difference);
    report.standby = position.standby;
    if difference.ahead_seconds.abs() > CLOCKS + difference.uncertainty_seconds {
        report.warnings.push(format!(
            "the database's clock is {:+.1} s from this machine's: times in metrics are the \
             database's, and Prometheus compares them with its own. Synchronise the clocks (NTP).",
            difference.ahead_seconds
        ));
    }
    let row =
        session.query_one("SELECT current_setting('server_version'), current_setting('is_superuser') = 'on'").await?;
    report.server = row.get(0).unwrap_or_default();
    if row.get(1).unwrap_or(false) {
        report.warnings.push("the role is a superuser: make one that can only read, see deploy/postgres/".to_owned());
    }
    session.end().await
}

async fn check_source(report: &mut Report, settings: &Settings, session: &Session, source: &Source) -> Line {
    let mut line = Line { name: source.name.clone(), metrics: source.metrics.len(), ..Line::default() };
    match try_source(report, settings, session, source, &mut line).await {
        Ok(problems) if problems.is_empty() => line.good = true,
        Ok(problems) => report.problems.extend(problems),
        Err(failure) => report.problems.push(explain(settings, &failure)),
    }
    // Whatever failed, the next source begins anew.
    let _ = session.end().await;
    line
}

async fn try_source(
    report: &mut Report,
    settings: &Settings,
    session: &Session,
    source: &Source,
    line: &mut Line,
) -> Result<Vec<String>, Failure> {
    session.begin().await?;
    let role = session.query_one("SELECT quote_ident(current_user), current_setting('is_superuser') = 'on'").await?;
    let user: String = role.get(0)?;
    let found = privileges::privileges(session, source, &user).await?;
    session.batch("SAVEPOINT described").await?;
    let columns = match session.describe(source).await {
        // What is in a schema without USAGE does not exist for the role.
        Err(failure)
            if matches!(failure.reason, Reason::Privilege | Reason::Missing)
                && failure.code().is_some_and(|code| ["42501", "42P01", "42883"].contains(&code))
                && !found.grants.is_empty() =>
        {
            session.batch("ROLLBACK TO SAVEPOINT described").await?;
            sequence(report, session, source, &mut definition::Findings::default(), &user).await?;
            let grants = found.grants.join("\n");
            return Ok(vec![format!("{}.sql: the role may not read all that it must\n-> {grants}", source.name)]);
        }
        columns => columns?,
    };
    line.columns = columns.len();
    if !found.writable.is_empty() && !role.get(1).unwrap_or(false) {
        let tables = found.writable.join(", ");
        report.warnings.push(format!(
            "the role can change {tables}, and only needs to read\n\
             -> REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON {tables} FROM {user};\n\
             or a role of its own, see deploy/postgres/"
        ));
    }
    let mut findings = definition::examine(session, source, &columns).await?;
    sequence(report, session, source, &mut findings, &user).await?;
    report.warnings.append(&mut findings.warnings);
    if !findings.problems.is_empty() {
        return Ok(findings.problems);
    }
    let rows = session.extent(source).await?;
    line.rows_estimated = Some(rows);
    if let Some(key) = &source.key {
        return keyed::check(report, settings, session, (source, key, &columns), line).await;
    }
    // The smallest of the newest ids, however many ids were skipped between them.
    let newest = format!(
        "SELECT min(id)::int8 FROM (SELECT id FROM (\n{}\n) AS execution ORDER BY execution.id DESC LIMIT {SAMPLE}) AS newest",
        source.sql
    );
    let lowest: Option<i64> = session.query_one(&newest).await?.get(0)?;
    let above = match lowest {
        Some(lowest) => lowest.checked_sub(1),
        None => {
            // What the planner takes an empty table for is some pages of rows.
            line.rows_estimated = Some(0);
            report.warnings.push(format!("{}.sql: there are no rows yet", source.name));
            None
        }
    };
    let read = ReadPlan::above(above, SAMPLE as usize);
    session.batch("SAVEPOINT source").await?;
    let (known, limit) = (&columns, read.limit);
    let some =
        |ranges| async move { session.answer(source, known, &ReadPlan { ranges, limit, ..ReadPlan::default() }).await };
    let part = failing::read(session, source, &read.ranges, read.limit, some).await?;
    if let Some(failure) = part.failure {
        let ids: Vec<String> = part.failing.iter().map(i64::to_string).collect();
        let (ids, more) = (ids.join(", "), if part.is_partial { " and others" } else { "" });
        let what =
            format!("{failure}: rows on which the SELECT raises are left out, of the newest those with id {ids}{more}");
        return Ok(vec![format!("{what}\n-> correct the SELECT, so that it gives NULL for them, or correct the rows")]);
    }
    let mut sample = sample::of_groups(source, &read, part.rows, settings.series.limit)?;
    let Some(lowest) = lowest else { return Ok(Vec::new()) };
    sample.rejected = sample::rejected(session, source, &columns, format!("WHERE execution.id >= {lowest}")).await?;
    let plan = plan::plan(session, &sql::poll_filled_in(source, &columns, &read)).await?;
    warn(report, source, &plan, &sample);
    line.plan = Some(plan);
    line.sample = Some(sample);
    Ok(Vec::new())
}

/// Checks whether ids that start again would be noticed.
async fn sequence(
    report: &mut Report,
    session: &Session,
    source: &Source,
    findings: &mut definition::Findings,
    user: &str,
) -> Result<(), Failure> {
    let toml = format!("{}.toml", source.name);
    let Some(sequence) = &source.sequence else {
        report.warnings.extend(findings.sequence.as_ref().map(|sequence| {
            format!(
                "{toml}: sequence is not set: ids that start again, as after TRUNCATE … RESTART IDENTITY, can go unnoticed\n\
                 -> sequence = \"{sequence}\""
            )
        }));
        return Ok(());
    };
    let own = findings.sequence.as_deref().map_or_else(|| "NULL".to_owned(), sql::literal);
    // Looked up in the catalog, which needs no rights on the schema.
    let statement = format!(
        "SELECT c.relkind = 'S', c.oid::regclass::text = {own}, \
         CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(c.oid, 'SELECT') END \
         FROM (SELECT parse_ident({}) AS parts) AS named LEFT JOIN (pg_catalog.pg_class AS c \
         JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace) ON c.relname = parts[cardinality(parts)] \
         AND n.nspname = coalesce(parts[cardinality(parts) - 1], 'public')",
        sql::literal(sequence)
    );
    let row = session.query_one(&statement).await?;
    let (is_sequence, is_own, may_read): (Option<bool>, Option<bool>, Option<bool>) =
        (row.get(0)?, row.get(1)?, row.get(2)?);
    let from = findings.sequence.as_ref().map(|own| format!("; the ids come from {own}")).unwrap_or_default();
    if is_sequence != Some(true) {
        let problem = if is_sequence.is_none() { "there is no" } else { "is a table or a view, and no" };
        findings.problems.push(format!("{toml}: sequence: {problem} sequence {sequence}{from}"));
    } else if is_own == Some(false) {
        findings.problems.push(format!("{toml}: sequence: {sequence} is not the one of the table{from}"));
    } else if may_read != Some(true) {
        report.warnings.push(format!(
            "the role may not read the sequence {sequence}: ids that start again, as after \
             TRUNCATE … RESTART IDENTITY, go unnoticed\n-> GRANT SELECT ON SEQUENCE {sequence} TO {user};"
        ));
    }
    Ok(())
}

/// What makes polls dear or leaves values out.
fn warn(report: &mut Report, source: &Source, plan: &plan::Plan, sample: &sample::Sample) {
    for scan in plan.scans.iter().filter(|scan| scan.is_whole() && scan.rows > 10 * SAMPLE.unsigned_abs()) {
        report.warnings.push(format!(
            "{}.sql: every poll reads the whole of {} ({} rows): is {} its primary key, unchanged?",
            source.name,
            scan.table,
            scan.rows,
            if source.key.is_some() { "key" } else { "the column \"id\"" },
        ));
    }
    let rejected: i64 = sample.rejected.iter().map(|rejected| rejected.rows).sum();
    if rejected > 0 {
        report.warnings.push(format!(
            "{}: {rejected} values of the newest {} rows are rejected, as shown above: \
             left out of sums and histograms, and counted in rsolv_exporter_rejected_values_total",
            source.name, sample.rows
        ));
    }
}

/// A failure with what to do about it.
fn explain(settings: &Settings, failure: &Failure) -> String {
    if let Some(detail) = &failure.detail {
        tracing::debug!(detail, "the server's words");
    }
    let hint = failure.hint.as_ref().map(|hint| format!("\nHINT: {hint}")).unwrap_or_default();
    match remedy(settings.target.user(), failure) {
        Some(remedy) => format!("{failure}{hint}\n-> {remedy}"),
        None => format!("{failure}{hint}"),
    }
}
