//! Whether a definition can be counted exactly, as far as only the database can tell: the columns and their types, and
//! that the key is one of a table, unique, never NULL, and not hidden behind LIMIT, GROUP BY or WHERE.
//!
//! PostgreSQL's own plan is asked, and not the text of the SELECT: it sees through views, subqueries and partitions.

mod columns;
mod plan;

use serde_json::Value;
use tokio_postgres::types::Type;

pub use columns::{column, missing_columns, unambiguous};
use plan::{Key, Shape};

use super::{Failure, Reason, Session};
use crate::source::Source;
use crate::sql::{self, Columns};

/// What was found out about a definition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// What would make numbers wrong or absent, each with file and remedy.
    pub problems: Vec<String>,
    /// What is worth knowing.
    pub warnings: Vec<String>,
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

/// Compares a definition with the database; inside a transaction.
///
/// # Errors
/// Fails if the server refuses to tell.
pub async fn examine(session: &Session, source: &Source, columns: &Columns) -> Result<Findings, Failure> {
    let problems = missing_columns(source, columns);
    if !problems.is_empty() {
        return Ok(Findings { problems, ..Findings::default() });
    }
    let shape = Shape::of(&explain(session, &sql::key_plan(source)).await?);
    let volatile = volatile(session, &shape).await?;
    let mut findings = shape.findings(source, &volatile);
    if findings.problems.is_empty() {
        let everything = explain(session, &sql::key_plan_of_all(source)).await?;
        key(session, source, &shape, &everything, &mut findings.problems).await?;
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
async fn key(
    session: &Session,
    source: &Source,
    shape: &Shape,
    everything: &Value,
    problems: &mut Vec<String>,
) -> Result<(), Failure> {
    let file = format!("{}.sql", source.name);
    let column = |pick: fn(&Key) -> &str| shape.keys.iter().map(pick).collect::<Vec<_>>();
    let (schemas, tables, indexes) = (column(|k| &k.schema), column(|k| &k.table), column(|k| &k.index));
    let parameters = [&schemas, &tables, &indexes].map(|names| (names as _, Type::TEXT_ARRAY));
    let rows = session.rows(&sql::key_indexes(), &parameters).await?;
    let mut roots: Vec<String> = Vec::new();
    for row in &rows {
        let text = |i| row.try_get::<_, Option<String>>(i).map(Option::unwrap_or_default);
        let flag = |i| row.try_get::<_, Option<bool>>(i).map(Option::unwrap_or_default);
        let read = || -> Result<_, tokio_postgres::Error> {
            Ok((row.try_get::<_, i64>(0)?, text(1)?, text(2)?, flag(3)?, flag(4)?, text(5)?))
        };
        let (place, root, lead, unique, not_null, kind) = read().map_err(|e| Failure::of_query(&e))?;
        let Some(key) = usize::try_from(place - 1).ok().and_then(|place| shape.keys.get(place)) else { continue };
        if roots.contains(&root) {
            continue;
        }
        let expression = key.expression();
        if !unique || !key.is_led_by(&lead) {
            problems.push(format!(
                "{file}: \"id\" ({expression} of {root}) has no unique index of its own, so that two rows can have one \
                 id, of which only the first would be counted: select the primary key, or a column that is unique by itself \
                 (CREATE UNIQUE INDEX CONCURRENTLY ON {root} ({expression}))"
            ));
        } else if lead.contains('(') || kind == "m" {
            // No catalog says whether these can be NULL; an index finds it out at once.
            let null =
                format!("SELECT EXISTS (SELECT FROM (\n{}\n) AS execution WHERE execution.id IS NULL)", source.sql);
            let null = session.one(&null).await?.try_get::<_, bool>(0).map_err(|e| Failure::of_query(&e))?;
            if null {
                problems.push(format!(
                    "{file}: there are rows whose \"id\" ({expression} of {root}) is NULL, which are never counted"
                ));
            }
        } else if !not_null {
            problems.push(format!(
                "{file}: \"id\" ({expression} of {root}) can be NULL, and such rows are never counted: \
                 ALTER TABLE {root} ALTER COLUMN {expression} SET NOT NULL"
            ));
        }
        if plan::is_optional(everything, key) {
            problems.push(format!(
                "{file}: \"id\" is of {root}, which is joined so that it can be missing: rows without it have no id and \
                 are never counted. Begin FROM with the table whose rows are counted, and LEFT JOIN the others"
            ));
        }
        roots.push(root);
    }
    if roots.len() > 1 {
        problems.push(format!(
            "{file}: the ids are those of several tables ({}), where one id can be that of several rows, of which only the \
             first would be counted: make a source of each",
            roots.join(", ")
        ));
    }
    Ok(())
}
