//! The command `check`: settings, definitions and privileges against the real database, as a table for people.

use std::fmt;

use crate::config::Settings;
use crate::db::{Failure, Reason, Session, lacking};
use crate::ledger::Probe;
use crate::source::Source;
use crate::sql;

/// So many of the newest rows are read to see that the statement of a poll works.
const SAMPLE: i64 = 1000;

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    database: String,
    server: String,
    sources: Vec<Line>,
    /// Things that make numbers wrong or absent, with what to do.
    problems: Vec<String>,
    /// Things worth knowing.
    warnings: Vec<String>,
}

#[derive(Debug)]
struct Line {
    name: String,
    rows: Option<i64>,
    columns: usize,
    metrics: usize,
    good: bool,
}

impl Report {
    /// Whether the exporter would work.
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "database  {}", self.database)?;
        if !self.server.is_empty() {
            writeln!(f, "server    PostgreSQL {}", self.server)?;
        }
        if !self.sources.is_empty() {
            let width = self.sources.iter().map(|line| line.name.len()).max().unwrap_or_default().max(6);
            writeln!(f, "\n{:width$}  {:>14}  {:>7}  {:>7}", "source", "rows (about)", "columns", "metrics")?;
            for line in &self.sources {
                let rows = line.rows.map_or("-".to_owned(), |rows| rows.to_string());
                let state = if line.good { "ok" } else { "FAILS" };
                writeln!(f, "{:width$}  {rows:>14}  {:>7}  {:>7}  {state}", line.name, line.columns, line.metrics)?;
            }
        }
        for (title, list) in [("problems", &self.problems), ("warnings", &self.warnings)] {
            if !list.is_empty() {
                writeln!(f, "\n{title}")?;
                list.iter().try_for_each(|item| writeln!(f, "  - {}", item.replace('\n', "\n    ")))?;
            }
        }
        writeln!(f, "\n{}", if self.is_good() { "All good." } else { "Not good: see the problems." })
    }
}

/// Checks everything that can be checked without changing anything.
pub async fn run(settings: &Settings, sources: &[Source]) -> Report {
    let mut report = Report { database: settings.target.to_string(), ..Report::default() };
    if settings.state_file.is_none() {
        report.warnings.push(
            "state.file is not set: after rows are deleted, a restart is a counter reset, which\n\
             Prometheus reads as new events. Set state.file to a path on a disk that survives."
                .to_owned(),
        );
    }
    match settings.target.connect().await {
        Err(failure) => report.problems.push(explain(settings, &failure)),
        Ok(session) => {
            if let Err(failure) = server(&mut report, &session).await {
                report.problems.push(explain(settings, &failure));
            }
            for source in sources {
                let line = check_source(&mut report, settings, &session, source).await;
                report.sources.push(line);
            }
        }
    }
    report
}

async fn server(report: &mut Report, session: &Session) -> Result<(), Failure> {
    session.begin().await?;
    let row = session.one("SELECT current_setting('server_version'), current_setting('is_superuser') = 'on'").await?;
    report.server = row.try_get(0).unwrap_or_default();
    if row.try_get(1).unwrap_or(false) {
        report.warnings.push("the role is a superuser: make one that can only read, see deploy/postgres/".to_owned());
    }
    session.end().await
}

async fn check_source(report: &mut Report, settings: &Settings, session: &Session, source: &Source) -> Line {
    let mut line =
        Line { name: source.name.clone(), rows: None, columns: 0, metrics: source.metrics.len(), good: false };
    match try_source(session, source, &mut line).await {
        Ok(lacking) if lacking.is_empty() => line.good = true,
        Ok(lacking) => report.problems.extend(lacking),
        Err(failure) => report.problems.push(explain(settings, &failure)),
    }
    // Whatever failed, the next source begins anew.
    let _ = session.end().await;
    line
}

async fn try_source(session: &Session, source: &Source, line: &mut Line) -> Result<Vec<String>, Failure> {
    session.begin().await?;
    let columns = session.describe(source).await?;
    line.columns = columns.len();
    let lacking = lacking(source, &columns);
    if !lacking.is_empty() {
        return Ok(lacking);
    }
    let (rows, newest) = session.extent(source).await?;
    line.rows = Some(rows);
    let above = newest.map(|id| id.saturating_sub(SAMPLE));
    let probe = Probe { above, limit: SAMPLE as usize, ..Probe::default() };
    session.answer(source, &columns, &probe).await?;
    Ok(Vec::new())
}

/// A failure with what to do about it.
fn explain(settings: &Settings, failure: &Failure) -> String {
    if let Some(detail) = &failure.detail {
        tracing::debug!(detail, "the server's words");
    }
    let remedy = match failure.reason {
        Reason::Connect | Reason::Timeout => {
            "is the server running, and is the address in database.url right?".to_owned()
        }
        Reason::Auth => "check the user and the password in database.url or database.password_file".to_owned(),
        Reason::Tls => "check sslmode and the certificates named in database.url".to_owned(),
        Reason::Privilege => {
            let user = sql::ident(settings.target.user());
            match failure.denied() {
                Some((kind, name)) => {
                    let right = if kind == "schema" { "USAGE" } else { "SELECT" };
                    let kind = if kind == "table" { String::new() } else { format!("{} ", kind.to_uppercase()) };
                    format!(
                        "GRANT {right} ON {kind}{} TO {user}; or the narrower grants in deploy/postgres/",
                        sql::ident(name)
                    )
                }
                None => format!("give {user} the grants in deploy/postgres/"),
            }
        }
        Reason::Missing => {
            "is it the right database? Else change the SELECT, in a directory named by queries.dir".to_owned()
        }
        Reason::Lock => "another session holds a lock on the table, such as a migration's: try again".to_owned(),
        _ => "run again with --log.level debug to see the server's own words".to_owned(),
    };
    format!("{failure}\n-> {remedy}")
}
