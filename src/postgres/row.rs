//! A row of an answer.

use std::error::Error;

use tokio_postgres::types::{FromSql, Type};

use super::failure::Failure;

/// A row of an answer.
#[derive(Debug)]
pub struct Row(tokio_postgres::Row);

impl From<tokio_postgres::Row> for Row {
    fn from(row: tokio_postgres::Row) -> Self {
        Self(row)
    }
}

impl Row {
    /// A column, by its position.
    ///
    /// # Errors
    /// Fails if the column is of another type, or NULL where `T` has no NULL.
    pub fn get<'a, T: FromSql<'a>>(&'a self, column: usize) -> Result<T, Failure> {
        self.try_get(column).map_err(|e| Failure::of_query(&e))
    }

    /// As [`Row::get`], with the client's own error.
    pub(super) fn try_get<'a, T: FromSql<'a>>(&'a self, column: usize) -> Result<T, tokio_postgres::Error> {
        self.0.try_get(column)
    }

    /// The columns, to be taken one after the other.
    pub fn cells(&self) -> Cells<'_> {
        Cells { row: self, next: 0 }
    }
}

/// The columns of a row, in their order: whoever takes them needs not know where they stand.
#[derive(Clone, Copy, Debug)]
pub struct Cells<'a> {
    row: &'a Row,
    next: usize,
}

impl<'a> Cells<'a> {
    /// The next column.
    ///
    /// # Errors
    /// Fails if there is none, if it is of another type, or NULL where `T` has no NULL.
    pub fn take<T: FromSql<'a>>(&mut self) -> Result<T, Failure> {
        let column = self.next;
        self.next += 1;
        self.row.get(column)
    }

    /// What follows on so many columns.
    pub fn skip(self, columns: usize) -> Self {
        Self { next: self.next + columns, ..self }
    }

    /// The next columns as text.
    ///
    /// # Errors
    /// Fails if there are fewer, or one of them is no text.
    pub fn texts(&mut self, columns: usize) -> Result<Vec<String>, Failure> {
        (0..columns).map(|_| self.take::<Lossy>().map(|text| text.0)).collect()
    }
}

/// Text whose bytes need not be UTF-8, as in a database with the encoding SQL_ASCII.
#[derive(Debug)]
pub struct Lossy(pub String);

impl<'a> FromSql<'a> for Lossy {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(String::from_utf8_lossy(raw).into_owned()))
    }

    fn accepts(kind: &Type) -> bool {
        <&str as FromSql>::accepts(kind)
    }
}
