//! The commands that ask the database about the numbers: `sql`, `rows`, `buckets`, `backfill`.

use std::io::{self, IsTerminal, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::cli::Task;
use crate::commands::backfill::{self, BackfillError};
use crate::commands::reconcile::Ledgers;
use crate::commands::rows::Rejected;
use crate::commands::text_table as table;
use crate::commands::text_table::visible_lines;
use crate::commands::{buckets, rows, sql as explain};
use crate::config::Settings;
use crate::postgres::Failure;
use crate::query::resolved::{InvalidSelector, ResolvedSelector};
use crate::query::selector::Matcher;
use crate::source::Source;
use crate::sql;

/// How a failure tells of PostgreSQL's `invalid_regular_expression`.
const INVALID: &str = "(SQLSTATE 2201B)";

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// What was asked for does not exist, or makes no sense.
    #[error("{0}")]
    Misused(String),
    /// The database did not answer.
    #[error(transparent)]
    Database(#[from] Failure),
    /// The answer could not be written.
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
    /// There is nothing to answer with.
    #[error("{0}")]
    Nothing(String),
}

impl From<InvalidSelector> for AskError {
    fn from(error: InvalidSelector) -> Self {
        Self::Misused(error.to_string())
    }
}

impl From<BackfillError> for AskError {
    fn from(error: BackfillError) -> Self {
        match error {
            BackfillError::Database(failure) => Self::Database(failure),
            BackfillError::Write(error) => Self::Write(error),
            BackfillError::Other(_) => Self::Misused(error.to_string()),
            BackfillError::File(..) => Self::Nothing(error.to_string()),
        }
    }
}

/// Answers on `out`; what else there is to say goes to standard error. Other tasks are not asked here.
pub async fn run(task: &Task, settings: &Settings, sources: &[Source], out: &mut impl Write) -> Result<(), AskError> {
    let question = |text: &str| ResolvedSelector::parse(text, sources);
    match task {
        Task::Sql(selector) => {
            let question = selector.as_deref().map(question).transpose()?;
            if let Some(question) = &question {
                compile(settings, question.regular()).await?;
            }
            let ledgers = Ledgers::load(settings, sources);
            let text = explain::run(settings, sources, question.as_ref(), &ledgers).await?;
            out.write_all(text.as_bytes())?;
        }
        Task::Rows(options) => {
            let selector = options.selector.as_deref().unwrap_or_default();
            let listing = if let (None, Some(id)) = (&options.selector, &options.id) {
                let ledgers = Ledgers::load(settings, sources);
                rows::find_everywhere(settings, sources, id, options, &ledgers).await?
            } else if let Some(rejected) = Rejected::parse(selector, sources)? {
                compile(settings, rejected.regular()).await?;
                rejected.find(settings, options).await?
            } else {
                let question = question(selector)?;
                compile(settings, question.regular()).await?;
                let ledgers = Ledgers::load(settings, sources);
                rows::find(settings, &question, options, &ledgers).await?
            };
            let text = listing.render(options.format, table::width());
            // A file gets what is in the rows; a terminal would obey it.
            let text = if io::stdout().is_terminal() { visible_lines(&text) } else { text };
            out.write_all(text.as_bytes())?;
            out.flush()?;
            listing.notes.iter().for_each(|note| eprintln!("{note}"));
        }
        Task::Buckets(options) => {
            let question = question(&options.selector)?;
            if !question.is_histogram() {
                let problem = format!("{} is no histogram by its own name, without le", options.selector);
                return Err(AskError::Misused(problem));
            }
            compile(settings, question.regular()).await?;
            let found = buckets::suggest(settings, &question, options.since).await?;
            if found.bounds.is_empty() {
                return Err(AskError::Nothing(found.to_string().trim_end().to_owned()));
            }
            out.write_all(found.to_string().as_bytes())?;
        }
        Task::Backfill(options) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
            let now = i64::try_from(now).unwrap_or(i64::MAX);
            let timeline = backfill::check(options, sources, now).map_err(AskError::Misused)?;
            let ledgers = Ledgers::load(settings, sources);
            backfill::run(settings, sources, &timeline, options, &ledgers, out).await?;
        }
        _ => {}
    }
    Ok(out.flush()?)
}

/// Has PostgreSQL compile the regular expressions of a selector, before it searches any rows with them.
async fn compile(settings: &Settings, expressions: impl Iterator<Item = &Matcher>) -> Result<(), AskError> {
    let mut expressions = expressions.peekable();
    if expressions.peek().is_none() {
        return Ok(());
    }
    let session = settings.target.connect().await?;
    session.begin().await?;
    for matcher in expressions {
        // Also as it was given: the anchors must not complete what is none by itself, such as `a)|(b`.
        let alone = sql::literal(&matcher.value);
        match session.one(&format!("SELECT '' ~ {alone}, {}", sql::series::condition("''", matcher))).await {
            Err(failure) if failure.message.contains(INVALID) => {
                // The server speaks of nothing but the expression that was given here.
                let why = failure.detail.unwrap_or(failure.message);
                return Err(AskError::Misused(format!(
                    "{matcher}: this is no regular expression to PostgreSQL: {why}"
                )));
            }
            answer => _ = answer?,
        }
    }
    Ok(session.end().await?)
}
