//! The rows of a source as the exporter sees them: labels as they are exported, values only where they are valid.

use super::value::{valid_number, why};
use super::{Columns, SPACE, condition, ident, literal, named, own, valid};
use crate::ledger::{Labels, MAX_LABEL_BYTES, OVERFLOW};
use crate::source::key::Key;
use crate::source::{Source, Value};

/// The view's name in the statement around it.
pub const NAME: &str = "seen";

/// What a view shows beside `id`, `done` (NULL for a row that is not to be counted) and `at`.
#[derive(Clone, Debug, Default)]
pub struct View<'a> {
    /// Labels, each under its own name.
    pub labels: Vec<&'a str>,
    /// Labels compared only with short values: they need no cut.
    pub short: Vec<&'a str>,
    /// Value columns, each under the name that [`value`] gives it.
    pub values: Vec<&'a Value>,
    /// Boolean columns, each under the name that [`only`] gives it.
    pub only: Vec<&'a str>,
    /// The column with the time since which an open row has been there, under the name that [`since`] gives it.
    pub since: Option<&'a str>,
    /// Columns as text, each under the name that [`raw`] gives it; labels trimmed, and with what a missing one is.
    pub raw: Vec<&'a str>,
    /// Whether there is, for each value column, why its value was rejected, under the name that [`reason`] gives it.
    pub reasons: bool,
    /// The sets there are, when rows of others are counted as [`OVERFLOW`].
    pub sets: Option<Vec<&'a Labels>>,
    /// Follows the SELECT, which is called `execution`: a condition, an order, a limit.
    pub which: String,
    /// Of a source with a key of its own, only so many rows, behind so many newer ones: `id` then falls from newer to older.
    pub piece: Option<(i64, usize)>,
}

/// The name of the valid number of a value column.
pub fn value(column: &Value) -> String {
    valid(column)
}

/// The name of a boolean column that restricts metrics.
pub fn only(column: &str) -> String {
    condition(column)
}

/// The name of the time since which an open row has been there.
pub fn since(column: &str) -> String {
    super::since(column)
}

/// The name of a column as text.
pub fn raw(column: &str) -> String {
    named(column, "text")
}

/// The name of why the value of a column was rejected.
pub fn reason(column: &Value) -> String {
    named(&column.column, "reason")
}

/// Common table expressions, without `WITH`; the last one is called [`NAME`].
pub fn view(source: &Source, columns: &Columns, view: &View) -> String {
    // Without labels there is one set, which no limit folds into another.
    let sets = view.sets.as_ref().filter(|_| !source.labels.is_empty());
    let labels: Vec<&str> = match sets {
        // Which set a row belongs to takes all the labels that identify one.
        Some(_) => {
            let own = source.labels.iter().map(String::as_str);
            let more = view.labels.iter().copied().filter(|l| !source.labels.iter().any(|own| own == l));
            own.chain(more).collect()
        }
        None => view.labels.clone(),
    };
    let long: Vec<&str> = labels.iter().copied().filter(|l| sets.is_some() || !view.short.contains(l)).collect();
    let rest: Vec<String> = view.only.iter().map(|c| only(c)).chain(view.values.iter().map(|v| valid(v))).collect();
    let rest: Vec<String> = rest.into_iter().chain(view.since.map(since)).collect();
    let reasons: Vec<&Value> = if view.reasons { view.values.clone() } else { Vec::new() };
    let rest: Vec<String> = rest.into_iter().chain(view.raw.iter().map(|c| raw(c))).collect();
    let rest: Vec<String> = rest.into_iter().chain(reasons.iter().map(|v| reason(v))).collect();

    let done = match &source.count_if {
        Some(column) => format!("CASE WHEN {} THEN execution.done IS TRUE END AS done", own(column)),
        None => "execution.done IS TRUE AS done".to_owned(),
    };
    let id = match &source.key {
        None => "execution.id::int8".to_owned(),
        Some(key) if view.piece.is_some() => format!("-row_number() OVER ({})", newest_first(key)),
        Some(_) => "NULL::int8".to_owned(),
    };
    let mut list = vec![format!("{id} AS id"), done, "execution.at AS at".to_owned()];
    list.extend(source.key.iter().map(|key| format!("{} AS {KEY}", key_text(key))));
    list.extend(labels.iter().map(|l| format!("{} AS {}", label(source, l), ident(l))));
    list.extend(view.only.iter().map(|c| format!("{} AS {}", own(c), only(c))));
    list.extend(view.values.iter().map(|v| format!("{} AS {}", valid_number(v, columns), valid(v))));
    let is_label = |c: &str| source.labels.iter().chain(&source.by).any(|label| label == c);
    list.extend(view.since.map(|c| format!("{} AS {}", own(c), since(c))));
    let as_text = |c: &str| if is_label(c) { label(source, c) } else { format!("{}::text", own(c)) };
    list.extend(view.raw.iter().map(|c| format!("{} AS {}", as_text(c), raw(c))));
    list.extend(reasons.iter().map(|v| format!("{} AS {}", why(v, columns), reason(v))));
    let which = if view.which.is_empty() { String::new() } else { format!("{}\n  ", view.which) };
    // OFFSET 0 keeps values from being computed anew for every use.
    let rows = match (view.piece, &source.key) {
        (Some((offset, limit)), Some(key)) => {
            let order = newest_first(key);
            format!("SELECT * FROM (\n{}\n) AS execution\n{order}\nOFFSET {offset} LIMIT {limit}", source.sql)
        }
        _ => source.sql.clone(),
    };
    let first =
        format!("  SELECT\n    {}\n  FROM (\n{rows}\n  ) AS execution\n  {which}OFFSET 0", list.join(",\n    "));
    let mut levels = vec![("trimmed", first)];
    if !long.is_empty() {
        let cuts = labels.iter().map(|l| if long.contains(l) { cut(l) } else { ident(l) });
        levels.push(("cut", level(source, cuts, &rest, levels[levels.len() - 1].0)));
    }
    if let Some(sets) = sets {
        levels.push(("known", known(source, sets)));
        let same: Vec<_> = source.labels.iter().map(|l| format!("known.{0} = cut.{0}", ident(l))).collect();
        let folds = labels.iter().map(|l| match source.labels.iter().any(|own| own == l) {
            true => format!(
                "CASE WHEN EXISTS (SELECT FROM known WHERE {}) THEN {1} ELSE {2} END AS {1}",
                same.join(" AND "),
                ident(l),
                literal(OVERFLOW)
            ),
            false => ident(l),
        });
        levels.push(("folded", level(source, folds, &rest, "cut")));
    }
    let last = levels.len() - 1;
    levels[last].0 = NAME;
    let columns = source.labels.iter().map(|l| ident(l)).collect::<Vec<_>>().join(", ");
    let levels = levels.iter().map(|(name, text)| match *name {
        "known" => format!("known ({columns}) AS (\n{text}\n)"),
        name => format!("{name} AS (\n{text}\n)"),
    });
    levels.collect::<Vec<_>>().join(", ")
}

/// The text of a row's key in a view of a source with a key of its own.
pub const KEY: &str = "\"(key)\"";

/// What is shown of a row for its id: that, or the text of its key.
pub fn shown_id(source: &Source) -> String {
    if source.key.is_some() { KEY.to_owned() } else { "id::text".to_owned() }
}

fn key_text(key: &Key) -> String {
    let columns: Vec<String> = key.columns.iter().map(|column| format!("{}::text", own(column))).collect();
    if columns.len() == 1 { columns.concat() } else { format!("concat_ws(',', {})", columns.join(", ")) }
}

fn newest_first(key: &Key) -> String {
    let place: Vec<String> = key.place().map(|column| format!("{} DESC", own(column))).collect();
    format!("ORDER BY {}", place.join(", "))
}

/// The condition on `execution` that a row has an id, or a key whose columns are given with commas between them; nothing
/// if no row can have it.
pub fn has_id(source: &Source, columns: &Columns, id: &str) -> Option<String> {
    let Some(key) = &source.key else {
        return id.parse::<i64>().ok().map(|id| format!("execution.id = {id}"));
    };
    let values: Vec<&str> = if key.columns.len() == 1 { vec![id] } else { id.split(',').collect() };
    let is = |(column, value): (&String, &&str)| {
        format!("{} = {}::{}", own(column), literal(value.trim()), super::asked::type_name(columns, column))
    };
    let all: Vec<String> = key.columns.iter().zip(&values).map(is).collect();
    (values.len() == key.columns.len()).then(|| all.join(" AND "))
}

fn level(source: &Source, labels: impl Iterator<Item = String>, rest: &[String], from: &str) -> String {
    let fixed = ["id", "done", "at"].into_iter().chain(source.key.iter().map(|_| KEY)).map(str::to_owned);
    let list: Vec<String> = fixed.chain(labels).chain(rest.iter().cloned()).collect();
    format!("  SELECT\n    {}\n  FROM {from}", list.join(",\n    "))
}

/// What a label is: trimmed, and something when it is missing, as [`Source::label`] has it.
fn label(source: &Source, column: &str) -> String {
    format!("coalesce(nullif(btrim({}::text, {SPACE}), ''), {})", own(column), literal(source.missing(column)))
}

/// A label cut to the length it has in metrics, between two characters.
fn cut(label: &str) -> String {
    let label = ident(label);
    // A character has at most four bytes.
    format!(
        "CASE WHEN octet_length({label}) <= {MAX_LABEL_BYTES} THEN {label} ELSE (SELECT max(left({label}, \"(n)\")) FROM \
         generate_series({}, {MAX_LABEL_BYTES}) AS \"(n)\" WHERE octet_length(left({label}, \"(n)\")) <= {MAX_LABEL_BYTES}) \
         END AS {label}",
        MAX_LABEL_BYTES / 4
    )
}

fn known(source: &Source, sets: &[&Labels]) -> String {
    let row = |set: &&Labels| {
        let values: Vec<_> = set.iter().map(|v| literal(v)).collect();
        format!("({})", values.join(", "))
    };
    let rows: Vec<_> = sets.iter().map(row).collect();
    if rows.is_empty() {
        let nothing = vec!["NULL::text"; source.labels.len()].join(", ");
        return format!("  SELECT {nothing} WHERE false");
    }
    format!("  VALUES\n    {}", rows.join(",\n    "))
}

/// Whether a value compared with a label tells whether the label has it also without the cut.
pub fn is_short(value: &str) -> bool {
    // A label that was cut has at least this many bytes less three, of a character that did not fit.
    value.len() < MAX_LABEL_BYTES - 3
}
