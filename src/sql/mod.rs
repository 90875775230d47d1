//! Composes the statements around the SELECT of a source. Pure text; nothing here talks to a database.

mod asked;
mod evidence;
pub mod history;
pub mod key;
pub mod keyed;
mod measure;
pub mod order;
mod poll;
pub mod series;
mod value;
pub mod view;
mod watch;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::source::{Source, Value};
pub use evidence::{LOCKED, evidence, locks};
pub use poll::{poll, poll_filled_in};
pub use value::is_int4;
pub use watch::{ids, watch, watch_keys, witnesses};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_survive_both_settings_of_standard_conforming_strings() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"a\b'c"), r"E'a\\b''c'");
        assert_eq!(ident("a\"b"), "\"a\"\"b\"");
    }
}
