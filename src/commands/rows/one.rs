//! One row by its id, in every source that has it: what it is to the exporter, and why.

use super::{Format, Head, Listing, Options};
use crate::commands::backward_scan::time;
use crate::commands::reconcile::{self, Ledgers};
use crate::config::Settings;
use crate::ledger::Ledger;
use crate::postgres::{Failure, Lossy, Row, Session, in_file};
use crate::source::{REQUIRED, Source};
use crate::sql::view::{View, has_id, only, raw, reason, shown_id, value, view};
use crate::sql::{ColumnType, Columns, ident, literal};

/// The column that says which source has the row; a table for people has it above the row.
const SOURCE: &str = "source";
/// The column after them.
const REJECTED: &str = "rejected";

/// A row of one source: columns with their cells.
type Record = Vec<(Head, Option<String>)>;

/// Finds the row with this id in every source.
///
/// # Errors
/// Fails if the database does not answer.
pub async fn find_everywhere(
    settings: &Settings,
    sources: &[Source],
    id: &str,
    options: &Options,
    ledgers: &Ledgers,
) -> Result<Listing, Failure> {
    let session = settings.target.connect().await?;
    session.begin().await?;
    let mut records = Vec::new();
    for source in sources {
        let columns = session.describe(source).await?;
        let ledger = ledgers.of(&session, source).await?;
        let Some(which) = has_id(source, &columns, id) else { continue };
        session.batch("SAVEPOINT source").await?;
        match read(&session, source, &columns, which, ledger).await {
            Ok(rows) => records.extend(rows),
            // The text is none of the key's type.
            Err(failure) if failure.code().is_some_and(|code| code.starts_with("22")) && source.key.is_some() => {
                session.batch("ROLLBACK TO SAVEPOINT source").await?;
            }
            Err(failure) => return Err(failure),
        }
    }
    session.end().await?;
    let mut listing = if options.format == Format::Table { across(&records) } else { along(&records) };
    if records.is_empty() {
        let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
        listing.notes.push(format!("no row has id {id} in {}", names.join(", ")));
    }
    Ok(listing)
}

/// The row of a source, or those with the same id, which no source should have.
async fn read(
    session: &Session,
    source: &Source,
    columns: &Columns,
    which: String,
    ledger: Option<&Ledger>,
) -> Result<Vec<Record>, Failure> {
    let labels: Vec<&str> = source.all_labels().map(String::as_str).collect();
    let conditions: Vec<&str> = source.only().into_iter().filter(|column| !labels.contains(column)).collect();
    let is_value = |column: &str| source.values.iter().any(|value| value.column == column);
    let rest: Vec<&str> = columns.keys().map(String::as_str).collect();
    let is_rest = |c: &&str| !REQUIRED.contains(c) && !labels.contains(c) && !is_value(c) && !conditions.contains(c);
    let rest: Vec<&str> = rest.into_iter().filter(is_rest).collect();
    let values: Vec<&str> = source.values.iter().map(|value| value.column.as_str()).collect();
    let shown = View {
        labels: labels.clone(),
        values: source.values.iter().collect(),
        only: source.only().into_iter().collect(),
        raw: rest.iter().chain(&values).copied().collect(),
        reasons: true,
        sets: reconcile::sets(ledger),
        which: format!("WHERE {which}"),
        ..View::default()
    };
    let counted = ledger.map_or("NULL".to_owned(), reconcile::counted);
    let state = format!(
        "CASE WHEN done IS NULL THEN 'left out by count_if' \
         WHEN done THEN CASE ({counted})::boolean WHEN true THEN 'finished, counted' WHEN false THEN 'finished, not counted yet' \
         ELSE 'finished' END \
         WHEN ({counted})::boolean THEN 'open again, counted before' ELSE 'open' END"
    );
    let kind = |column: &str| columns.get(column).map_or(ColumnType::Text, |column| column.kind);
    let text = |name: &str| Head::new(name, ColumnType::Text);
    let number = |name: &str| Head::new(name, ColumnType::Number);
    let mut all: Vec<(Head, String)> = vec![
        (text(SOURCE), literal(&source.name)),
        (Head::id(source), shown_id(source)),
        (text("at"), time("at")),
        (text("seen as"), state),
    ];
    all.extend(labels.iter().map(|label| (text(label), ident(label))));
    all.extend(
        source.values.iter().filter(|v| !labels.contains(&v.column.as_str())).map(|v| (number(&v.column), value(v))),
    );
    all.extend(conditions.iter().filter(|c| !is_value(c)).map(|c| (Head::new(*c, ColumnType::Boolean), only(c))));
    all.extend(rest.iter().map(|c| (Head::new(*c, kind(c)), raw(c))));
    let why = |v: &crate::source::Value| {
        format!("{} || ' ' || {} || ': ' || {}", literal(&v.column), reason(v), raw(&v.column))
    };
    let why: Vec<String> = source.values.iter().map(why).collect();
    let why =
        if why.is_empty() { "NULL".to_owned() } else { format!("nullif(concat_ws('; ', {}), '')", why.join(", ")) };
    all.push((text(REJECTED), why));
    let list: Vec<String> = all.iter().map(|(_, sql)| format!("({sql})::text")).collect();
    let statement = format!("WITH {}\nSELECT\n  {}\nFROM seen", view(source, columns, &shown), list.join(",\n  "));
    let rows = session.rows(&statement, &[]).await.map_err(|failure| in_file(source, None, failure))?;
    let record = |row: &Row| -> Result<Record, Failure> {
        let cell = |(i, (head, _)): (usize, &(Head, String))| {
            let text: Option<Lossy> = row.get(i)?;
            Ok((head.clone(), text.map(|text| head.cell(source, text.0))))
        };
        all.iter().enumerate().map(cell).collect()
    };
    rows.iter().map(record).collect()
}

/// A line for each row, with the columns of all.
fn along(records: &[Record]) -> Listing {
    let columns = heads(records);
    let row = |record: &Record| columns.iter().map(|head| cell(record, head)).collect();
    Listing { rows: records.iter().map(row).collect(), columns, ..Listing::default() }
}

/// A line for each column, for people: a row has more columns than a terminal is wide.
fn across(records: &[Record]) -> Listing {
    let heads = heads(records);
    let source = Head::new(SOURCE, ColumnType::Text);
    let mut columns = vec![Head::new("column", ColumnType::Text)];
    columns.extend(records.iter().map(|record| Head::new(cell(record, &source).unwrap_or_default(), ColumnType::Text)));
    let row = |head: &Head| {
        let name = std::iter::once(Some(head.name.clone()));
        name.chain(records.iter().map(|record| cell(record, head))).collect()
    };
    let rows = heads.iter().filter(|head| head.name != SOURCE).map(row).collect();
    Listing { columns, rows, ..Listing::default() }
}

/// The columns of all rows, each once, with why values were rejected at the end.
fn heads(records: &[Record]) -> Vec<Head> {
    let mut heads: Vec<Head> = Vec::new();
    for (head, _) in records.iter().flatten() {
        if !heads.iter().any(|other| other.name == head.name) {
            heads.push(head.clone());
        }
    }
    heads.sort_by_key(|head| head.name == REJECTED);
    heads
}

fn cell(record: &Record, head: &Head) -> Option<String> {
    record.iter().find(|(other, _)| other.name == head.name).and_then(|(_, cell)| cell.clone())
}
