//! The statements that find out how a SELECT comes by its `id`.

use crate::source::Source;

/// What stands in the conditions of [`plan`] and in no sensible SELECT: stable, so that the planner does not know its
/// value.
pub const MARK: &str = "pg_backend_pid()";

/// A statement whose plan shows how the SELECT comes by its `id` and `done`; it is never run. Its order makes any other index
/// than that of the key a detour.
pub fn plan(source: &Source) -> String {
    format!(
        "SELECT execution.id, execution.done, execution.* FROM (\n{}\n) AS execution \
         WHERE execution.id BETWEEN -{MARK}::int8 AND {MARK}::int8 ORDER BY execution.id",
        source.sql
    )
}

/// The same without a condition, which turns outer joins into inner ones.
pub fn plan_of_all(source: &Source) -> String {
    format!("SELECT execution.id FROM (\n{}\n) AS execution", source.sql)
}

/// What the catalog has about keys, given as schemas, tables, expressions and other spellings of these (`$1` to `$4`;
/// expressions without spaces and parentheses): the place in the lists, the table or the one whose partition it is, whether
/// a unique index has the key alone, or with nothing but what says in which partition a row is, whether the key is NOT NULL
/// (NULL when no catalog tells), and the sequence that owns the key.
pub fn indexes() -> &'static str {
    "WITH RECURSIVE key AS (
      SELECT k.place, t.oid, t.relkind, k.expression, k.spelling
      FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS k (schema, name, expression, spelling, place)
      JOIN pg_catalog.pg_namespace AS n ON n.nspname = k.schema
      JOIN pg_catalog.pg_class AS t ON t.relnamespace = n.oid AND t.relname = k.name
    ), up AS (
      SELECT place, oid, 0 AS depth FROM key
      UNION ALL SELECT place, h.inhparent, depth + 1 FROM up JOIN pg_catalog.pg_inherits AS h ON h.inhrelid = up.oid
    )
    SELECT key.place, root.oid::regclass::text, found.attname IS NOT NULL OR found.is_expression IS TRUE,
      CASE WHEN found.is_expression OR key.relkind = 'm' THEN NULL ELSE coalesce(found.attnotnull, false) END,
      (
        SELECT d.objid::regclass::text FROM pg_catalog.pg_attribute AS a
        JOIN pg_catalog.pg_depend AS d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = root.oid
          AND d.refobjsubid = a.attnum AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
        JOIN pg_catalog.pg_class AS s ON s.oid = d.objid AND s.relkind = 'S'
        WHERE a.attrelid = root.oid AND a.attname = found.attname LIMIT 1
      )
    FROM key
    CROSS JOIN LATERAL (SELECT up.oid FROM up WHERE up.place = key.place ORDER BY depth DESC LIMIT 1) AS root
    LEFT JOIN LATERAL (
      SELECT a.attname, a.attnotnull, i.indkey[0] = 0 AS is_expression
      FROM pg_catalog.pg_index AS i
      LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] AND a.attnum > 0
      WHERE i.indrelid = key.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
        AND translate(pg_catalog.pg_get_indexdef(i.indexrelid, 1, true), '() ', '') IN (key.expression, key.spelling)
        AND NOT EXISTS (
          SELECT FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS also (attnum, n)
          LEFT JOIN pg_catalog.pg_attribute AS b ON b.attrelid = i.indrelid AND b.attnum = also.attnum
          WHERE n BETWEEN 2 AND i.indnkeyatts AND (b.attname IN (
            SELECT p.attname FROM up JOIN pg_catalog.pg_partitioned_table AS pt ON pt.partrelid = up.oid
            JOIN pg_catalog.pg_attribute AS p ON p.attrelid = pt.partrelid AND p.attnum = ANY (pt.partattrs::int2[])
            WHERE up.place = key.place
          )) IS NOT TRUE
        )
      LIMIT 1
    ) AS found ON true
    ORDER BY key.place"
}
