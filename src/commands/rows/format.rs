//! How rows are written: for people, for spreadsheets, for programs.

use std::fmt::Write;

use super::{Head, Listing};
use crate::commands::text_table::{Column, is_obeyed, table};
use crate::sql::ColumnType;

/// The column that says when.
const AT: &str = "at";

/// The formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A table as wide as the terminal, or as it needs.
    Table,
    /// RFC 4180, with nothing in it that a spreadsheet would take for a formula.
    Csv,
    /// One array of objects.
    Json,
}

impl Format {
    /// The format of one of these names.
    pub fn of(name: &str) -> Self {
        match name {
            "csv" => Self::Csv,
            "json" => Self::Json,
            _ => Self::Table,
        }
    }
}

impl Listing {
    /// The rows as text; a table gets at most `width` columns of a terminal.
    pub fn render(&self, format: Format, width: usize) -> String {
        match format {
            Format::Table => self.table(width),
            Format::Csv => self.csv(),
            Format::Json => self.json(),
        }
    }

    fn table(&self, width: usize) -> String {
        if self.rows.is_empty() {
            return "no rows\n".to_owned();
        }
        let at = self.columns.iter().position(|head| head.name == AT);
        let shown: Vec<usize> = (0..self.columns.len()).filter(|&i| !self.columns[i].known).collect();
        let column = |&i: &usize| {
            let Head { name, kind, .. } = &self.columns[i];
            let number = *kind == ColumnType::Number;
            // Half a number is another number, and half a time says little.
            Column { name: name.clone(), right: number, cut: !number && Some(i) != at }
        };
        let columns: Vec<Column> = shown.iter().map(column).collect();
        let cell = |row: &[Option<String>], i: usize| match (i, row[i].as_deref().unwrap_or_default()) {
            // To the second, so that more columns fit.
            (i, time) if Some(i) == at => {
                time.split_once('.').map_or(time.to_owned(), |(seconds, _)| format!("{seconds}Z"))
            }
            (_, text) => text.to_owned(),
        };
        let row = |row: &Vec<Option<String>>| shown.iter().map(|&i| cell(row, i)).collect();
        let rows: Vec<Vec<String>> = self.rows.iter().map(row).collect();
        let (mut text, left_out) = table(&columns, &rows, width);
        if left_out > 0 {
            let columns = if left_out == 1 { "1 column".to_owned() } else { format!("{left_out} columns") };
            let _ = writeln!(text, "(and {columns} more: in a wider terminal, a pipe or --format csv)");
        }
        text
    }

    fn csv(&self) -> String {
        let field = |text: &str| {
            let text = no_formula(text);
            match text.contains(['"', ',', '\r', '\n']) {
                true => format!("\"{}\"", text.replace('"', "\"\"")),
                false => text,
            }
        };
        let names = self.columns.iter().map(|head| field(&head.name)).collect::<Vec<_>>();
        let rows =
            self.rows.iter().map(|row| row.iter().map(|cell| field(cell.as_deref().unwrap_or_default())).collect());
        std::iter::once(names).chain(rows).map(|line: Vec<_>| line.join(",") + "\r\n").collect()
    }

    fn json(&self) -> String {
        let mut text = "[".to_owned();
        for (i, row) in self.rows.iter().enumerate() {
            text.push_str(if i == 0 { "\n  {" } else { ",\n  {" });
            for (i, (Head { name, kind, .. }, cell)) in self.columns.iter().zip(row).enumerate() {
                let comma = if i == 0 { "" } else { ", " };
                let _ = write!(text, "{comma}{}: {}", string(name), value(*kind, cell.as_deref()));
            }
            text.push('}');
        }
        text.push_str(if self.rows.is_empty() { "]\n" } else { "\n]\n" });
        // Between values there are only line feeds, and in texts JSON has an escape for everything.
        let escape = |c: char| match c {
            '\n' => c.to_string(),
            c if is_obeyed(c) => format!("\\u{:04x}", u32::from(c)),
            c => c.to_string(),
        };
        text.chars().map(escape).collect()
    }
}

/// The text with a `'` before what a spreadsheet would take for a formula. What is a number is none.
fn no_formula(text: &str) -> String {
    let begins = text.trim_start().starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']);
    if begins && text.parse::<f64>().is_err() { format!("'{text}") } else { text.to_owned() }
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

    fn listing() -> Listing {
        let columns = [("id", ColumnType::Number), ("at", ColumnType::Text), ("value", ColumnType::Number)];
        let more = [("repo", ColumnType::Text), ("data", ColumnType::Json), ("pr", ColumnType::Boolean)];
        let row = |cells: [Option<&str>; 6]| cells.map(|cell| cell.map(str::to_owned)).to_vec();
        Listing {
            columns: columns.into_iter().chain(more).map(|(name, kind)| Head::new(name, kind)).collect(),
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
        let all = [Format::Table, Format::Csv, Format::Json].map(|format| listing().render(format, 80));
        insta::assert_snapshot!(all.join("--\n").replace('\r', "<CR>"));
    }

    #[test]
    fn a_spreadsheet_finds_no_formula() {
        for (text, expected) in [
            ("=HYPERLINK(\"http://evil.example\")", "'=HYPERLINK(\"http://evil.example\")"),
            ("+1+cmd|' /C calc'!A0", "'+1+cmd|' /C calc'!A0"),
            ("-2+3", "'-2+3"),
            ("@SUM(1)", "'@SUM(1)"),
            (" =1", "' =1"),
            ("\t=1", "'\t=1"),
            ("＝1", "'＝1"),
            ("-1.5e-3", "-1.5e-3"),
            ("-infinity", "-infinity"),
            ("a=b", "a=b"),
        ] {
            assert_eq!(no_formula(text), expected);
        }
    }

    #[test]
    fn json_is_the_same_without_what_a_terminal_obeys() {
        let mut listing = listing();
        let hostile = "\u{1b}[2J\u{9b}31m\u{7f}\u{202e}\u{feff}é";
        listing.rows[0][3] = Some(hostile.to_owned());
        listing.rows[0][4] = Some(format!("{{\"k\": \"{}\"}}", &hostile[4..]));
        let text = listing.render(Format::Json, 80);
        assert!(!text.contains(|c| c != '\n' && is_obeyed(c)), "{text:?}");
        let read: serde_json::Value = serde_json::from_str(&text.replace("1e400", "1")).unwrap();
        assert_eq!((read[0]["repo"].as_str(), read[0]["data"]["k"].as_str()), (Some(hostile), Some(&hostile[4..])));
    }
}
