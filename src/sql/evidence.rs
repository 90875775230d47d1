//! The statements that tell which tables and sequences stand behind a SELECT.

use super::literal;
use crate::source::Source;

/// Locks what the SELECT reads, against changes of the tables themselves, without reading it.
pub fn locks(source: &Source) -> String {
    format!("SELECT FROM (\n{}\n) AS execution LIMIT 0", source.sql)
}

/// What can tell that another table or sequence stands behind the same name, of relations given by their object ids:
/// whether one was rewritten since the transaction's snapshot, what they are and in which files, where the sequence
/// stands, with its object id and file, and how many of the relations the SELECT still reads, and so has locked.
///
/// A snapshot does not see the rows of a table that was rewritten after it was taken. Functions such as
/// `pg_relation_filenode`, and the sequence itself, show what is there now; `pg_class` is as of the snapshot.
pub fn evidence(relations: &[u32], sequence: Option<&str>) -> String {
    let oids: Vec<String> = relations.iter().map(u32::to_string).collect();
    let rewritten =
        "count(*) FILTER (WHERE c.relfilenode <> 0 AND c.relfilenode IS DISTINCT FROM pg_relation_filenode(c.oid))";
    let read = "count(*) FILTER (WHERE c.oid IN (SELECT l.relation FROM pg_locks AS l \
         WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation'))";
    let (columns, from) = match sequence {
        None => ("NULL, NULL, NULL".to_owned(), String::new()),
        Some(name) => (
            "CASE WHEN s.is_called THEN s.last_value ELSE s.last_value - 1 END, q.oid, pg_relation_filenode(q.oid)"
                .to_owned(),
            format!(" CROSS JOIN {name} AS s JOIN pg_class AS q ON q.oid = {}::regclass", literal(name)),
        ),
    };
    format!(
        "SELECT t.rewritten, t.stamp, {columns}, t.relations FROM (SELECT {rewritten} AS rewritten, {read} AS relations, \
         coalesce(md5(string_agg(c.oid || ':' || coalesce(pg_relation_filenode(c.oid), 0), ',' ORDER BY c.oid)), '') AS stamp \
         FROM pg_class AS c WHERE c.oid = ANY ('{{{}}}'::oid[])) AS t{from}",
        oids.join(","),
    )
}

/// The object ids of the tables that this transaction has locked for reading.
pub const LOCKED: &str = "SELECT l.relation FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation \
     WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND c.relkind IN ('r', 'p', 'm') AND l.relation >= 16384";
