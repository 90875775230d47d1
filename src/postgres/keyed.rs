//! What a poll asks of a source whose rows have a key of their own; inside [`Session::with_savepoint`].

use tokio_postgres::types::Type;

use super::decode;
use super::failure::{Failure, Reason};
use super::row::Row;
use super::session::{Parameter, Session, in_file};
use crate::ledger::key_window::{self, Place, Start};
use crate::ledger::{Group, Seen};
use crate::source::Source;
use crate::source::key::Key;
use crate::sql::order::Order;
use crate::sql::{self, Columns, keyed};

/// Which keys to scan.
#[derive(Clone, Copy, Debug)]
pub struct Scan<'a> {
    /// Where to begin.
    pub start: &'a Start,
    /// True if letters of the order are small, if it is text.
    pub is_small: bool,
    /// By transactions: those that this snapshot sees …
    pub sees: Option<&'a str>,
    /// … and this one does not.
    pub saw: Option<&'a str>,
    /// At most so many.
    pub limit: usize,
}

impl Session {
    /// The order of a source along which new rows appear; none if they are found by transactions.
    ///
    /// # Errors
    /// Fails if the source was not prepared.
    pub fn order(&self, source: &Source, key: &Key) -> Result<Option<Order>, Failure> {
        Ok(Order::of_key(key, self.columns(source)?))
    }

    /// The keys of rows, in the order in which they appear.
    ///
    /// # Errors
    /// Fails if the server does, or if a key is NULL.
    pub async fn scan(&self, source: &Source, key: &Key, scan: Scan<'_>) -> Result<Vec<Place>, Failure> {
        scan_keys(self, source, key, self.columns(source)?, scan).await
    }

    /// The last tick of the order, if there is a row.
    ///
    /// # Errors
    /// Fails if the server does.
    pub async fn newest(&self, source: &Source, key: &Key, order: Order) -> Result<Option<i64>, Failure> {
        let rows = self.rows(&keyed::newest(source, key, order), &[]).await.map_err(|f| in_file(source, None, f))?;
        let Some(row) = rows.first() else { return Ok(None) };
        let text: String = row.get(0)?;
        tick(source, key, Some(order), &text).map(Some)
    }

    /// Which of these keys are there: their numbers, from 1 on.
    ///
    /// # Errors
    /// Fails if the server does.
    pub async fn seen_keys(&self, source: &Source, key: &Key, keys: &[&key_window::Key]) -> Result<Vec<Seen>, Failure> {
        let lists = columns(key, keys);
        let parameters: Vec<Parameter<'_>> = lists.iter().map(|list| (list as _, Type::TEXT_ARRAY)).collect();
        let rows = self.rows(&sql::watch_keys(source, key, self.columns(source)?), &parameters).await;
        rows.map_err(|failure| in_file(source, None, failure))?.iter().map(|row| decode::seen(source, row)).collect()
    }

    /// The rows of these keys, whose ids are their numbers, from 1 on.
    ///
    /// # Errors
    /// Fails if the server does.
    pub async fn read_keys(
        &self,
        source: &Source,
        key: &Key,
        keys: &[&key_window::Key],
    ) -> Result<Vec<Group>, Failure> {
        read_keys(self, source, key, self.columns(source)?, keys).await
    }

    /// The snapshot of the transaction, for a source whose rows are found by the transactions that inserted them.
    ///
    /// # Errors
    /// Fails if the server does, or if rows have ids that it has not given.
    pub async fn snapshot(&self, source: &Source, key: &Key) -> Result<String, Failure> {
        let foreign = self.query_one(&keyed::has_foreign(source, key)).await.map_err(|f| in_file(source, None, f))?;
        if foreign.get(0)? {
            // Looked at from the beginning, it is told what to do.
            let message = format!("{}.toml: xid: rows have ids of transactions that have not begun here", source.name);
            return Err(Failure::new(Reason::Missing, message));
        }
        self.query_one("SELECT pg_current_snapshot()::text").await?.get(0)
    }
}

/// The keys of rows of a source with these columns.
///
/// # Errors
/// Fails if the SELECT does.
pub async fn scan_keys(
    session: &Session,
    source: &Source,
    key: &Key,
    columns: &Columns,
    scan: Scan<'_>,
) -> Result<Vec<Place>, Failure> {
    let order = Order::of_key(key, columns);
    let bound = match (scan.start, order) {
        (Start::From(tick), Some(order)) => order.value(*tick, scan.is_small),
        _ => None,
    };
    let start = match (scan.start, &bound) {
        (Start::After(_), _) => keyed::Start::After,
        (Start::From(_), Some(_)) => keyed::Start::From,
        _ => keyed::Start::Beginning,
    };
    let mut parameters: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> = Vec::new();
    if order.is_none() {
        scan.sees.iter().for_each(|snapshot| parameters.push(snapshot));
        scan.saw.iter().for_each(|snapshot| parameters.push(snapshot));
    }
    bound.iter().for_each(|bound| parameters.push(bound));
    if let Start::After(place) = scan.start {
        place.iter().for_each(|text| parameters.push(text));
    }
    let parameters: Vec<Parameter<'_>> = parameters.into_iter().map(|parameter| (parameter, Type::TEXT)).collect();
    let statement = keyed::keys(source, key, columns, start, scan.saw.is_none(), scan.limit);
    let rows = session.rows(&statement, &parameters).await.map_err(|failure| in_file(source, None, failure))?;
    rows.iter().map(|row| place(source, key, order, row)).collect()
}

/// The keys of rows that a statement such as [`keyed::latest`] returns.
///
/// # Errors
/// Fails if the server does, or if a key is NULL.
pub async fn latest(
    session: &Session,
    source: &Source,
    key: &Key,
    columns: &Columns,
    statement: &str,
) -> Result<Vec<Place>, Failure> {
    let rows = session.rows(statement, &[]).await.map_err(|failure| in_file(source, None, failure))?;
    rows.iter().map(|row| place(source, key, Order::of_key(key, columns), row)).collect()
}

/// The rows of keys of a source with these columns.
///
/// # Errors
/// Fails if the SELECT does, or gives what cannot be counted.
pub async fn read_keys(
    session: &Session,
    source: &Source,
    key: &Key,
    known: &Columns,
    keys: &[&key_window::Key],
) -> Result<Vec<Group>, Failure> {
    let lists = columns(key, keys);
    let parameters: Vec<Parameter<'_>> = lists.iter().map(|list| (list as _, Type::TEXT_ARRAY)).collect();
    let statement = sql::poll(source, known, &crate::ledger::frontier::ReadPlan::default());
    let rows = session.rows(&statement, &parameters).await.map_err(|failure| in_file(source, None, failure))?;
    rows.iter().map(|row| decode::group(source, row)).collect()
}

fn columns<'k>(key: &Key, keys: &[&'k key_window::Key]) -> Vec<Vec<&'k str>> {
    (0..key.columns.len()).map(|i| keys.iter().map(|key| key[i].as_str()).collect()).collect()
}

fn place(source: &Source, key: &Key, order: Option<Order>, row: &Row) -> Result<Place, Failure> {
    let names: Vec<&str> = key.place().collect();
    let text = |i: usize| -> Result<String, Failure> {
        let text: Option<String> = row.get(i)?;
        text.ok_or_else(|| {
            let name = names.get(i).unwrap_or(&"key");
            Failure::new(Reason::Missing, format!("{}.sql: \"{name}\" is NULL, and is part of the key", source.name))
        })
    };
    let place = (0..names.len()).map(text).collect::<Result<Vec<String>, Failure>>()?;
    let of_key = |column: &String| {
        let at = names.iter().position(|name| name == column).unwrap_or_default();
        place[at].clone()
    };
    let tick = tick(source, key, order, &text(names.len())?)?;
    Ok(Place { key: key.columns.iter().map(of_key).collect(), place, tick })
}

fn tick(source: &Source, key: &Key, order: Option<Order>, text: &str) -> Result<i64, Failure> {
    let Some(order) = order else { return Ok(0) };
    order.tick(text).ok_or_else(|| {
        let what = if order == Order::Uuid { "UUID of version 7" } else { "ULID" };
        let message = format!(
            "{}.sql: a value of \"{}\", the order, is no {what}, and says nothing of when its row appeared: use a time, or xid",
            source.name,
            key.order()
        );
        Failure::new(Reason::Missing, message)
    })
}
