//! What the role may not read although it must, with the grants that are missing; and what it could write.

use std::collections::{BTreeMap, BTreeSet};

use super::references::{References, Table, references};
use crate::postgres::{Failure, Row, Session, Type};
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
    /// True if any of its columns is read.
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
         quote_ident(n.nspname), quote_ident(n.nspname) || '.' || quote_ident(c.relname), quote_ident(a.attname), \
         c.oid::int8 FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
         JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
         WHERE c.relname = ANY ($1) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY c.oid, a.attnum";
    let rows = session.rows(statement, &[(&names, Type::TEXT_ARRAY)]).await?;
    let mut schemas: BTreeSet<String> = BTreeSet::new();
    let mut tables: BTreeMap<String, Found> = BTreeMap::new();
    let mut oids: BTreeSet<i64> = BTreeSet::new();
    for row in &rows {
        let mut cells = row.cells();
        let (schema, name, column): (String, String, String) = (cells.take()?, cells.take()?, cells.take()?);
        let (may_read, may_use_schema, may_write): (bool, bool, bool) = (cells.take()?, cells.take()?, cells.take()?);
        let (quoted_schema, quoted_table, quoted_column) = (cells.take()?, cells.take()?, cells.take()?);
        // A name without a schema is looked up where a poll looks it up.
        let same = |t: &&Table| t.name == name && t.schema.as_deref().unwrap_or("public") == schema;
        let mentioned: Vec<&Table> = found.tables.iter().filter(same).collect();
        if mentioned.is_empty() {
            continue;
        }
        if !may_use_schema {
            schemas.insert(quoted_schema);
        }
        let table = tables.entry(quoted_table).or_default();
        oids.insert(cells.take()?);
        table.writable = may_write;
        if mentioned.iter().any(|t| found.reads(t, &column)) {
            table.read = true;
            if !may_read {
                table.denied.push(quoted_column);
            }
        }
    }
    let oids: Vec<i64> = oids.into_iter().collect();
    let functions = functions(session, &found).await?;
    schemas.extend(functions.iter().filter(|f| !f.may_use_schema).map(|f| f.schema.clone()));
    let schemas = schemas.iter().map(|schema| format!("GRANT USAGE ON SCHEMA {schema} TO {user};"));
    let columns = tables
        .iter()
        .filter(|(_, t)| !t.denied.is_empty())
        .map(|(name, t)| format!("GRANT SELECT ({}) ON {name} TO {user};", t.denied.join(", ")));
    let functions = functions.iter().map(|f| format!("GRANT EXECUTE ON FUNCTION {} TO {user};", f.signature));
    let grants = schemas.chain(columns).chain(functions).chain(below_views(session, &oids).await?).collect();
    let writable = tables.iter().filter(|(_, t)| t.writable && t.read).map(|(name, _)| name.clone()).collect();
    Ok(Privileges { grants, writable })
}

/// A function that the role may not call.
struct Function {
    schema: String,
    may_use_schema: bool,
    /// With schema and arguments, quoted.
    signature: String,
}

/// The functions that are called and that the role may not call. Which of several with one name is meant, only the server
/// knows.
async fn functions(session: &Session, found: &References) -> Result<Vec<Function>, Failure> {
    let names: Vec<&str> = found.functions.iter().map(|(_, name)| name.as_str()).collect();
    let schemas: Vec<&str> = found.functions.iter().map(|(schema, _)| schema.as_deref().unwrap_or("public")).collect();
    let statement = "SELECT DISTINCT quote_ident(n.nspname), has_schema_privilege(n.oid, 'USAGE'), \
         quote_ident(n.nspname) || '.' || quote_ident(p.proname) || '(' || pg_get_function_identity_arguments(p.oid) || ')' \
         FROM unnest($1::text[], $2::text[]) AS called (schema, name) \
         JOIN pg_catalog.pg_namespace AS n ON n.nspname = called.schema \
         JOIN pg_catalog.pg_proc AS p ON p.pronamespace = n.oid AND p.proname = called.name \
         WHERE NOT has_function_privilege(p.oid, 'EXECUTE') OR NOT has_schema_privilege(n.oid, 'USAGE') ORDER BY 3";
    let rows = session.rows(statement, &[(&schemas, Type::TEXT_ARRAY), (&names, Type::TEXT_ARRAY)]).await?;
    let read = |row: &Row| Ok(Function { schema: row.get(0)?, may_use_schema: row.get(1)?, signature: row.get(2)? });
    rows.iter().map(read).collect()
}

/// Grants for what views read: a view reads with the rights of its owner, unless it is one WITH (security_invoker), and
/// calls functions with those of whoever reads it.
async fn below_views(session: &Session, oids: &[i64]) -> Result<Vec<String>, Failure> {
    let statement = "WITH RECURSIVE view AS ( \
           SELECT c.oid, c.relowner, c.reloptions, r.oid AS reader FROM pg_catalog.pg_class AS c \
           JOIN pg_catalog.pg_roles AS r ON r.rolname = current_user WHERE c.oid::int8 = ANY ($1) AND c.relkind = 'v' \
         UNION SELECT c.oid, c.relowner, c.reloptions, below.reader FROM view CROSS JOIN LATERAL ( \
           SELECT d.refobjid, CASE WHEN view.reloptions @> '{security_invoker=true}' THEN view.reader ELSE view.relowner END AS reader \
           FROM pg_catalog.pg_rewrite AS w JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid \
           WHERE w.ev_class = view.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> view.oid \
         ) AS below JOIN pg_catalog.pg_class AS c ON c.oid = below.refobjid WHERE c.relkind = 'v' \
         ), used AS ( \
           SELECT d.refclassid, d.refobjid, d.refobjsubid, view.reader AS caller, \
             CASE WHEN view.reloptions @> '{security_invoker=true}' THEN view.reader ELSE view.relowner END AS reader \
           FROM view JOIN pg_catalog.pg_rewrite AS w ON w.ev_class = view.oid \
           JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refobjid <> view.oid \
         ) \
         SELECT 'GRANT SELECT (' || string_agg(DISTINCT quote_ident(a.attname), ', ') || ') ON ' || quote_ident(n.nspname) || '.' \
           || quote_ident(c.relname) || ' TO ' || quote_ident(pg_get_userbyid(used.reader)) || ';' \
         FROM used JOIN pg_catalog.pg_class AS c ON used.refclassid = 'pg_class'::regclass AND c.oid = used.refobjid \
         JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
         JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = used.refobjsubid AND a.attnum > 0 \
         WHERE NOT has_column_privilege(used.reader, c.oid, a.attnum, 'SELECT') GROUP BY n.nspname, c.relname, used.reader \
         UNION SELECT 'GRANT EXECUTE ON FUNCTION ' || quote_ident(n.nspname) || '.' || quote_ident(p.proname) || '(' \
           || pg_get_function_identity_arguments(p.oid) || ') TO ' || quote_ident(current_user) || ';' \
         FROM used JOIN pg_catalog.pg_proc AS p ON used.refclassid = 'pg_proc'::regclass AND p.oid = used.refobjid \
         JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace \
         WHERE NOT has_function_privilege(p.oid, 'EXECUTE') ORDER BY 1";
    let rows = session.rows(statement, &[(&oids, Type::INT8_ARRAY)]).await?;
    rows.iter().map(|row| row.get(0)).collect()
}
