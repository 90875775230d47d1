//! The statements that look for rows under ids or keys, without their measures.

use super::asked::asked;
use super::poll::{left_out, number_of_row, short};
use super::{Columns, KNOWN, ident, own, since};
use crate::source::Source;
use crate::source::key::Key;

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
    watched(source, &asked(source, key, columns))
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
