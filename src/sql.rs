//! Composes the statements around the SELECT of a source. Pure text; nothing here talks to a database.

pub mod history;
pub mod series;
pub mod view;

use std::collections::BTreeMap;

use crate::ledger::MAX_LABEL_BYTES;
use crate::ledger::frontier::{Range, ReadPlan};
use crate::source::{Count, Source, Sum, Value};

/// White space that is trimmed from numbers that came as strings, and from labels by [`Source::label`] too.
const SPACE: &str = r"E' \t\n\r\f\x0B'";
/// A number as JSON writes it (RFC 8259, section 6); exponents are bounded, so that every match fits `numeric`.
const NUMBER: &str = r"'^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?0*[0-9]{1,4})?$'";
/// A longer string is not taken for a number.
const MAX_DIGITS: usize = 400;

/// How the value of a column is turned into a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// Any SQL number.
    Number,
    /// `json` or `jsonb` holding a number or a string.
    Json,
    /// `boolean`.
    Boolean,
    /// Everything else, through its text.
    Text,
}

/// The columns of a SELECT, as the database describes them.
pub type Columns = BTreeMap<String, ColumnType>;

/// An SQL identifier.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// An SQL string literal, for any setting of `standard_conforming_strings`.
pub fn literal(text: &str) -> String {
    let escape = if text.contains('\\') { "E" } else { "" };
    format!("{escape}'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// A query that returns the names of the columns of the SELECT, without reading the table.
///
/// The second part is how many characters stand before the SELECT, to find a line in it from an error's position.
pub fn names(source: &Source) -> (String, usize) {
    // In a row of NULLs, as a row that is NULL has no keys.
    let before =
        format!("SELECT ARRAY(SELECT json_object_keys(row_to_json(execution))) FROM (SELECT execution.* {NONE}");
    (format!("{before}{}{NONE_END}) AS execution", source.sql), before.chars().count())
}

/// A query that returns the object ids of the types of these columns of the SELECT, without reading the table.
///
/// The driver would look up types that it does not know by prepared statements, which break behind a pooler.
pub fn types(source: &Source, names: &[String]) -> String {
    let types: Vec<String> = names.iter().map(|n| format!("pg_typeof(execution.{})::oid::int8", ident(n))).collect();
    format!("SELECT ARRAY[{}]::int8[] {NONE}{}{NONE_END}", types.join(", "), source.sql)
}

/// Around a SELECT: one row, with its columns all NULL.
const NONE: &str = "FROM (SELECT) AS one LEFT JOIN (SELECT * FROM (\n";
const NONE_END: &str = "\n) AS execution LIMIT 0) AS execution ON true";

/// The statement of a poll: one pass over the rows of the ranges `$1` to `$2` (arrays of `bigint`, inclusive, at most
/// so many rows of each) gives every measure, grouped by labels, by whether the rows are done, and by whether they have
/// been counted before: those that finished by `$3` (seconds since the epoch) of their range, where there is such a time.
///
/// The SELECT stands inside a LATERAL with ORDER BY and LIMIT, so that the only sensible plan is the one wanted, whatever
/// the statistics say: for each range, a descent into the primary key. Each `OFFSET 0` keeps what is below from being
/// computed anew for every use above: a number is taken out of JSON or text once, and compared with its bounds once.
/// Labels are trimmed, and cut to a length from which [`Source::label`] and the ledger make what is exported; the ledger
/// adds up groups that turn out to be the same.
pub fn poll(source: &Source, columns: &Columns, plan: &ReadPlan) -> String {
    let labels: Vec<String> = source.row_labels().map(ident).collect();
    let values = |f: &dyn Fn(&Value) -> String| source.values.iter().map(f).collect::<Vec<_>>();

    let mut outer = labels.clone();
    outer.extend(["done".to_owned(), "known".to_owned()]);
    outer.push("array_agg(id) AS ids".to_owned());
    outer.push("array_agg(extract(epoch FROM at)::float8) AS ats".to_owned());
    outer.push(
        "extract(epoch FROM max(at) FILTER (WHERE done AND isfinite(at) AND at <= clock_timestamp()))::float8 AS newest"
            .to_owned(),
    );
    outer.push(array("int8", "counts", source.counts.iter().map(|c| count(source, c)).collect()));
    outer.push(array(
        "text",
        "sums",
        source.sums.iter().map(|s| format!("({})::text", exact_sum(source, s, columns))).collect(),
    ));
    outer.push(array("int8", "rejected", values(&|v| rejection(v, columns))));

    let mut middle: Vec<String> = ["id", "done", "known", "at"].map(str::to_owned).into();
    middle.extend(labels.clone());
    middle.extend(source.only().into_iter().map(ident));
    middle.extend(values(&|v| ident(&v.column)));
    middle.extend(source.values.iter().filter(|v| parsed(v, columns).is_some()).map(|v| number(v, columns)));
    middle.extend(values(&|v| format!("{} AS {}", bounded(v, &number(v, columns)), valid(v))));

    let known = match plan.ranges.iter().any(|range| range.2.is_some()) {
        true => "(range.until IS NOT NULL AND (extract(epoch FROM at) > range.until) IS NOT TRUE) AS known",
        false => "false AS known",
    };
    let known = known.to_owned();
    let mut inner: Vec<String> =
        vec!["id::int8 AS id".to_owned(), "done IS TRUE AS done".to_owned(), known, "at".to_owned()];
    inner.extend(labels.iter().map(|l| format!("{} AS {l}", short(l))));
    inner.extend(source.only().into_iter().map(ident));
    inner.extend(values(&|v| ident(&v.column)));
    let as_number = |v: &Value| Some(format!("{} AS {}", parsed(v, columns)?, number(v, columns)));
    inner.extend(source.values.iter().filter_map(as_number));

    let list = |items: &[String], indent: &str| items.join(&format!(",\n{indent}"));
    format!(
        "SELECT\n  {outer}\nFROM (\n  SELECT\n    {middle}\n  FROM (\n    SELECT\n      {inner}\n    \
         FROM unnest($1::int8[], $2::int8[], $3::float8[]) AS range (lo, hi, until)\n    \
         CROSS JOIN LATERAL (\n      SELECT * FROM (\n{sql}\n      ) AS execution\n      \
         WHERE execution.id BETWEEN range.lo AND range.hi\n      ORDER BY execution.id\n      LIMIT {limit}\n    \
         ) AS execution\n    OFFSET 0\n  ) AS execution\n  OFFSET 0\n) AS execution\n\
         GROUP BY {keys}, done, known",
        limit = plan.limit,
        outer = list(&outer, "  "),
        middle = list(&middle, "    "),
        inner = list(&inner, "      "),
        sql = source.sql,
        keys = labels.join(", "),
    )
}

/// A label as text, trimmed and short: with four more bytes than are kept, so that the cut falls between characters.
fn short(label: &str) -> String {
    format!("left(btrim({label}::text, {SPACE}), {})", MAX_LABEL_BYTES + 4)
}

/// Which ids of the ranges `$1` to `$2` (inclusive, at most `limit` of each) are there, by whether their rows are done and
/// by the labels of gauges of open rows. Nothing else of the rows is read.
pub fn watch(source: &Source, limit: usize) -> String {
    let labels: Vec<String> = source.open_labels().iter().map(|l| ident(l)).collect();
    let named: String = labels.iter().map(|l| format!(",\n    {} AS {l}", short(l))).collect();
    let keys: String = labels.iter().map(|l| format!("{l}, ")).collect();
    format!(
        "SELECT {keys}done, array_agg(id) AS ids\nFROM (\n  SELECT\n    id::int8 AS id,\n    done IS TRUE AS done{named}\n  \
         FROM unnest($1::int8[], $2::int8[]) AS range (lo, hi)\n  \
         CROSS JOIN LATERAL (\n    SELECT * FROM (\n{sql}\n    ) AS execution\n    \
         WHERE execution.id BETWEEN range.lo AND range.hi\n    ORDER BY execution.id\n    LIMIT {limit}\n  ) AS execution\n\
         ) AS execution\nGROUP BY {keys}done",
        sql = source.sql,
    )
}

/// The rows under the ids `$1`: when they finished, and their labels.
pub fn witnesses(source: &Source) -> String {
    let labels: String = source.row_labels().map(|l| format!(",\n  {}", short(&ident(l)))).collect();
    format!(
        "SELECT execution.id::int8,\n  extract(epoch FROM at)::float8{labels}\nFROM unnest($1::int8[]) AS witness (id)\n\
         CROSS JOIN LATERAL (\n  SELECT * FROM (\n{}\n  ) AS execution\n  WHERE execution.id = witness.id\n  LIMIT 2\n) AS execution",
        source.sql,
    )
}

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

/// The statement of a poll with its parameters filled in, to paste into psql.
pub fn poll_filled_in(source: &Source, columns: &Columns, plan: &ReadPlan) -> String {
    let list = |kind: &str, pick: &dyn Fn(&Range) -> String| {
        let items: Vec<String> = plan.ranges.iter().map(pick).collect();
        format!("'{{{}}}'::{kind}[]", items.join(","))
    };
    let until = |range: &Range| range.2.map_or("NULL".to_owned(), |until| format!("{until:?}"));
    let filled = format!(
        "unnest({}, {}, {})",
        list("int8", &|r| r.0.to_string()),
        list("int8", &|r| r.1.to_string()),
        list("float8", &until)
    );
    // Only the composed part has parameters; a '$1' in the user's SELECT stays what it is.
    poll(source, columns, plan).replacen("unnest($1::int8[], $2::int8[], $3::float8[])", &filled, 1)
}

fn array(kind: &str, name: &str, items: Vec<String>) -> String {
    format!("ARRAY[\n    {}\n  ]::{kind}[] AS {name}", items.join(",\n    "))
}

/// The name under which the valid number of a column stands beside the column itself.
fn valid(value: &Value) -> String {
    ident(&format!("{} (valid)", value.column))
}

/// A sum that loses nothing, see [`crate::ledger::decimal`].
fn exact_sum(source: &Source, sum: &Sum, columns: &Columns) -> String {
    let value = &source.values[sum.value];
    let only = sum.only.as_ref().map(|c| format!(" AND {}", ident(c))).unwrap_or_default();
    // The number itself and not the `float8` beside it, which has fewer digits than `numeric`.
    let number = if value.integer { valid(value) } else { format!("{}::numeric", number(value, columns)) };
    format!("coalesce(sum({number}) FILTER (WHERE {} IS NOT NULL{only}), 0)", valid(value))
}

fn sum(source: &Source, sum: &Sum) -> String {
    let filter = sum.only.as_ref().map(|c| format!(" FILTER (WHERE {})", ident(c))).unwrap_or_default();
    // Only rows that are done have valid values. Sums of `bigint` are `numeric`, which takes longer, and to no end: what
    // is exported is `float8`, exact up to 2^53.
    format!("coalesce(sum({}::float8){filter}, 0)", valid(&source.values[sum.value]))
}

fn count(source: &Source, count: &Count) -> String {
    // Inclusive, as Prometheus defines `le`; width_bucket would put a value on a bound into the next bucket.
    let condition = match (count.value.map(|value| valid(&source.values[value])), count.le) {
        (Some(valid), Some(le)) => format!("{valid} <= {le}"),
        (Some(valid), None) => format!("{valid} IS NOT NULL"),
        (None, _) => "done".to_owned(),
    };
    let only = count.only.as_ref().map(|c| format!(" AND {}", ident(c))).unwrap_or_default();
    format!("count(*) FILTER (WHERE {condition}{only})")
}

/// The number that a done row has, valid or not, or NULL; nothing for a column that is a number as it stands.
fn parsed(value: &Value, columns: &Columns) -> Option<String> {
    let column = ident(&value.column);
    let string = |text: &str| {
        let trimmed = format!("btrim({text}, {SPACE})");
        let is_number = format!("length({trimmed}) <= {MAX_DIGITS} AND {trimmed} ~ {NUMBER}");
        format!("CASE WHEN {is_number} THEN {trimmed}::numeric END")
    };
    match columns.get(&value.column) {
        Some(ColumnType::Number) => None,
        Some(ColumnType::Json) => {
            let json = format!("{column}::jsonb");
            Some(format!(
                "CASE WHEN done THEN\n      CASE jsonb_typeof({json})\n        WHEN 'number' THEN ({json})::numeric\n        \
                 WHEN 'string' THEN {}\n      END\n    END",
                string(&format!("({json} #>> '{{}}')")),
            ))
        }
        _ => Some(format!("CASE WHEN done THEN\n      {}\n    END", string(&format!("{column}::text")))),
    }
}

/// The name under which [`parsed`] stands, or the column itself.
fn number(value: &Value, columns: &Columns) -> String {
    match columns.get(&value.column) {
        Some(ColumnType::Number) => ident(&value.column),
        _ => ident(&format!("{} (number)", value.column)),
    }
}

/// A number of a done row, or NULL when it is out of bounds.
fn bounded(value: &Value, number: &str) -> String {
    let (whole, shown) = if value.integer {
        (format!(" AND {number} = trunc({number})"), format!("{number}::int8"))
    } else {
        // `float8` has nothing nearer to 0 than about 1e-307, and refuses to round what is.
        (String::new(), format!("(CASE WHEN {number} < 1e-300 THEN 0 ELSE {number} END)::float8"))
    };
    format!("CASE WHEN done AND {number} BETWEEN {} AND {}{whole} THEN {shown} END", value.min, value.max)
}

/// The valid number of a done row in one expression, or NULL when there is none.
fn valid_number(value: &Value, columns: &Columns) -> String {
    bounded(value, &parsed(value, columns).map_or_else(|| ident(&value.column), |parsed| format!("({parsed})")))
}

/// How many values there are that are no valid number: not NULL, JSON null or the empty string, and yet without one.
fn rejection(value: &Value, columns: &Columns) -> String {
    format!("count(*) FILTER (WHERE done AND {} IS NULL AND {})", valid(value), present(value, columns))
}

/// That a value is there: not NULL, JSON null or the empty string.
fn present(value: &Value, columns: &Columns) -> String {
    let column = ident(&value.column);
    let missing = match columns.get(&value.column) {
        Some(ColumnType::Number) => String::new(),
        Some(ColumnType::Json) => format!(" AND {column}::jsonb NOT IN ('null', '\"\"')"),
        _ => format!(" AND {column}::text <> ''"),
    };
    format!("{column} IS NOT NULL{missing}")
}

/// In words why the value of a done row is rejected; NULL when it is not.
fn why(value: &Value, columns: &Columns) -> String {
    let column = ident(&value.column);
    let (min, max) = (value.min, value.max);
    let bounds = |x: &str| {
        format!(
            "CASE WHEN {x} < {min} THEN 'is below {min}' WHEN {x} > {max} THEN 'is above {max}' ELSE 'is not whole' END"
        )
    };
    let string = |text: &str| {
        let trimmed = format!("btrim({text}, {SPACE})");
        format!(
            "CASE WHEN length({trimmed}) > {MAX_DIGITS} THEN 'is too long for a number' WHEN {trimmed} !~ {NUMBER} \
             THEN 'is text that is no number' ELSE {} END",
            bounds(&format!("{trimmed}::numeric"))
        )
    };
    let reason = match columns.get(&value.column) {
        Some(ColumnType::Number) => bounds(&column),
        Some(ColumnType::Json) => {
            let json = format!("{column}::jsonb");
            format!(
                "CASE jsonb_typeof({json}) WHEN 'number' THEN {} WHEN 'string' THEN {} \
                 WHEN 'boolean' THEN 'is true or false' ELSE 'is an ' || jsonb_typeof({json}) END",
                bounds(&format!("({json})::numeric")),
                string(&format!("({json} #>> '{{}}')")),
            )
        }
        _ => string(&format!("{column}::text")),
    };
    let valid = valid_number(value, columns);
    format!("CASE WHEN done AND {} AND ({valid}) IS NULL THEN {reason} END", present(value, columns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_survive_both_settings_of_standard_conforming_strings() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"a\b'c"), r"E'a\\b''c'");
        assert_eq!(ident("a\"b"), "\"a\"\"b\"");
    }

    #[test]
    fn the_statement_of_a_poll() {
        let sources = Source::shipped().unwrap();
        let columns = [("duration_ms", ColumnType::Number), ("trust_score", ColumnType::Json)];
        let columns = columns.map(|(name, kind)| (name.to_owned(), kind)).into();
        insta::assert_snapshot!(poll(&sources[1], &columns, &ReadPlan { limit: 1000, ..ReadPlan::default() }));
    }
}
