//! Rows that are asked for by their keys.

use super::{Columns, ident};
use crate::source::Source;
use crate::source::key::Key;

/// The type of a column as a cast has it.
pub(super) fn type_name<'c>(columns: &'c Columns, column: &str) -> &'c str {
    match columns.get(column).map_or("text", |column| column.type_name.as_str()) {
        // Without a length these are cut to one character, or one bit.
        "character" => "bpchar",
        "bit" => "varbit",
        other => other,
    }
}

/// Follows FROM: the rows whose keys are in the parameters, an array of text for each column of the key, with `asked.n`,
/// the number at which a key stands there. Two rows of one key are both shown.
pub(super) fn asked(source: &Source, key: &Key, columns: &Columns) -> String {
    let parameters: Vec<String> = (1..=key.columns.len()).map(|i| format!("${i}::text[]")).collect();
    let names: Vec<String> = (1..=key.columns.len()).map(|i| format!("key_{i}")).collect();
    let same = |(i, column): (usize, &String)| {
        format!("execution.{} = asked.key_{}::{}", ident(column), i + 1, type_name(columns, column))
    };
    let same: Vec<String> = key.columns.iter().enumerate().map(same).collect();
    format!(
        "unnest({}) WITH ORDINALITY AS asked ({}, n)\n    CROSS JOIN LATERAL (\n      SELECT * FROM (\n{}\n      ) AS execution\n      \
         WHERE {}\n      LIMIT 2\n    ) AS execution",
        parameters.join(", "),
        names.join(", "),
        source.sql,
        same.join(" AND "),
    )
}
