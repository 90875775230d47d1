//! From a table to the text of a definition: which columns mean what, by their names, types and values.

use super::table::{Column, Kind, Table};
use super::words::{COMMON, ENDS, EVENTS, FLAGS, STARTS, STATES, is_open, label, metric, word};
use crate::commands::buckets::{Distribution, toml_string as toml};
use crate::sql::{ident, literal};

/// Bounds, in seconds, where there is nothing to go by.
const SECONDS: [f64; 9] = [0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0];
/// More labels are seldom wanted.
const LABELS: usize = 3;

/// A definition, and what goes with it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Draft {
    /// The name of the pair of files.
    pub name: String,
    /// The SELECT.
    pub sql: String,
    /// The metrics.
    pub toml: String,
    /// What must be known about it.
    pub notes: Vec<String>,
    /// What gives the role what it needs.
    pub grants: Vec<String>,
}

/// How it is known that a row is finished.
enum Done<'a> {
    /// By its state.
    State(&'a Column),
    /// By the time of its end.
    Ended(&'a Column),
    /// By a flag.
    Flag(&'a Column),
    /// A row is written when all is over.
    Always,
}

impl Draft {
    /// The definition of a table.
    pub fn of(table: &Table) -> Self {
        let name = word(&table.name);
        let mut draft = Self { name: name.clone(), ..Self::default() };
        let mut used: Vec<&Column> = Vec::new();
        let keyed = table.keyed();
        let key = table.key().filter(|_| keyed.is_none());
        match &keyed {
            Some((columns, order)) => {
                draft.keyed(table, columns, order);
                used.extend(columns);
                used.push(order);
            }
            None => draft.key(table, key),
        }
        used.extend(key);

        let state = table.named(&STATES).filter(|c| c.kind == Kind::Text);
        let ended = time(table, &ENDS);
        let flag = table.named(&FLAGS).filter(|c| c.kind == Kind::Boolean);
        let done = match (state, ended, flag) {
            (Some(state), None, _) => Done::State(state),
            (Some(state), Some(_), _) if state.values.iter().any(is_open) => Done::State(state),
            (_, Some(ended), _) if !ended.not_null => Done::Ended(ended),
            (Some(state), _, _) => Done::State(state),
            (None, _, Some(flag)) => Done::Flag(flag),
            _ => Done::Always,
        };
        let any_time = || table.columns.iter().find(|c| is_time(c));
        let updated = table.named(&["updated_at"]).filter(|c| is_time(c));
        let at = match (&done, ended) {
            (Done::Always, Some(ended)) => Some(ended),
            (Done::Always, None) => time(table, &EVENTS).or_else(any_time),
            (_, Some(ended)) => Some(ended),
            (_, None) => updated.or_else(|| time(table, &EVENTS)).or_else(any_time),
        };

        let mut columns: Vec<String> = Vec::new();
        match &keyed {
            Some((key, order)) => {
                columns.extend(key.iter().zip(names(key)).map(|(column, name)| format!("{} AS {name}", own(column))));
                columns.push(format!("{} AS appeared", own(order)));
            }
            None => columns.push(format!("{} AS id", key.map_or("…".to_owned(), own))),
        }
        columns.push(format!("{} AS done", done.sql()));
        used.extend(done.column());
        columns.push(match (at, updated) {
            (Some(at), Some(updated)) if at.name != updated.name && !at.not_null => {
                used.push(updated);
                format!("coalesce({}, {}) AS at", instant(at), instant(updated))
            }
            (Some(at), _) => format!("{} AS at", instant(at)),
            (None, _) => "NULL::timestamptz AS at".to_owned(),
        });
        used.extend(at);
        let since = since(table, &done, at);
        match since.as_slice() {
            [] => {}
            [since] => columns.push(format!("{} AS since", instant(since))),
            all => {
                let all: Vec<String> = all.iter().map(|column| instant(column)).collect();
                columns.push(format!("coalesce({}) AS since", all.join(", ")));
            }
        }
        used.extend(&since);
        let state_label = state.map(|state| label(&state.name));
        if let (Some(state), Some(label)) = (state, &state_label) {
            columns.push(format!("{} AS {label}", own(state)));
            used.push(state);
        }
        let is_used = |column: &Column, used: &[&Column]| used.iter().any(|other| other.name == column.name);
        let is_label = |column: &&Column| {
            matches!(column.kind, Kind::Text | Kind::Boolean)
                && !column.is_primary
                && !column.is_reference
                && (!column.values.is_empty() || column.type_name == "boolean")
                && !is_used(column, &used)
        };
        let labels: Vec<&Column> = table.columns.iter().filter(is_label).take(LABELS).collect();
        columns.extend(labels.iter().map(|column| format!("{} AS {}", own(column), label(&column.name))));
        used.extend(&labels);
        let span = span(table);
        if let Some((start, end)) = span {
            columns.push(format!("{} AS duration_seconds", duration(start, end)));
            used.extend([start, end]);
        }
        let sums = |column: &&Column| {
            matches!(column.kind, Kind::Integer | Kind::Number | Kind::Interval)
                && column.numbers.total() > 0
                && !column.is_negative
                && !column.is_primary
                && !column.is_reference
                && !column.name.ends_with("_id")
                && !is_used(column, &used)
        };
        let values: Vec<&Column> = table.columns.iter().filter(sums).collect();
        columns.extend(values.iter().map(|column| format!("{} AS {}", own(column), value(column))));
        used.extend(&values);

        draft.sql = format!(
            "-- One row per row of {0}: {2} identifies it, \"done\" says that it is finished and can be counted, \"at\" says\n\
             -- when that was. Every state that is not the end must be named. No WHERE: what is not finished is watched until it is,\n\
             -- and what must not count is left out by count_if in the TOML. Paste it into psql to see what the exporter sees.\nSELECT\n  {1}\nFROM {0} AS t\n",
            table.qualified,
            columns.join(",\n  "),
            keyed.as_ref().map_or("\"id\"".to_owned(), |(key, _)| quoted(&names(key))),
        );
        draft.toml(table, key, &done, state_label.as_deref(), &labels, &values, span.is_some(), !since.is_empty(), at);
        draft.grant(table, key, &used);
        draft
    }

    /// What has to be known of a key with an order.
    fn keyed(&mut self, table: &Table, key: &[&Column], order: &Column) {
        self.notes.push(format!(
            "rows are identified by {} and found along {}: \"late\" in the TOML must be longer than the longest transaction that \
             inserts; doc/definitions.md has other ways",
            quoted(&key.iter().map(|column| column.name.clone()).collect::<Vec<_>>()),
            order.name
        ));
        if !order.is_indexed {
            let columns: Vec<String> = std::iter::once(&order).chain(key).map(|column| ident(&column.name)).collect();
            self.notes.push(format!(
                "no index begins with {}, which every poll needs: CREATE INDEX CONCURRENTLY ON {} ({});",
                order.name,
                table.qualified,
                columns.join(", ")
            ));
        }
    }

    fn key(&mut self, table: &Table, key: Option<&Column>) {
        match key {
            Some(key) if key.kind == Kind::Integer && key.is_unique && key.not_null => {}
            Some(key) if key.kind == Kind::Integer && !key.is_unique => self.notes.push(format!(
                "{} has no integer column that is unique by itself, and {} is not: check says what can be done",
                table.qualified, key.name
            )),
            Some(key) if key.kind == Kind::Integer => {
                self.notes.push(format!("{} can be NULL, and such rows are not counted: make it NOT NULL", key.name));
            }
            Some(key) => self.notes.push(format!(
                "the key {} is {}: check says how the table gets an integer that grows as rows are inserted",
                key.name, key.type_name
            )),
            None => {
                self.notes.push(format!("{} has no key: select an integer that is unique as \"id\"", table.qualified))
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "each is found once, above, and used here alone")]
    fn toml(
        &mut self,
        table: &Table,
        key: Option<&Column>,
        done: &Done<'_>,
        state: Option<&str>,
        labels: &[&Column],
        values: &[&Column],
        has_duration: bool,
        has_since: bool,
        at: Option<&Column>,
    ) {
        let (name, qualified) = (metric(&self.name), &table.qualified);
        let list = |items: &[String]| items.iter().map(|item| toml(item)).collect::<Vec<_>>().join(", ");
        let label_names: Vec<String> = labels.iter().map(|column| label(&column.name)).collect();
        let mut text = format!(
            "# What is exported from the rows of {}.sql.\n\n# On every counter and histogram; columns with few values.\n\
             labels = [{}]\n",
            self.name,
            list(&label_names)
        );
        if let Some((key, _)) = table.keyed() {
            text += "# What identifies a row, the column along which new ones appear, and how far behind the newest one another can\n\
                     # still appear: longer than the longest transaction that inserts.\n";
            text += &format!("key = [{}]\norder = \"appeared\"\nlate = \"10m\"\n", quoted(&names(&key)));
        }
        if let Some(sequence) = key.and_then(|key| key.sequence.as_ref()) {
            text += "# Tells a table whose ids start again (restored, truncated) from one that goes on.\n";
            text += &format!("sequence = {}\n", toml(sequence));
        }
        text += "# Only rows where this boolean column of the SELECT is true are counted:\n# count_if = \"wanted\"\n";
        if has_duration || !values.is_empty() {
            text += "\n# Values outside these bounds are rejected: counted as such, and left out of sums and histograms.\n[columns]\n";
            if has_duration {
                text += "duration_seconds = { min = 0 }\n";
            }
            for column in values {
                let integer = if column.kind == Kind::Integer { "integer = true, " } else { "" };
                text += &format!("{} = {{ {integer}min = 0 }}\n", value(column));
            }
        }
        let what = if matches!(done, Done::Always) { "Rows" } else { "Finished rows" };
        text +=
            &format!("\n[[counter]]\nname = \"{name}_total\"\nhelp = {}\n", toml(&format!("{what} of {qualified}.")));
        let (open, ended): (Vec<String>, Vec<String>) = match done {
            Done::State(state) => state.values.iter().cloned().partition(is_open),
            _ => (Vec::new(), Vec::new()),
        };
        if let Some(state) = state {
            text += &format!("labels = [\"{state}\"]\n");
            if !ended.is_empty() {
                text += &format!("enumerate = {{ {state} = [{}] }}\n", list(&ended));
            }
        }
        if has_duration {
            text += &format!(
                "\n[[histogram]]\nname = \"{name}_duration_seconds\"\nhelp = {}\nunit = \"seconds\"\nvalue = \"duration_seconds\"\n\
                 buckets = [{}]\n",
                toml(&format!("Time from the start to the end of rows of {qualified}.")),
                numbers(&bounds(&table.durations, false))
            );
        }
        for column in values {
            let (of, bounds) = (value(column), bounds(&column.numbers, column.kind == Kind::Integer));
            text += &format!(
                "\n[[histogram]]\nname = \"{name}_{of}\"\nhelp = {}\nvalue = \"{of}\"\nbuckets = [{}]\n",
                toml(&format!("{} of finished rows of {qualified}.", column.name)),
                numbers(&bounds)
            );
        }
        if !matches!(done, Done::Always) {
            text += &format!(
                "\n[[gauge]]\nname = \"{name}_open\"\nhelp = {}\nof = \"open\"\n",
                toml(&format!("Rows of {qualified} that are not finished."))
            );
            if let Some(state) = state {
                text += &format!("labels = [\"{state}\"]\n");
                if !open.is_empty() {
                    text += &format!("enumerate = {{ {state} = [{}] }}\n", list(&open));
                }
            }
        }
        if has_since {
            text += &format!(
                "\n[[gauge]]\nname = \"{name}_oldest_open_timestamp_seconds\"\nhelp = {}\nof = \"oldest\"\n\
                 since = \"since\"\nunit = \"seconds\"\n",
                toml(&format!("Since when the oldest row of {qualified} that is not finished has been there."))
            );
        }
        if at.is_some() {
            text += &format!(
                "\n[[gauge]]\nname = \"{name}_last_timestamp_seconds\"\nhelp = {}\nof = \"newest\"\nunit = \"seconds\"\n",
                toml(&format!("When the newest finished row of {qualified} was finished."))
            );
        }
        self.toml = text;
    }

    fn grant(&mut self, table: &Table, key: Option<&Column>, used: &[&Column]) {
        let role = &table.role;
        let columns = table.columns.iter().filter(|column| used.iter().any(|other| other.name == column.name));
        let columns: Vec<String> = columns.map(|column| ident(&column.name)).collect();
        if table.schema != "public" {
            self.grants.push(format!("GRANT USAGE ON SCHEMA {} TO {role};", table.schema));
        }
        self.grants.push(format!("GRANT SELECT ({}) ON {} TO {role};", columns.join(", "), table.qualified));
        let sequence = key.and_then(|key| key.sequence.as_ref());
        self.grants.extend(sequence.map(|sequence| format!("GRANT SELECT ON SEQUENCE {sequence} TO {role};")));
    }
}

impl Done<'_> {
    fn sql(&self) -> String {
        match self {
            Self::State(state) => {
                let mut open: Vec<&str> =
                    state.values.iter().filter(|value| is_open(value)).map(String::as_str).collect();
                // Not all that a text can be need be there now.
                let common = COMMON.iter().filter(|_| !state.is_enum || open.is_empty());
                let more: Vec<&str> = common.copied().filter(|word| !open.contains(word)).collect();
                open.extend(more);
                let open: Vec<String> = open.into_iter().map(literal).collect();
                format!("{}::text NOT IN ({})", own(state), open.join(", "))
            }
            Self::Ended(ended) => format!("{} IS NOT NULL", own(ended)),
            Self::Flag(flag) => own(flag),
            Self::Always => "true".to_owned(),
        }
    }

    fn column(&self) -> Option<&Column> {
        match self {
            Self::State(column) | Self::Ended(column) | Self::Flag(column) => Some(column),
            Self::Always => None,
        }
    }
}

/// The first of these columns that is a time.
fn time<'a>(table: &'a Table, names: &[&str]) -> Option<&'a Column> {
    names.iter().find_map(|name| table.named(&[name]).filter(|column| is_time(column)))
}

/// The columns that say since when a row that is not finished has been there: the first of them that is not NULL.
fn since<'a>(table: &'a Table, done: &Done<'_>, at: Option<&Column>) -> Vec<&'a Column> {
    if matches!(done, Done::Always) {
        return Vec::new();
    }
    let is_other = |column: &&Column| at.is_none_or(|at| at.name != column.name);
    let mut all: Vec<&Column> = STARTS.iter().filter_map(|name| time(table, &[*name])).filter(is_other).collect();
    // What follows one that is never NULL is never used.
    let sure = all.iter().position(|column| column.not_null);
    all.truncate(sure.map_or(all.len(), |sure| sure + 1));
    all
}

/// The columns with the beginning and the end of what a row stands for.
pub fn span(table: &Table) -> Option<(&Column, &Column)> {
    let end = time(table, &ENDS)?;
    Some((time(table, &STARTS).filter(|start| start.name != end.name)?, end))
}

/// The seconds between two times of a row `t`. Infinite times cannot be subtracted, but their seconds can.
pub fn duration(start: &Column, end: &Column) -> String {
    let show = if start.kind == end.kind { own } else { instant };
    format!("extract(epoch FROM {}) - extract(epoch FROM {})", show(end), show(start))
}

fn is_time(column: &Column) -> bool {
    matches!(column.kind, Kind::Time | Kind::LocalTime)
}

/// A time with its zone. Times without one are taken for UTC.
fn instant(column: &Column) -> String {
    let zone = if column.kind == Kind::LocalTime { " AT TIME ZONE 'UTC'" } else { "" };
    format!("{}{zone}", own(column))
}

/// A column of the table, which the SELECT calls `t`.
fn own(column: &Column) -> String {
    let name = &column.name;
    let is_plain = *name == word(name) && !name.starts_with(|c: char| c.is_ascii_digit());
    format!("t.{}", if is_plain { name.clone() } else { ident(name) })
}

/// The names of the columns of a key in the SELECT.
fn names(key: &[&Column]) -> Vec<String> {
    match key {
        [_] => vec!["id".to_owned()],
        _ => key.iter().map(|column| format!("key_{}", word(&column.name))).collect(),
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| toml(name)).collect::<Vec<_>>().join(", ")
}

/// The name of a value column.
fn value(column: &Column) -> String {
    let name = label(&column.name);
    if column.kind == Kind::Interval && !name.ends_with("_seconds") { format!("{name}_seconds") } else { name }
}

/// Bounds that suit the values, or durations in general when there are none but 0.
fn bounds(values: &Distribution, integer: bool) -> Vec<f64> {
    let suggested = if values.max() > Some(0.0) { values.suggest(0, integer, f64::MAX) } else { Vec::new() };
    if suggested.is_empty() { SECONDS.to_vec() } else { suggested }
}

fn numbers(bounds: &[f64]) -> String {
    bounds.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
