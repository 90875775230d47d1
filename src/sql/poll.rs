//! The statement of a poll.

use super::asked::asked;
use super::measure::{array, count, exact_sum, rows};
use super::value::{bounded, is_int4, number, parsed, rejection};
use super::{Columns, KNOWN, MAX_EXEMPLAR, SPACE, column, condition, exemplar, ident, own, since, valid};
use crate::ledger::MAX_LABEL_BYTES;
use crate::ledger::frontier::{Range, ReadPlan};
use crate::source::{Source, Sum, Value};

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
            Some(key) => asked(source, key, columns),
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
pub(super) fn number_of_row(source: &Source) -> &'static str {
    if source.key.is_some() { "asked.n" } else { "execution.id::int8" }
}

/// That a row is left out by the source's own choice.
pub(super) fn left_out(source: &Source) -> Option<String> {
    source.count_if.as_ref().map(|column| format!("{} IS NOT TRUE", own(column)))
}

/// A label as text. What is long is trimmed and cut here: to four more characters than bytes are kept, so that the cut of
/// [`crate::ledger::cut`] falls where it would without.
pub(super) fn short(label: &str) -> String {
    let (text, longest) = (format!("execution.{label}::text"), MAX_LABEL_BYTES + 4);
    format!("CASE WHEN octet_length({text}) > {longest} THEN left(btrim({text}, {SPACE}), {longest}) ELSE {text} END")
}

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

#[cfg(test)]
mod tests {
    use super::super::{Column, ColumnType};
    use super::*;

    #[test]
    fn the_statement_of_a_poll() {
        let sources = Source::shipped().unwrap();
        let columns = [("duration_ms", ColumnType::Number), ("trust_score", ColumnType::Jsonb)];
        let columns = columns.map(|(name, kind)| (name.to_owned(), Column { kind, type_name: String::new() })).into();
        insta::assert_snapshot!(poll(&sources[1], &columns, &ReadPlan { limit: 1000, ..ReadPlan::default() }));
    }
}
