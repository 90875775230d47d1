//! Composes the statements around the SELECT of a source. Pure text; nothing here talks to a database.

pub mod history;
pub mod series;
pub mod view;

use std::collections::BTreeMap;

use crate::ledger::Probe;
use crate::ledger::rewind::Known;
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
/// been counted before.
///
/// The SELECT stands inside a LATERAL with ORDER BY and LIMIT, so that the only sensible plan is the one wanted, whatever
/// the statistics say: for each range, a descent into the primary key. Each `OFFSET 0` keeps what is below from being
/// computed anew for every use above: a number is taken out of JSON or text once, and compared with its bounds once.
/// Labels come as they stand, see [`Source::label`]: the ledger adds up groups that turn out to be the same.
pub fn poll(source: &Source, columns: &Columns, probe: &Probe) -> String {
    let labels: Vec<String> = source.labels.iter().chain(&source.by).map(|l| ident(l)).collect();
    let values = |f: &dyn Fn(&Value) -> String| source.values.iter().map(f).collect::<Vec<_>>();

    let mut outer = labels.clone();
    outer.extend(["done".to_owned(), "known".to_owned()]);
    outer.push("array_agg(id) AS ids".to_owned());
    outer.push(
        "extract(epoch FROM max(at) FILTER (WHERE done AND isfinite(at) AND at <= clock_timestamp()))::float8 AS newest"
            .to_owned(),
    );
    outer.push(array("int8", "counts", source.counts.iter().map(|c| count(source, c)).collect()));
    outer.push(array("float8", "sums", source.sums.iter().map(|s| sum(source, s)).collect()));
    outer.push(array("int8", "rejected", values(&|v| rejection(v, columns))));

    let mut middle: Vec<String> = ["id", "done", "known", "at"].map(str::to_owned).into();
    middle.extend(labels.clone());
    middle.extend(source.only().into_iter().map(ident));
    middle.extend(values(&|v| ident(&v.column)));
    middle.extend(values(&|v| format!("{} AS {}", bounded(v, &number(v, columns)), valid(v))));

    let known = match &probe.known {
        Some(known) => format!("{} AS known", counted_before(known)),
        None => "false AS known".to_owned(),
    };
    let mut inner: Vec<String> =
        vec!["id::int8 AS id".to_owned(), "done IS TRUE AS done".to_owned(), known, "at".to_owned()];
    inner.extend(labels.iter().map(|l| format!("{l}::text AS {l}")));
    inner.extend(source.only().into_iter().map(ident));
    inner.extend(values(&|v| ident(&v.column)));
    let as_number = |v: &Value| Some(format!("{} AS {}", parsed(v, columns)?, number(v, columns)));
    inner.extend(source.values.iter().filter_map(as_number));

    let list = |items: &[String], indent: &str| items.join(&format!(",\n{indent}"));
    format!(
        "SELECT\n  {outer}\nFROM (\n  SELECT\n    {middle}\n  FROM (\n    SELECT\n      {inner}\n    \
         FROM unnest($1::int8[], $2::int8[]) AS range (lo, hi)\n    \
         CROSS JOIN LATERAL (\n      SELECT * FROM (\n{sql}\n      ) AS execution\n      \
         WHERE execution.id BETWEEN range.lo AND range.hi\n      ORDER BY execution.id\n      LIMIT {limit}\n    \
         ) AS execution\n    OFFSET 0\n  ) AS execution\n  OFFSET 0\n) AS execution\n\
         GROUP BY {keys}, done, known",
        limit = probe.limit,
        outer = list(&outer, "  "),
        middle = list(&middle, "    "),
        inner = list(&inner, "      "),
        sql = source.sql,
        keys = labels.join(", "),
    )
}

/// Whether a row has been counted before ids started again. Rows finish at most as late as now by a clock that may be
/// ahead; one that says otherwise was there before, more likely than not.
fn counted_before(known: &Known) -> String {
    let until = known.until;
    let new = format!("at > to_timestamp({until}) AND at <= clock_timestamp() + interval '1 hour'");
    let list = |pick: fn(&(i64, i64)) -> i64| {
        let ids: Vec<String> = known.uncounted.iter().map(|range| pick(range).to_string()).collect();
        format!("'{{{}}}'::int8[]", ids.join(","))
    };
    let (lo, hi) = (list(|r| r.0), list(|r| r.1));
    format!(
        "(done IS TRUE AND ({new}) IS NOT TRUE AND NOT EXISTS (SELECT FROM unnest({lo}, {hi}) AS uncounted (lo, hi) \
         WHERE execution.id BETWEEN uncounted.lo AND uncounted.hi))"
    )
}

/// Locks what the SELECT reads, against changes of the tables themselves, without reading it.
pub fn locks(source: &Source) -> String {
    format!("SELECT FROM (\n{}\n) AS execution LIMIT 0", source.sql)
}

/// Where the ids of a source come from: see [`crate::ledger::rewind::Sequence`] for the columns.
///
/// `pg_depend` leads from the sequence to the table that owns it, also for an identity column. Like the sequence itself,
/// its functions show what is there now, and not what the transaction's snapshot has.
pub fn sequence(name: &str) -> String {
    let name_literal = literal(name);
    format!(
        "SELECT CASE WHEN s.is_called THEN s.last_value ELSE s.last_value - 1 END::int8, c.oid::int8, \
         pg_relation_filenode(c.oid)::int8, pg_relation_filenode(t.oid)::int8 FROM {name} AS s CROSS JOIN pg_class AS c \
         LEFT JOIN pg_depend AS d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid \
         AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') \
         LEFT JOIN pg_class AS t ON t.oid = d.refobjid WHERE c.oid = {name_literal}::regclass"
    )
}

/// The statement of a poll with its parameters filled in, to paste into psql.
pub fn poll_filled_in(source: &Source, columns: &Columns, probe: &Probe) -> String {
    let list = |pick: fn(&(i64, i64)) -> i64| {
        let ids: Vec<String> = probe.ranges().iter().map(|range| pick(range).to_string()).collect();
        format!("'{{{}}}'::int8[]", ids.join(","))
    };
    let (lo, hi) = (list(|r| r.0), list(|r| r.1));
    // Only the composed part has parameters; a '$1' in the user's SELECT stays what it is.
    poll(source, columns, probe).replacen("unnest($1::int8[], $2::int8[])", &format!("unnest({lo}, {hi})"), 1)
}

fn array(kind: &str, name: &str, items: Vec<String>) -> String {
    format!("ARRAY[\n    {}\n  ]::{kind}[] AS {name}", items.join(",\n    "))
}

/// The name under which the valid number of a column stands beside the column itself.
fn valid(value: &Value) -> String {
    ident(&format!("{} (valid)", value.column))
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
        insta::assert_snapshot!(poll(&sources[1], &columns, &Probe { limit: 1000, ..Probe::default() }));
    }
}
