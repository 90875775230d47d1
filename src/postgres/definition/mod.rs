//! Whether a definition can be counted exactly, as far as only the database can tell: the columns and their types, and
//! that the key is one of a table, unique, never NULL, and not hidden behind LIMIT, GROUP BY or WHERE.
//!
//! PostgreSQL's own plan is asked, and not the text of the SELECT: it sees through views, subqueries and partitions.

mod keyed;
mod plan;

use serde_json::Value;
use tokio_postgres::types::Type;

use plan::{Key, Shape};

use super::columns::missing_columns;
use super::{Failure, Parameter, Reason, Row, Session};
use crate::source::Source;
use crate::sql::{Columns, key};

/// What was found out about a definition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// What would make numbers wrong or absent, each with file and remedy.
    pub problems: Vec<String>,
    /// What is worth knowing.
    pub warnings: Vec<String>,
    /// The sequence that hands out the ids, if the catalog knows it.
    pub sequence: Option<String>,
}

impl Findings {
    /// Nothing, or the failure of a source that must not be counted.
    ///
    /// # Errors
    /// Fails if there are problems.
    pub fn refusal(&self) -> Result<(), Failure> {
        match self.problems.as_slice() {
            [] => Ok(()),
            problems => Err(Failure::new(Reason::Missing, problems.join("; "))),
        }
    }
}

/// Makes sure, once for a connection, that a source can be counted exactly; inside [`Session::with_savepoint`].
///
/// # Errors
/// Fails if it cannot, or if the server refuses to tell.
pub async fn prepare(session: &mut Session, source: &Source) -> Result<(), Failure> {
    if session.is_prepared(source) {
        return Ok(());
    }
    let columns = session.describe(source).await?;
    examine(session, source, &columns).await?.refusal()?;
    session.prepare(source, columns).await
}

/// Compares a definition with the database; inside a transaction.
///
/// # Errors
/// Fails if the server refuses to tell.
pub async fn examine(session: &Session, source: &Source, columns: &Columns) -> Result<Findings, Failure> {
    let problems = missing_columns(source, columns);
    if !problems.is_empty() {
        return Ok(Findings { problems, ..Findings::default() });
    }
    if let Some(key) = &source.key {
        return keyed::examine(session, source, key, columns).await;
    }
    let shape = Shape::of(&explain(session, &key::plan(source)).await?);
    let volatile = volatile(session, &shape).await?;
    let mut findings = shape.findings(source, &volatile);
    if findings.problems.is_empty() {
        let everything = explain(session, &key::plan_of_all(source)).await?;
        examine_key(session, source, &shape, &everything, &mut findings).await?;
    }
    Ok(findings)
}

/// How PostgreSQL would run a statement if it used an index wherever it can.
async fn explain(session: &Session, statement: &str) -> Result<Value, Failure> {
    let explain = format!(
        "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; EXPLAIN (VERBOSE, FORMAT JSON) {statement}; \
         SET LOCAL enable_seqscan TO DEFAULT; SET LOCAL enable_bitmapscan TO DEFAULT"
    );
    let rows = session.text(&explain).await?;
    let text = rows.first().and_then(|row| row.get(0)).unwrap_or_default();
    let explained: Value =
        serde_json::from_str(text).map_err(|_| Failure::new(Reason::Decode, "EXPLAIN does not answer in JSON"))?;
    Ok(explained[0]["Plan"].clone())
}

/// Those of the functions in conditions that are VOLATILE.
async fn volatile(session: &Session, shape: &Shape) -> Result<Vec<String>, Failure> {
    let names: Vec<&str> = shape.functions.iter().map(String::as_str).collect();
    let statement = "SELECT DISTINCT p.proname::text FROM pg_catalog.pg_proc AS p \
         JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace WHERE p.provolatile = 'v' AND p.prokind = 'f' \
         AND (p.proname = ANY ($1) AND n.nspname IN ('pg_catalog', 'public') OR n.nspname || '.' || p.proname = ANY ($1))";
    let rows = session.rows(statement, &[(&names, Type::TEXT_ARRAY)]).await?;
    rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(|e| Failure::of_query(&e))
}

/// What is wrong with the key, by the catalog.
async fn examine_key(
    session: &Session,
    source: &Source,
    shape: &Shape,
    everything: &Value,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let file = format!("{}.sql", source.name);
    if let Some(key) = shape.keys.iter().find(|key| key.table.is_empty()) {
        findings.problems.push(format!(
            "{file}: \"id\" ({}) is the column of no table: it must be that of the table whose rows are counted",
            key.expression()
        ));
    }
    let list = |pick: fn(&Key) -> String| shape.keys.iter().map(pick).collect::<Vec<_>>();
    let lists = [
        list(|key| key.schema.clone()),
        list(|key| key.table.clone()),
        list(|key| key.spellings()[0].clone()),
        list(|key| key.spellings()[1].clone()),
    ];
    let parameters: Vec<Parameter<'_>> = lists.iter().map(|list| (list as _, Type::TEXT_ARRAY)).collect();
    let rows = session.rows(key::indexes(), &parameters).await?;
    let indexed = rows.iter().map(Indexed::read).collect::<Result<Vec<_>, _>>().map_err(|e| Failure::of_query(&e))?;
    let mut roots: Vec<String> = Vec::new();
    for Indexed { place, root, unique, not_null, sequence } in indexed {
        let Some(key) = usize::try_from(place - 1).ok().and_then(|place| shape.keys.get(place)) else { continue };
        let expression = key.expression();
        let problem = if !unique {
            Some(format!(
                "has no unique index of its own, so that two rows can have one id, of which only the first would be \
                 counted: select the primary key, or a column that is unique by itself \
                 (CREATE UNIQUE INDEX CONCURRENTLY ON {root} ({expression}))"
            ))
        } else if not_null == Some(false) {
            Some(format!(
                "can be NULL, and such rows are never counted: ALTER TABLE {root} ALTER COLUMN {expression} SET NOT NULL"
            ))
        } else if not_null.is_none() && !roots.contains(&root) && has_null(session, source).await? {
            Some("is NULL in some rows, which are never counted".to_owned())
        } else if plan::is_optional(everything, key) {
            Some(
                "is of a table that is joined so that it can be missing: rows without it have no id and are never \
                 counted. Begin FROM with the table whose rows are counted, and LEFT JOIN the others"
                    .to_owned(),
            )
        } else {
            None
        };
        let problem = problem.map(|problem| format!("{file}: \"id\" ({expression} of {root}) {problem}"));
        // Of many partitions, one tells.
        findings.problems.extend(problem.filter(|problem| !findings.problems.contains(problem)));
        findings.sequence = findings.sequence.take().or(sequence);
        if !roots.contains(&root) {
            roots.push(root);
        }
    }
    if roots.len() > 1 {
        findings.problems.push(format!(
            "{file}: the ids are those of several tables ({}), where one id can be that of several rows, of which only the \
             first would be counted: make a source of each",
            roots.join(", ")
        ));
    }
    Ok(())
}

/// A row of [`key::indexes`].
struct Indexed {
    place: i64,
    root: String,
    unique: bool,
    not_null: Option<bool>,
    sequence: Option<String>,
}

impl Indexed {
    fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            place: row.try_get(0)?,
            root: row.try_get(1)?,
            unique: row.try_get(2)?,
            not_null: row.try_get(3)?,
            sequence: row.try_get(4)?,
        })
    }
}

/// True if an `id` is NULL, where no catalog says that it cannot be; an index finds it out at once.
async fn has_null(session: &Session, source: &Source) -> Result<bool, Failure> {
    let null = format!("SELECT EXISTS (SELECT FROM (\n{}\n) AS execution WHERE execution.id IS NULL)", source.sql);
    session.query_one(&null).await?.try_get(0).map_err(|e| Failure::of_query(&e))
}
