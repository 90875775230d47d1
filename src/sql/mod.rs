//! Composes the statements around the SELECT of a source. Pure text; nothing here talks to a database.

pub mod history;
pub mod key;
pub mod keyed;
pub mod order;
pub mod series;
mod value;
pub mod view;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::ledger::MAX_LABEL_BYTES;
use crate::ledger::frontier::{Range, ReadPlan};
use crate::source::key::Key;
use crate::source::{Count, Source, Sum, Value};
pub use value::is_int4;
use value::{bounded, number, parsed, rejection};

/// White space that is trimmed from numbers that came as strings, and from labels by [`Source::label`] too.
const SPACE: &str = r"E' \t\n\r\f\x0B'";
/// What names a row in an exemplar is no exemplar with more characters, see [`Source::exemplars`].
const MAX_EXEMPLAR: usize = 129;
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
/// been counted before: those that finished by `$3` (seconds since the epoch) of their range, where there is such a time,
/// and all if it is infinite. Of a range with a mask in `$4`, only the rows of its bits.
///
/// The SELECT stands inside a LATERAL with ORDER BY and LIMIT, so that the only sensible plan is the one wanted, whatever
/// the statistics say: for each range, a descent into the primary key. Each `OFFSET 0` keeps what is below from being
/// computed anew for every use above: a number is taken out of JSON or text once, and compared with its bounds once.
/// Labels are trimmed, and cut to a length from which [`Source::label`] and the ledger make what is exported; the ledger
/// adds up groups that turn out to be the same.
pub fn poll(source: &Source, columns: &Columns, plan: &ReadPlan) -> String {
    let labels: Vec<String> = source.row_labels().map(ident).collect();
    let values = |f: &dyn Fn(&Value) -> String| source.values.iter().map(f).collect::<Vec<_>>();

    let keys = || labels.iter().cloned().chain(["done".to_owned(), KNOWN.to_owned()]);
    let mut outer: Vec<String> = keys().collect();
    outer.push("array_agg(id) AS ids".to_owned());
    outer.push("array_agg(date_part('epoch', at)) AS ats".to_owned());
    outer.push(
        "extract(epoch FROM max(at) FILTER (WHERE done AND isfinite(at) AND at <= clock_timestamp()))::float8 AS newest"
            .to_owned(),
    );
    outer.push(array("int8", "counts", source.counts.iter().map(|c| count(source, c)).collect()));
    let (small, large): (Vec<&Sum>, Vec<&Sum>) = source.sums.iter().partition(|sum| is_int4(&source.values[sum.value]));
    outer.push(array("int8", "whole", small.iter().map(|s| exact_sum(source, s, columns)).collect()));
    outer.push(array(
        "text",
        "sums",
        large.iter().map(|s| format!("({})::text", exact_sum(source, s, columns))).collect(),
    ));
    outer.push(array("int8", "rejected", values(&|v| rejection(v, columns))));
    let oldest =
        |c: &String| format!("date_part('epoch', min({0}) FILTER (WHERE NOT done AND isfinite({0})))", since(c));
    outer.push(array("float8", "oldest", source.since.iter().map(oldest).collect()));
    outer.extend(rows(source));

    let mut middle: Vec<String> = ["id", "done", KNOWN, "at"].map(str::to_owned).into();
    middle.extend(labels.clone());
    middle.extend(source.since.iter().map(|c| since(c)));
    middle.extend(source.exemplar_column().map(exemplar));
    middle.extend(source.only().into_iter().map(condition));
    middle.extend(values(&|v| column(v)));
    middle.extend(source.values.iter().filter(|v| parsed(v, columns).is_some()).map(|v| number(v, columns)));
    middle.extend(values(&|v| format!("{} AS {}", bounded(v, &number(v, columns), "done"), valid(v))));

    let before = "(range.until IS NOT NULL AND (range.until = 'infinity' OR execution.done IS TRUE \
                  AND (extract(epoch FROM execution.at) > range.until) IS NOT TRUE))";
    let before = plan.ranges.iter().any(|range| range.2.is_some()).then(|| before.to_owned());
    let known: Vec<String> = before.into_iter().chain(left_out(source)).collect();
    let known = if known.is_empty() { "false".to_owned() } else { known.join(" OR ") };
    let mut inner: Vec<String> = vec![
        format!("{} AS id", number_of_row(source)),
        "execution.done IS TRUE AS done".to_owned(),
        format!("{known} AS {KNOWN}"),
        "execution.at AS at".to_owned(),
    ];
    inner.extend(labels.iter().map(|l| format!("{} AS {l}", short(l))));
    inner.extend(source.since.iter().map(|c| format!("{} AS {}", own(c), since(c))));
    inner
        .extend(source.exemplar_column().map(|c| format!("left({}::text, {MAX_EXEMPLAR}) AS {}", own(c), exemplar(c))));
    inner.extend(source.only().into_iter().map(|c| format!("{} AS {}", own(c), condition(c))));
    inner.extend(values(&|v| format!("{} AS {}", own(&v.column), column(v))));
    let as_number = |v: &Value| Some(format!("{} AS {}", parsed(v, columns)?, number(v, columns)));
    inner.extend(source.values.iter().filter_map(as_number));

    let list = |items: &[String], indent: &str| items.join(&format!(",\n{indent}"));
    format!(
        "SELECT\n  {outer}\nFROM (\n  SELECT\n    {middle}\n  FROM (\n    SELECT\n      {inner}\n    \
         FROM {rows}\n    OFFSET 0\n  ) AS execution\n  OFFSET 0\n) AS execution\n\
         GROUP BY {keys}",
        outer = list(&outer, "  "),
        middle = list(&middle, "    "),
        inner = list(&inner, "      "),
        rows = match &source.key {
            Some(key) => keyed::asked(source, key, columns),
            None => in_ranges(source, plan),
        },
        keys = keys().collect::<Vec<_>>().join(", "),
    )
}

/// The ranges of [`poll`]: parameters and names.
const RANGES: [&str; 2] = ["$1::int8[], $2::int8[], $3::float8[]", "lo, hi, until"];
const MASKED_RANGES: [&str; 2] = ["$1::int8[], $2::int8[], $3::float8[], $4::bytea[]", "lo, hi, until, mask"];

/// Follows FROM: the rows whose ids are in the ranges of a plan.
fn in_ranges(source: &Source, plan: &ReadPlan) -> String {
    let [ranges, parts] = if plan.masks.is_empty() { RANGES } else { MASKED_RANGES };
    // The planner takes `<> 0` for true of nearly all rows, and plans as if there were no masks.
    let is_meant = " AND (range.mask IS NULL OR get_bit(range.mask, (execution.id - range.lo)::int4) <> 0)";
    let masked = if plan.masks.is_empty() { "" } else { is_meant };
    format!(
        "unnest({ranges}) AS range ({parts})\n    \
         CROSS JOIN LATERAL (\n      SELECT * FROM (\n{}\n      ) AS execution\n      \
         WHERE execution.id BETWEEN range.lo AND range.hi{masked}\n      ORDER BY execution.id\n      LIMIT {}\n    \
         ) AS execution",
        source.sql, plan.limit,
    )
}

/// The number under which a row answers: its id, or the place at which its key was asked for.
fn number_of_row(source: &Source) -> &'static str {
    if source.key.is_some() { "asked.n" } else { "execution.id::int8" }
}

/// That a row is left out by the source's own choice.
fn left_out(source: &Source) -> Option<String> {
    source.count_if.as_ref().map(|column| format!("{} IS NOT TRUE", own(column)))
}

/// A label as text. What is long is trimmed and cut here: to four more characters than bytes are kept, so that the cut of
/// [`crate::ledger::cut`] falls where it would without.
fn short(label: &str) -> String {
    let (text, longest) = (format!("execution.{label}::text"), MAX_LABEL_BYTES + 4);
    format!("CASE WHEN octet_length({text}) > {longest} THEN left(btrim({text}, {SPACE}), {longest}) ELSE {text} END")
}

/// Which ids of the ranges `$1` to `$2` (inclusive, at most `limit` of each) are there, by whether their rows are done,
/// by the labels of gauges of open rows, and by whether the source leaves them out. Of rows that are not done, each with
/// the times since which it has been there: the ranges hold counted ids, too, and only the ledger knows which are open.
pub fn watch(source: &Source, limit: usize) -> String {
    watched(
        source,
        &format!(
            "unnest($1::int8[], $2::int8[]) AS range (lo, hi)\n  \
             CROSS JOIN LATERAL (\n    SELECT * FROM (\n{}\n    ) AS execution\n    \
             WHERE execution.id BETWEEN range.lo AND range.hi\n    ORDER BY execution.id\n    LIMIT {limit}\n  ) AS execution",
            source.sql,
        ),
    )
}

/// The same of the rows whose keys are asked for.
pub fn watch_keys(source: &Source, key: &Key, columns: &Columns) -> String {
    watched(source, &keyed::asked(source, key, columns))
}

fn watched(source: &Source, rows: &str) -> String {
    let labels: Vec<String> = source.open_labels().iter().map(|l| ident(l)).collect();
    let named: String = labels.iter().map(|l| format!(",\n    {} AS {l}", short(l))).collect();
    let named: String = source
        .since
        .iter()
        .fold(named, |named, c| format!("{named},\n    date_part('epoch', {}) AS {}", own(c), since(c)));
    let times = |c: &String| format!(", array_agg({}) FILTER (WHERE NOT done)", since(c));
    let times: String = source.since.iter().map(times).collect();
    let keys: String = labels.iter().map(|l| format!("{l}, ")).collect();
    let known = left_out(source).unwrap_or_else(|| "false".to_owned());
    format!(
        "SELECT {keys}done, array_agg(id) AS ids, {KNOWN}{times}\nFROM (\n  SELECT\n    {} AS id,\n    \
         execution.done IS TRUE AS done,\n    {known} AS {KNOWN}{named}\n  FROM {rows}\n\
         ) AS execution\nGROUP BY {keys}done, {KNOWN}",
        number_of_row(source),
    )
}

/// The rows under the ids `$1`: when they finished, and their labels.
pub fn witnesses(source: &Source) -> String {
    let labels: String = source.row_labels().map(|l| format!(",\n  {}", short(&ident(l)))).collect();
    format!(
        "SELECT execution.id::int8,\n  date_part('epoch', execution.at){labels}\nFROM unnest($1::int8[]) AS witness (id)\n\
         CROSS JOIN LATERAL (\n  SELECT * FROM (\n{}\n  ) AS execution\n  WHERE execution.id = witness.id\n  LIMIT 2\n) AS execution",
        source.sql,
    )
}

/// The ids of the ranges `$1` to `$2` (inclusive, at most `limit` of each) with what `$3` says of their range; nothing else
/// of the rows is computed.
pub fn ids(source: &Source, limit: usize) -> String {
    format!(
        "SELECT execution.id::int8, range.until\nFROM unnest($1::int8[], $2::int8[], $3::float8[]) AS range (lo, hi, until)\n\
         CROSS JOIN LATERAL (\n  SELECT execution.id FROM (\n{}\n  ) AS execution\n  \
         WHERE execution.id BETWEEN range.lo AND range.hi\n  ORDER BY execution.id\n  LIMIT {limit}\n) AS execution",
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
    let mut filled =
        vec![list("int8", &|r| r.0.to_string()), list("int8", &|r| r.1.to_string()), list("float8", &until)];
    let hex = |mask: &Vec<u8>| mask.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mask = |mask: &Option<Vec<u8>>| mask.as_ref().map_or("NULL".to_owned(), |m| format!("'\\x{}'", hex(m)));
    let masks: Vec<String> = plan.masks.iter().map(mask).collect();
    filled.extend((!masks.is_empty()).then(|| format!("ARRAY[{}]::bytea[]", masks.join(", "))));
    // Only the composed part has parameters; a '$1' in the user's SELECT stays what it is.
    let ranges = if masks.is_empty() { RANGES } else { MASKED_RANGES };
    poll(source, columns, plan).replacen(ranges[0], &filled.join(", "), 1)
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

/// The name of the time since which an open row has been there.
fn since(column: &str) -> String {
    named(column, "since")
}

/// The name of what names a row in exemplars.
fn exemplar(column: &str) -> String {
    named(column, "exemplar")
}

/// The name of a boolean column that restricts metrics.
fn condition(column: &str) -> String {
    named(column, "condition")
}

/// A sum that loses nothing, see [`crate::ledger::decimal`].
fn exact_sum(source: &Source, sum: &Sum, columns: &Columns) -> String {
    let value = &source.values[sum.value];
    let only = sum.only.as_ref().map(|c| format!(" AND {}", condition(c))).unwrap_or_default();
    // The number itself and not the `float8` beside it, which has fewer digits than `numeric`.
    match (value.integer, only.as_str()) {
        (true, "") => format!("coalesce(sum({}), 0)", valid(value)),
        (true, _) => format!("coalesce(sum({}) FILTER (WHERE true{only}), 0)", valid(value)),
        (false, _) => {
            let number = number(value, columns);
            format!("coalesce(sum({number}::numeric) FILTER (WHERE {} IS NOT NULL{only}), 0)", valid(value))
        }
    }
}

/// The rows of a group one by one, in the order of their ids: what names them, their values, and the columns that restrict
/// metrics. For native histograms, as the logarithms that would put values into buckets here are wrong on bounds, and for
/// exemplars.
fn rows(source: &Source) -> Vec<String> {
    let list = |item: String| format!("coalesce(array_agg({item}) FILTER (WHERE done), '{{}}')");
    if !source.needs_rows() {
        return Vec::new();
    }
    let values = source.values.iter().map(|value| list(format!("{}::float8", valid(value))));
    let only = source.only().into_iter().map(|c| list(format!("{} IS TRUE", condition(c))));
    let names = source.exemplar_column().map(|column| list(exemplar(column)));
    names.into_iter().chain(values).chain(only).collect()
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
        insta::assert_snapshot!(poll(&sources[1], &columns, &ReadPlan { limit: 1000, ..ReadPlan::default() }));
    }
}
