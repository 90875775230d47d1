//! How rows are written: for people, for spreadsheets, for programs.

use std::fmt::Write;

use super::Listing;
use crate::question::Question;
use crate::sql::ColumnType;
use crate::table::{Column, WIDTH, table};

/// The formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A table of at most 80 columns.
    Table,
    /// RFC 4180.
    Csv,
    /// One array of objects.
    Json,
}

impl Format {
    /// The format of this name.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "table" => Some(Self::Table),
            "csv" => Some(Self::Csv),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

impl Listing {
    /// The rows as text.
    pub fn render(&self, format: Format, question: &Question) -> String {
        match format {
            Format::Table => self.table(question),
            Format::Csv => self.csv(),
            Format::Json => self.json(),
        }
    }

    /// Labels that the selector fixes are the same in every row, and left out.
    fn table(&self, question: &Question) -> String {
        if self.rows.is_empty() {
            return "no rows\n".to_owned();
        }
        let shown: Vec<usize> =
            (0..self.columns.len()).filter(|&i| question.pinned(&self.columns[i].0).is_none()).collect();
        let columns: Vec<Column> = shown
            .iter()
            .map(|&i| Column {
                name: self.columns[i].0.clone(),
                right: self.columns[i].1 == ColumnType::Number,
                cut: i > 2,
            })
            .collect();
        let cell = |row: &[Option<String>], i: usize| match (i, row[i].as_deref().unwrap_or_default()) {
            // To the second, so that more columns fit.
            (1, at) => at.split_once('.').map_or(at.to_owned(), |(seconds, _)| format!("{seconds}Z")),
            (_, text) => text.to_owned(),
        };
        let row = |row: &Vec<Option<String>>| shown.iter().map(|&i| cell(row, i)).collect();
        let rows: Vec<Vec<String>> = self.rows.iter().map(row).collect();
        let (mut text, left_out) = table(&columns, &rows, WIDTH);
        if left_out > 0 {
            let names: Vec<_> = columns[columns.len() - left_out..].iter().map(|c| c.name.as_str()).collect();
            let _ = writeln!(text, "(without {}: --format csv or json has them)", names.join(", "));
        }
        text
    }

    fn csv(&self) -> String {
        let field = |text: &str| match text.contains(['"', ',', '\r', '\n']) {
            true => format!("\"{}\"", text.replace('"', "\"\"")),
            false => text.to_owned(),
        };
        let names = self.columns.iter().map(|(name, _)| field(name)).collect::<Vec<_>>();
        let rows =
            self.rows.iter().map(|row| row.iter().map(|cell| field(cell.as_deref().unwrap_or_default())).collect());
        std::iter::once(names).chain(rows).map(|line: Vec<_>| line.join(",") + "\r\n").collect()
    }

    fn json(&self) -> String {
        let mut text = "[".to_owned();
        for (i, row) in self.rows.iter().enumerate() {
            text.push_str(if i == 0 { "\n  {" } else { ",\n  {" });
            for (i, ((name, kind), cell)) in self.columns.iter().zip(row).enumerate() {
                let comma = if i == 0 { "" } else { ", " };
                let _ = write!(text, "{comma}{}: {}", string(name), value(*kind, cell.as_deref()));
            }
            text.push('}');
        }
        text.push_str(if self.rows.is_empty() { "]\n" } else { "\n]\n" });
        text
    }
}

/// Numbers and JSON stay what they are, digit for digit.
fn value(kind: ColumnType, cell: Option<&str>) -> String {
    match (kind, cell) {
        (_, None) => "null".to_owned(),
        (ColumnType::Number, Some(text)) if !text.contains(|c: char| c.is_alphabetic() && c != 'e') => text.to_owned(),
        (ColumnType::Json | ColumnType::Jsonb, Some(text)) => text.to_owned(),
        (ColumnType::Boolean, Some(text)) => if text.starts_with('t') { "true" } else { "false" }.to_owned(),
        (_, Some(text)) => string(text),
    }
}

fn string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;

    fn listing() -> Listing {
        let columns = [("id", ColumnType::Number), ("at", ColumnType::Text), ("value", ColumnType::Number)];
        let more = [("repo", ColumnType::Text), ("data", ColumnType::Json), ("pr", ColumnType::Boolean)];
        let row = |cells: [Option<&str>; 6]| cells.map(|cell| cell.map(str::to_owned)).to_vec();
        Listing {
            columns: columns.into_iter().chain(more).map(|(name, kind)| (name.to_owned(), kind)).collect(),
            rows: vec![
                row([
                    Some("2"),
                    Some("infinity"),
                    Some("NaN"),
                    Some("a,\"b\"\r\n\u{1b}[0m"),
                    Some("{\"n\": 1e400}"),
                    Some("true"),
                ]),
                row([Some("1"), Some("2026-01-01T00:00:00.000Z"), Some("1e-07"), Some("é"), None, Some("false")]),
            ],
            notes: Vec::new(),
        }
    }

    #[test]
    fn every_format_keeps_what_is_in_a_row() {
        let sources = Source::shipped().unwrap();
        let question = Question::parse("rsolv_validation_executions_total", &sources).unwrap();
        let all = [Format::Table, Format::Csv, Format::Json].map(|format| listing().render(format, &question));
        insta::assert_snapshot!(all.join("--\n").replace('\r', "<CR>"));
    }
}
