//! The command `rows`: the executions behind a series.

mod format;

use std::time::Duration;

pub use format::Format;

use crate::config::Settings;
use crate::db::{Failure, Lossy, Session};
use crate::gone::{self, Ledgers};
use crate::ledger::{Ledger, OVERFLOW};
use crate::question::Question;
use crate::source::{Kind, Source};
use crate::sql::series::{behind, row_value, view_of};
use crate::sql::{ColumnType, Columns, view};
use crate::walk::{OLDER, State, Walk, time};

/// What to list.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Which series.
    pub selector: String,
    /// Not older than this.
    pub since: Option<Duration>,
    /// At most so many.
    pub limit: usize,
    /// How to write them.
    pub format: Format,
}

/// Rows that were found.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Names and types of the columns.
    pub columns: Vec<(String, ColumnType)>,
    /// The cells; `None` is NULL.
    pub rows: Vec<Vec<Option<String>>>,
    /// What else the reader should know.
    pub notes: Vec<String>,
}

/// Finds the rows, newest first.
pub async fn find(
    settings: &Settings,
    question: &Question<'_>,
    options: &Options,
    ledgers: &Ledgers,
) -> Result<Listing, Failure> {
    let session = settings.target.connect().await?;
    let clock = session.begin().await?.clock;
    let columns = session.describe(question.source).await?;
    let ledger = ledgers.of(&session, question.source).await?;
    let others = others(question, &columns);
    let mut listing = Listing { columns: head(&others, &columns), ..Listing::default() };
    let mut view = view_of(question, gone::sets(ledger));
    view.raw.clone_from(&others);
    let since = options.since.map(|since| clock - since.as_secs_f64());
    let mut walk = Walk::new(&session, question.source, &columns, view, since, settings.target.timeouts().statement);
    // The newest execution can have any id.
    let by_time = question.metric.kind == Kind::Newest;
    let mut conditions = behind(question);
    conditions.extend(walk.recent());
    let list: Vec<String> = others.iter().map(|c| format!(", {}", view::raw(c))).collect();
    while walk.state == State::Going && (by_time || listing.rows.len() < options.limit) {
        let limit = if by_time { options.limit } else { options.limit - listing.rows.len() };
        let found = format!(
            "  SELECT id, {} AS at, ({})::text AS value{}\n  FROM seen\n  WHERE {}\n  ORDER BY {} DESC\n  LIMIT {limit}",
            time("at"),
            row_value(question),
            list.concat(),
            conditions.join("\n    AND "),
            if by_time { "seen.at" } else { "id" },
        );
        let order = if by_time { "found.at DESC, found.id DESC" } else { "found.id DESC" };
        let (rows, first) = walk.next(&found, order).await?;
        for row in &rows {
            let failure = |e: tokio_postgres::Error| Failure::of_query(&e);
            let Some(id) = row.try_get::<_, Option<i64>>(first).map_err(failure)? else { continue };
            let mut cells = vec![Some(id.to_string())];
            for i in 1..listing.columns.len() {
                cells.push(row.try_get::<_, Option<Lossy>>(first + i).map_err(failure)?.map(|text| text.0));
            }
            listing.rows.push(cells);
        }
        if by_time {
            listing.rows.sort_by(|a, b| b[1].cmp(&a[1]));
            listing.rows.truncate(options.limit);
        }
    }
    if listing.rows.len() >= options.limit {
        listing.notes.push(format!("the newest {}; --limit shows more", listing.rows.len()));
    } else {
        listing.notes.extend(walk.gave_up());
        if walk.state == State::Older {
            listing.notes.push(format!(
                "read back to id {}: {OLDER} rows in a row are older than --since",
                walk.lowest().unwrap_or_default()
            ));
        }
    }
    note(&session, question, &columns, ledger, &mut listing.notes).await;
    Ok(listing)
}

async fn note(
    session: &Session,
    question: &Question<'_>,
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
    match gone::compare(session, question, columns, ledger).await {
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

/// The columns of the SELECT that are shown as they stand: labels, then values, then the rest.
fn others<'a>(question: &Question<'a>, columns: &'a Columns) -> Vec<&'a str> {
    let source: &Source = question.source;
    let measured = question.value().map(|value| value.column.as_str());
    let mut others: Vec<&str> = Vec::new();
    let labels = source.labels.iter().chain(&source.by).map(String::as_str);
    let values = source.values.iter().map(|value| value.column.as_str());
    for column in labels.chain(values).chain(source.only()).chain(columns.keys().map(String::as_str)) {
        let shown = ["id", "at", "done"].contains(&column) || Some(column) == measured || others.contains(&column);
        // The key of the map lives as long as the columns.
        others.extend(columns.get_key_value(column).filter(|_| !shown).map(|(name, _)| name.as_str()));
    }
    others
}

fn head(others: &[&str], columns: &Columns) -> Vec<(String, ColumnType)> {
    let fixed = [("id", ColumnType::Number), ("at", ColumnType::Text), ("value", ColumnType::Number)];
    let fixed = fixed.map(|(name, kind)| (name.to_owned(), kind));
    let kind = |name: &str| columns.get(name).map_or(ColumnType::Text, |column| column.kind);
    fixed.into_iter().chain(others.iter().map(|name| ((*name).to_owned(), kind(name)))).collect()
}
