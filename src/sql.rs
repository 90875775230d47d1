//! Composes the statements around the SELECT of a source. Pure text; nothing here talks to a database.

pub mod history;
pub mod key;
pub mod series;
mod value;
pub mod view;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::ledger::Probe;
use crate::ledger::rewind::Known;
use crate::source::{Count, Source, Sum, Value};
use value::{bounded, number, parsed, rejection};

/// White space that is trimmed from numbers that came as strings, and from labels by [`Source::label`] too.
const SPACE: &str = r"E' \t\n\r\f\x0B'";
/// PostgreSQL cuts longer names.
const MAX_NAME_BYTES: usize = 63;

/// How the value of a column is turned into a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// Any SQL number.
    Number,
    /// `json` holding a number or a string: kept as it was written, and so not necessarily something that can be decoded.
    Json,
    /// `jsonb` holding a number or a string.
    Jsonb,
    /// `boolean`.
    Boolean,
    /// `interval`, in seconds.
    Interval,
    /// A date, with or without a time.
    Time,
    /// Types whose text can be a number, such as `text` or an enum.
    Text,
    /// Types that never hold a number, such as `money` or `uuid`.
    Other,
}

/// A column of a SELECT, as the database describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// How its value is turned into a number.
    pub kind: ColumnType,
    /// Its type as PostgreSQL calls it; of a domain, the type below.
    pub type_name: String,
}

/// The columns of a SELECT by name.
pub type Columns = BTreeMap<String, Column>;

/// An SQL identifier.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The name of what the statements make of a column.
///
/// Columns of the SELECT are read as `execution.NAME` and nowhere else, so that none of them can be meant by ours. No two
/// columns share such a name: PostgreSQL would cut a long one, which therefore has a hash in place of its end.
pub fn named(column: &str, what: &str) -> String {
    let name = format!("{column} ({what})");
    if name.len() <= MAX_NAME_BYTES {
        return ident(&name);
    }
    let mut hasher = DefaultHasher::new();
    column.hash(&mut hasher);
    ident(&format!("{}… {:016x} ({what})", &column[..column.floor_char_boundary(24)], hasher.finish()))
}

/// A column of the SELECT.
fn own(column: &str) -> String {
    format!("execution.{}", ident(column))
}

/// Whether a row has been counted before, or is not to be counted at all: the ledger sees it and adds nothing.
const KNOWN: &str = "\"(known)\"";

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
        format!("SELECT ARRAY(SELECT json_object_keys(row_to_json(execution.*))) FROM (SELECT execution.* {NONE}");
    (format!("{before}{}{NONE_END}) AS execution", source.sql), before.chars().count())
}

/// A query that returns the types of these columns of the SELECT, without reading the table: object id, name and
/// category. Domains are followed to the type below.
///
/// The driver would look up types that it does not know by prepared statements, which break behind a pooler.
pub fn types(source: &Source, names: &[&String]) -> String {
    let types: Vec<String> = names.iter().map(|name| format!("pg_typeof({})", own(name))).collect();
    format!(
        "WITH RECURSIVE type (place, oid) AS (\n\
         SELECT place, oid FROM (SELECT ARRAY[{}]::oid[] AS oids {NONE}{}{NONE_END}) AS types \
         CROSS JOIN LATERAL unnest(oids) WITH ORDINALITY AS type (oid, place)\n\
         UNION ALL\nSELECT place, t.typbasetype FROM type JOIN pg_catalog.pg_type AS t USING (oid) WHERE t.typbasetype <> 0)\n\
         SELECT oid::int8, format_type(oid, NULL), t.typcategory::text FROM type JOIN pg_catalog.pg_type AS t USING (oid) \
         WHERE t.typbasetype = 0 ORDER BY place",
        types.join(", "),
        source.sql
    )
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

    let keys = || labels.iter().cloned().chain(["done".to_owned(), KNOWN.to_owned()]);
    let mut outer: Vec<String> = keys().collect();
    outer.push("array_agg(id) AS ids".to_owned());
    outer.push(
        "extract(epoch FROM max(at) FILTER (WHERE done AND isfinite(at) AND at <= clock_timestamp()))::float8 AS newest"
            .to_owned(),
    );
    outer.push(array("int8", "counts", source.counts.iter().map(|c| count(source, c)).collect()));
    outer.push(array("float8", "sums", source.sums.iter().map(|s| sum(source, s)).collect()));
    outer.push(array("int8", "rejected", values(&|v| rejection(v, columns))));

    let mut middle: Vec<String> = ["id", "done", KNOWN, "at"].map(str::to_owned).into();
    middle.extend(labels.clone());
    middle.extend(source.only().into_iter().map(condition));
    middle.extend(values(&|v| column(v)));
    middle.extend(values(&|v| format!("{} AS {}", bounded(v, &number(v, columns), "done"), valid(v))));

    let known = probe.known.as_ref().map(counted_before).into_iter();
    let left_out = source.count_if.as_ref().map(|c| format!("{} IS NOT TRUE", own(c)));
    let known: Vec<String> = known.chain(left_out).collect();
    let known = if known.is_empty() { "false".to_owned() } else { known.join(" OR ") };
    let mut inner: Vec<String> = vec![
        "execution.id::int8 AS id".to_owned(),
        "execution.done IS TRUE AS done".to_owned(),
        format!("{known} AS {KNOWN}"),
        "execution.at AS at".to_owned(),
    ];
    inner.extend(labels.iter().map(|l| format!("execution.{l}::text AS {l}")));
    inner.extend(source.only().into_iter().map(|c| format!("{} AS {}", own(c), condition(c))));
    inner.extend(values(&|v| format!("{} AS {}", own(&v.column), column(v))));
    let as_number = |v: &Value| Some(format!("{} AS {}", parsed(v, columns)?, number(v, columns)));
    inner.extend(source.values.iter().filter_map(as_number));

    let list = |items: &[String], indent: &str| items.join(&format!(",\n{indent}"));
    format!(
        "SELECT\n  {outer}\nFROM (\n  SELECT\n    {middle}\n  FROM (\n    SELECT\n      {inner}\n    \
         FROM unnest($1::int8[], $2::int8[]) AS range (lo, hi)\n    \
         CROSS JOIN LATERAL (\n      SELECT * FROM (\n{sql}\n      ) AS execution\n      \
         WHERE execution.id BETWEEN range.lo AND range.hi\n      ORDER BY execution.id\n      LIMIT {limit}\n    \
         ) AS execution\n    OFFSET 0\n  ) AS execution\n  OFFSET 0\n) AS execution\n\
         GROUP BY {keys}",
        limit = probe.limit,
        outer = list(&outer, "  "),
        middle = list(&middle, "    "),
        inner = list(&inner, "      "),
        sql = source.sql,
        keys = keys().collect::<Vec<_>>().join(", "),
    )
}

/// Whether a row has been counted before ids started again. Rows finish at most as late as now by a clock that may be
/// ahead; one that says otherwise was there before, more likely than not.
fn counted_before(known: &Known) -> String {
    let until = known.until;
    let new = format!("execution.at > to_timestamp({until}) AND execution.at <= clock_timestamp() + interval '1 hour'");
    let list = |pick: fn(&(i64, i64)) -> i64| {
        let ids: Vec<String> = known.uncounted.iter().map(|range| pick(range).to_string()).collect();
        format!("'{{{}}}'::int8[]", ids.join(","))
    };
    let (lo, hi) = (list(|r| r.0), list(|r| r.1));
    format!(
        "(execution.done IS TRUE AND ({new}) IS NOT TRUE AND NOT EXISTS (SELECT FROM unnest({lo}, {hi}) AS uncounted (lo, hi) \
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

/// The name of a value column as it stands.
fn column(value: &Value) -> String {
    named(&value.column, "column")
}

/// The name of the valid number of a value column.
fn valid(value: &Value) -> String {
    named(&value.column, "valid")
}

/// The name of a boolean column that restricts metrics.
fn condition(column: &str) -> String {
    named(column, "condition")
}

fn sum(source: &Source, sum: &Sum) -> String {
    let filter = sum.only.as_ref().map(|c| format!(" FILTER (WHERE {})", condition(c))).unwrap_or_default();
    // Only rows that are done have valid values. Sums of `bigint` are `numeric`, which takes longer, and to no end: what
    // is exported is `float8`, exact up to 2^53.
    format!("coalesce(sum({}::float8){filter}, 0)", valid(&source.values[sum.value]))
}

fn count(source: &Source, count: &Count) -> String {
    // Inclusive, as Prometheus defines `le`; width_bucket would put a value on a bound into the next bucket.
    let counted = match (count.value.map(|value| valid(&source.values[value])), count.le) {
        (Some(valid), Some(le)) => format!("{valid} <= {le}"),
        (Some(valid), None) => format!("{valid} IS NOT NULL"),
        (None, _) => "done".to_owned(),
    };
    let only = count.only.as_ref().map(|c| format!(" AND {}", condition(c))).unwrap_or_default();
    format!("count(*) FILTER (WHERE {counted}{only})")
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
        let columns = [("duration_ms", ColumnType::Number), ("trust_score", ColumnType::Jsonb)];
        let columns = columns.map(|(name, kind)| (name.to_owned(), Column { kind, type_name: String::new() })).into();
        insta::assert_snapshot!(poll(&sources[1], &columns, &Probe { limit: 1000, ..Probe::default() }));
    }
}
