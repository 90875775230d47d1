//! What the role may not read although it must, with the grants that are missing; and what it could write.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::types::Type;

use super::references::{Table, references};
use crate::db::{Failure, Session};
use crate::source::Source;

/// What was found about one source.
#[derive(Debug, Default)]
pub struct Privileges {
    /// Statements that give what is missing.
    pub grants: Vec<String>,
    /// Tables that the role can change.
    pub writable: Vec<String>,
}

/// One table as the catalog has it.
#[derive(Debug, Default)]
struct Found {
    /// Whether any of its columns is read.
    read: bool,
    /// The columns that are read and that the role may not read, in the order of the table.
    denied: Vec<String>,
    writable: bool,
}

/// Compares what the SELECT mentions with what the role may do; `user` is the role, quoted if need be. Inside a transaction. The catalog is open to everyone.
pub async fn privileges(session: &Session, source: &Source, user: &str) -> Result<Privileges, Failure> {
    let found = references(&source.sql);
    let names: Vec<&str> = found.tables.iter().map(|table| table.name.as_str()).collect();
    let statement = "SELECT n.nspname::text, c.relname::text, a.attname::text, \
         has_column_privilege(c.oid, a.attnum, 'SELECT'), has_schema_privilege(n.oid, 'USAGE'), \
         has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE') \
         OR has_any_column_privilege(c.oid, 'INSERT, UPDATE'), \
         quote_ident(n.nspname), quote_ident(n.nspname) || '.' || quote_ident(c.relname), quote_ident(a.attname) \
         FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
         JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
         WHERE c.relname = ANY ($1) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY c.oid, a.attnum";
    let rows = session.rows(statement, &[(&names, Type::TEXT_ARRAY)]).await?;
    let mut schemas: BTreeSet<String> = BTreeSet::new();
    let mut tables: BTreeMap<String, Found> = BTreeMap::new();
    for row in &rows {
        let text = |i| row.try_get::<_, String>(i).map_err(|e| Failure::of_query(&e));
        let flag = |i| row.try_get::<_, bool>(i).map_err(|e| Failure::of_query(&e));
        let (schema, name, column) = (text(0)?, text(1)?, text(2)?);
        // A name without a schema is looked up where a poll looks it up.
        let same = |t: &&Table| t.name == name && t.schema.as_deref().unwrap_or("public") == schema;
        let mentioned: Vec<&Table> = found.tables.iter().filter(same).collect();
        if mentioned.is_empty() {
            continue;
        }
        if !flag(4)? {
            schemas.insert(text(6)?);
        }
        let table = tables.entry(text(7)?).or_default();
        table.writable = flag(5)?;
        if mentioned.iter().any(|t| found.reads(t, &column)) {
            table.read = true;
            if !flag(3)? {
                table.denied.push(text(8)?);
            }
        }
    }
    let schemas = schemas.iter().map(|schema| format!("GRANT USAGE ON SCHEMA {schema} TO {user};"));
    let columns = tables
        .iter()
        .filter(|(_, t)| !t.denied.is_empty())
        .map(|(name, t)| format!("GRANT SELECT ({}) ON {name} TO {user};", t.denied.join(", ")));
    let grants = schemas.chain(columns).collect();
    let writable = tables.iter().filter(|(_, t)| t.writable && t.read).map(|(name, _)| name.clone()).collect();
    Ok(Privileges { grants, writable })
}
