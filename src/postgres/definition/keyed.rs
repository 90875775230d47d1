//! Whether a definition with a key of its own can be counted exactly.

use std::collections::BTreeSet;

use serde_json::Value;
use tokio_postgres::types::Type;

use super::plan::{self, Shape};
use super::{Findings, explain, volatile};
use crate::postgres::{Failure, Session};
use crate::source::Source;
use crate::source::key::Key;
use crate::sql::{Columns, ident, keyed};

/// A column of the place: an expression on a column of a table.
struct Origin<'a> {
    column: &'a str,
    /// As the plan has it, without the table.
    shown: String,
    /// The same without spaces and parentheses.
    expression: String,
    table: plan::Key,
}

/// Compares a definition with the database; inside a transaction.
///
/// # Errors
/// Fails if the server refuses to tell.
pub async fn examine(session: &Session, source: &Source, key: &Key, columns: &Columns) -> Result<Findings, Failure> {
    let shape = Shape::of(&explain(session, &keyed::plan(source, key, columns)).await?);
    let volatile = volatile(session, &shape).await?;
    let everything = explain(session, &keyed::plan_of_all(source, key)).await?;
    let origins = origins(key, &everything);
    // The conditions on the key are not the user's.
    let own: BTreeSet<String> = origins.iter().flatten().map(|origin| origin.expression.replace('"', "")).collect();
    let mut findings = shape.without(&own).findings(source, &volatile);
    if !findings.problems.is_empty() {
        return Ok(findings);
    }
    let (sql, toml) = (format!("{}.sql", source.name), format!("{}.toml", source.name));
    if let Some((column, _)) = key.place().zip(&origins).find(|(_, origin)| origin.is_none()) {
        findings.problems.push(format!(
            "{sql}: \"{column}\" is the column of no table: key and order must be those of the table whose rows are counted"
        ));
        return Ok(findings);
    }
    let origins: Vec<Origin<'_>> = origins.into_iter().flatten().collect();
    let Some(first) = origins.first().map(|origin| origin.table.clone()) else { return Ok(findings) };
    if let Some(other) = origins.iter().find(|o| (&o.table.schema, &o.table.alias) != (&first.schema, &first.alias)) {
        findings.problems.push(format!(
            "{sql}: \"{}\" is a column of {}, and \"{}\" one of {}: key and order must be columns of one table, in which an \
             index has them",
            origins[0].column, first.table, other.column, other.table.table
        ));
        return Ok(findings);
    }
    if origins.iter().any(|origin| plan::is_optional(&everything, &origin.table)) {
        findings.problems.push(format!(
            "{sql}: the key is of a table that is joined so that it can be missing: rows without it are never counted. \
             Begin FROM with the table whose rows are counted, and LEFT JOIN the others"
        ));
    }
    let order_is_in_key = key.columns.iter().any(|column| column == key.order());
    let expressions: Vec<&str> = origins.iter().map(|origin| origin.expression.as_str()).collect();
    let row = session
        .rows(
            keyed::catalog(),
            &[
                (&first.schema, Type::TEXT),
                (&first.table, Type::TEXT),
                (&expressions, Type::TEXT_ARRAY),
                (&order_is_in_key, Type::BOOL),
            ],
        )
        .await?;
    let Some(row) = row.first() else { return Ok(findings) };
    let mut cells = row.cells();
    let (table, is_unique, is_ordered): (Option<String>, bool, bool) = (cells.take()?, cells.take()?, cells.take()?);
    let (nullable, is_subscribed): (Vec<String>, bool) = (cells.take()?, cells.take()?);
    let table = table.unwrap_or_else(|| first.table.clone());
    let list = key.columns.join(", ");
    if !is_unique {
        findings.problems.push(format!(
            "{toml}: key: no unique index of {table} has nothing but {list}, so that two rows can have one key, of which only \
             the first would be counted: name the columns of the primary key, or CREATE UNIQUE INDEX CONCURRENTLY ON {table} ({list})"
        ));
    }
    let (of_order, order) = (&origins[0].shown, key.order());
    if !is_ordered {
        let rest: Vec<&str> = origins.iter().map(|origin| origin.shown.as_str()).collect();
        findings.problems.push(format!(
            "{toml}: {}: no index of {table} begins with {of_order}, so that every poll would read the whole table: \
             CREATE INDEX CONCURRENTLY ON {table} ({})",
            if key.is_by_xid() { "xid" } else { "order" },
            rest.join(", ")
        ));
    }
    for origin in origins.iter().skip(1).filter(|origin| nullable.contains(&origin.expression)) {
        let remedy = format!("ALTER TABLE {table} ALTER COLUMN {} SET NOT NULL", origin.shown);
        findings.problems.push(format!(
            "{toml}: key: \"{}\" can be NULL, and such a row cannot be told from others: {remedy}, or, if it is set when \
             the row has ended, name it as order as well",
            origin.column
        ));
    }
    if findings.problems.is_empty() && nullable.contains(&origins[0].expression) {
        may_be_null(session, source, key, &table, of_order, &mut findings).await?;
    }
    if key.is_by_xid() {
        if is_subscribed {
            findings.problems.push(format!(
                "{toml}: xid: {table} gets its rows by a subscription, with the transaction ids of another server: count them \
                 there, or use order and late"
            ));
        } else if findings.problems.is_empty() && has(session, &keyed::has_foreign(source, key)).await? {
            findings.problems.push(format!(
                "{toml}: xid: rows have ids of transactions that have not begun here: they were restored from another server, \
                 or are replicated from it. If they were restored, UPDATE {table} SET {of_order} = pg_current_xact_id() WHERE \
                 {of_order} >= pg_snapshot_xmax(pg_current_snapshot()) makes them this server's"
            ));
        }
    }
    if ["update", "modif", "touch"].iter().any(|word| of_order.contains(word)) {
        findings.warnings.push(format!(
            "{toml}: order: {order} sounds like a time that changes with every edit of a row: one that was counted long ago would \
             be counted again. It must be set once, for each key"
        ));
    }
    Ok(findings)
}

/// Rows without an order are not found until they have one.
async fn may_be_null(
    session: &Session,
    source: &Source,
    key: &Key,
    table: &str,
    of_order: &str,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let (toml, order) = (format!("{}.toml", source.name), key.order());
    let remedy = format!("ALTER TABLE {table} ALTER COLUMN {of_order} SET NOT NULL");
    if key.is_by_xid() {
        let update = format!("UPDATE {table} SET {of_order} = pg_current_xact_id() WHERE {of_order} IS NULL");
        findings.problems.push(format!(
            "{toml}: xid: \"{order}\" can be NULL, and such rows are never counted: {update}; {remedy}; and a DEFAULT \
             pg_current_xact_id()"
        ));
    } else if source.metrics.iter().any(|metric| metric.kind.is_of_open_rows()) {
        findings.problems.push(format!(
            "{toml}: order: \"{order}\" can be NULL, and rows where it is are not seen, so that gauges of rows that are not done \
             lack them: leave these gauges out, or {remedy}"
        ));
    } else if has(session, &keyed::has_no_place(source, key)).await? {
        findings.problems.push(format!(
            "{toml}: order: \"{order}\" is NULL in rows that are done, which are never counted: it must be set by then"
        ));
    }
    Ok(())
}

async fn has(session: &Session, statement: &str) -> Result<bool, Failure> {
    session.query_one(statement).await?.get(0)
}

/// Where the columns of the place come from, by the plan of [`keyed::plan_of_all`].
fn origins<'a>(key: &'a Key, plan: &Value) -> Vec<Option<Origin<'a>>> {
    let outputs = plan::outputs(plan);
    let scans = plan::scans(plan);
    let origin = |(i, column): (usize, &'a str)| {
        let expression = outputs[i].as_str().unwrap_or_default();
        let of = |alias: &str| plan::is_of(expression, alias);
        // Above its partitions, a table has an alias without a number at its end.
        let whole = |scan: &plan::Key| {
            scan.alias.trim_end_matches(|c: char| c.is_ascii_digit()).strip_suffix('_').map(str::to_owned)
        };
        let own = scans.iter().find(|scan| of(&scan.alias)).map(|scan| (scan, scan.alias.clone()));
        let (table, alias) =
            own.or_else(|| scans.iter().find_map(|scan| Some((scan, whole(scan).filter(|alias| of(alias))?))))?;
        let expression = [ident(&alias), alias]
            .iter()
            .fold(expression.to_owned(), |text, alias| text.replace(&format!("{alias}."), ""));
        let table = table.clone();
        let shown = expression.clone();
        let expression = expression.chars().filter(|c| !matches!(c, '(' | ')' | ' ')).collect();
        Some(Origin { column, shown, expression, table })
    };
    key.place().enumerate().map(origin).collect()
}
