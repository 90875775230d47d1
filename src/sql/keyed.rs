//! The statements for a source whose rows have a key of any type, and are found along an order or by transactions.
//!
//! Keys travel as text, which every type can be made from: a row is asked for by its key through the unique index, and
//! answers under the number at which its key was asked for.

use super::asked::type_name;
use super::order::Order;
use super::{Columns, own};
use crate::source::Source;
use crate::source::key::{Key, Way};

/// Where a scan of keys begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the first row that has an order at all.
    Beginning,
    /// At the value `$1`, see [`Order::value`].
    From,
    /// Behind the row whose place ([`Key::place`]) is in the parameters.
    After,
}

/// At most so many keys of rows in the order in which they appear: the columns of the place as text, and what
/// [`Order::tick`] reads.
///
/// Along an order, those from a start on. By transactions, those that `$1` sees and `$2` does not, if there is a `$2`;
/// the parameters of [`Start::After`] follow.
pub fn keys(source: &Source, key: &Key, columns: &Columns, start: Start, is_first: bool, limit: usize) -> String {
    let place: Vec<&str> = key.place().collect();
    let mut list: Vec<String> = place.iter().map(|column| format!("{}::text", own(column))).collect();
    let order = own(key.order());
    let (mut conditions, mut used) = (Vec::new(), 0);
    match Order::of_key(key, columns) {
        Some(kind) => {
            list.push(kind.sql(key.order()));
            match start {
                Start::Beginning => conditions.push(format!("{order} IS NOT NULL")),
                Start::From => conditions.push(format!("{order} >= {}", kind.bound(type_name(columns, key.order())))),
                Start::After => {}
            }
        }
        None => {
            list.push("'0'".to_owned());
            conditions.push(format!("pg_visible_in_snapshot({order}, $1::pg_snapshot)"));
            used = 1;
            if !is_first {
                conditions.push(format!(
                    "{order} >= pg_snapshot_xmin($2::pg_snapshot) AND NOT pg_visible_in_snapshot({order}, $2::pg_snapshot)"
                ));
                used = 2;
            }
        }
    }
    if start == Start::After {
        let own: Vec<String> = place.iter().map(|column| own(column)).collect();
        let cast = |(i, column): (usize, &&str)| format!("${}::{}", i + 1 + used, type_name(columns, column));
        let last: Vec<String> = place.iter().enumerate().map(cast).collect();
        conditions.push(format!("({}) > ({})", own.join(", "), last.join(", ")));
    }
    let by: Vec<String> = place.iter().map(|column| own(column)).collect();
    format!(
        "SELECT {}\nFROM (\n{}\n) AS execution\nWHERE {}\nORDER BY {}\nLIMIT {limit}",
        list.join(", "),
        source.sql,
        conditions.join("\n  AND "),
        by.join(", "),
    )
}

/// The statement that reads rows as a whole, for the keys of the first rows, to paste into psql.
pub fn poll_filled_in(source: &Source, key: &Key, columns: &Columns, limit: usize) -> String {
    let mut keys = keys(source, key, columns, Start::Beginning, true, limit);
    if key.is_by_xid() {
        keys = keys.replacen("$1::pg_snapshot", "pg_current_snapshot()", 1);
    }
    poll_of(source, key, columns, &keys)
}

/// The same for the keys that a statement returns, the columns of the place first.
pub fn poll_of(source: &Source, key: &Key, columns: &Columns, keys: &str) -> String {
    let place: Vec<&str> = key.place().collect();
    let names: Vec<String> = (1..=place.len() + 1).map(|i| format!("place_{i}")).collect();
    let parameter = |i: usize| format!("${}::text[]", i + 1);
    let list = |column: &String| {
        let at = place.iter().position(|name| name == column).unwrap_or_default();
        format!("ARRAY(SELECT {} FROM (\n{keys}\n) AS scan ({}))", names[at], names.join(", "))
    };
    let parameters: Vec<String> = (0..key.columns.len()).map(parameter).collect();
    let lists: Vec<String> = key.columns.iter().map(list).collect();
    let (asked, filled) = (format!("unnest({})", parameters.join(", ")), format!("unnest({})", lists.join(", ")));
    super::poll(source, columns, &crate::ledger::frontier::ReadPlan::default()).replacen(&asked, &filled, 1)
}

/// The keys of the newest rows, as [`keys`] returns them, the newest first.
pub fn latest(source: &Source, key: &Key, columns: &Columns, limit: i64) -> String {
    let mut list: Vec<String> = key.place().map(|column| format!("{}::text", own(column))).collect();
    list.push(Order::of_key(key, columns).map_or("'0'".to_owned(), |order| order.sql(key.order())));
    let by: Vec<String> = key.place().map(|column| format!("{} DESC", own(column))).collect();
    format!(
        "SELECT {}\nFROM (\n{}\n) AS execution\nWHERE {} IS NOT NULL\nORDER BY {}\nLIMIT {limit}",
        list.join(", "),
        source.sql,
        own(key.order()),
        by.join(", "),
    )
}

/// The last value of the order, as [`Order::tick`] reads it.
pub fn newest(source: &Source, key: &Key, order: Order) -> String {
    let column = own(key.order());
    format!(
        "SELECT {}\nFROM (\n{}\n) AS execution\nWHERE {column} IS NOT NULL\nORDER BY {column} DESC\nLIMIT 1",
        order.sql(key.order()),
        source.sql
    )
}

/// A statement whose plan shows how the SELECT comes by its key and `done`; it is never run. The condition is one that the
/// planner cannot know, and that costs nothing to estimate.
pub fn plan(source: &Source, key: &Key, columns: &Columns) -> String {
    let nothing = |column: &String| {
        let type_name = type_name(columns, column);
        format!("{} = CASE WHEN {} > 0 THEN NULL::{type_name} END", own(column), super::key::MARK)
    };
    let same: Vec<String> = key.columns.iter().map(nothing).collect();
    format!(
        "SELECT execution.*, {} AS \"(key)\" FROM (\n{}\n) AS execution WHERE {}",
        own(&key.columns[0]),
        source.sql,
        same.join(" AND ")
    )
}

/// The same without a condition: the columns of the place, and `done`.
pub fn plan_of_all(source: &Source, key: &Key) -> String {
    let list: Vec<String> = key.place().chain(["done"]).map(own).collect();
    format!("SELECT {} FROM (\n{}\n) AS execution", list.join(", "), source.sql)
}

/// What the catalog has about a table, given as schema and name (`$1`, `$2`), and about expressions on it (`$3`, without
/// spaces and parentheses; the order is the first): the table or the one whose partition it is, whether a unique index has
/// nothing but the other expressions, or the order too if `$4`, or what says in which partition a row is; whether an index
/// begins with the order; the columns that can be NULL; and whether rows come from another server by subscription.
pub fn catalog() -> &'static str {
    "WITH RECURSIVE own AS (
      SELECT t.oid FROM pg_catalog.pg_class AS t JOIN pg_catalog.pg_namespace AS n ON n.oid = t.relnamespace
      WHERE n.nspname = $1 AND t.relname = $2
    ), up AS (
      SELECT oid, 0 AS depth FROM own
      UNION ALL SELECT h.inhparent, depth + 1 FROM up JOIN pg_catalog.pg_inherits AS h ON h.inhrelid = up.oid
    ), part AS (
      SELECT translate(quote_ident(a.attname), '() ', '') AS name
      FROM up JOIN pg_catalog.pg_partitioned_table AS p ON p.partrelid = up.oid
      JOIN pg_catalog.pg_attribute AS a ON a.attrelid = p.partrelid AND a.attnum = ANY (p.partattrs::int2[])
    ), index AS (
      SELECT i.indisunique AS is_unique, ARRAY(
        SELECT translate(pg_catalog.pg_get_indexdef(i.indexrelid, n, true), '() ', '') FROM generate_series(1, i.indnkeyatts) AS n
      ) AS keys
      FROM own JOIN pg_catalog.pg_index AS i ON i.indrelid = own.oid
      WHERE i.indisvalid AND i.indpred IS NULL
    )
    SELECT (SELECT oid::regclass::text FROM up ORDER BY depth DESC LIMIT 1),
      EXISTS (SELECT FROM index WHERE is_unique AND keys <@ (CASE WHEN $4 THEN $3 ELSE $3[2:] END || ARRAY(SELECT name FROM part))
        AND keys && (CASE WHEN $4 THEN $3 ELSE $3[2:] END)),
      EXISTS (SELECT FROM index WHERE keys[1] = $3[1]),
      ARRAY(
        SELECT translate(quote_ident(a.attname), '() ', '') FROM own JOIN pg_catalog.pg_attribute AS a ON a.attrelid = own.oid
        WHERE a.attnum > 0 AND NOT a.attisdropped AND NOT a.attnotnull
      ),
      EXISTS (SELECT FROM up JOIN pg_catalog.pg_subscription_rel AS s ON s.srrelid = up.oid)"
}

/// Whether a row that is done has no place in the order, where it would never be found.
pub fn has_no_place(source: &Source, key: &Key) -> String {
    let is_null: Vec<String> = key.place().map(|column| format!("{} IS NULL", own(column))).collect();
    format!(
        "SELECT EXISTS (SELECT FROM (\n{}\n) AS execution WHERE execution.done AND ({}))",
        source.sql,
        is_null.join(" OR ")
    )
}

/// Whether a row that can be seen has the id of a transaction that has not begun: it comes from another server.
pub fn has_foreign(source: &Source, key: &Key) -> String {
    format!(
        "SELECT EXISTS (SELECT FROM (\n{}\n) AS execution WHERE {} >= pg_snapshot_xmax(pg_current_snapshot()))",
        source.sql,
        own(key.order())
    )
}

impl Key {
    /// True if new rows are found by transactions.
    pub fn is_by_xid(&self) -> bool {
        matches!(self.way, Way::Xid { .. })
    }
}
