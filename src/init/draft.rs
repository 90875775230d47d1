//! From a table to the text of a definition: which columns mean what, by their names, types and values.

use super::table::{Column, Kind, Table};
use crate::buckets::toml_string as toml;
use crate::sql::{ident, literal};

/// Names of the column with the state of a row.
const STATES: [&str; 7] = ["status", "state", "phase", "stage", "outcome", "result", "job_state"];
/// What a state is called before the end.
const OPEN: [&str; 34] = [
    "pending",
    "queued",
    "queueing",
    "enqueued",
    "running",
    "processing",
    "in_progress",
    "in progress",
    "inprogress",
    "waiting",
    "scheduled",
    "available",
    "executing",
    "retryable",
    "retry",
    "retrying",
    "active",
    "new",
    "created",
    "started",
    "starting",
    "ready",
    "open",
    "draft",
    "submitted",
    "accepted",
    "paused",
    "blocked",
    "locked",
    "reserved",
    "claimed",
    "working",
    "requested",
    "init",
];
/// Names of the column with the time of the end, the likeliest first.
const ENDS: [&str; 16] = [
    "finished_at",
    "completed_at",
    "ended_at",
    "processed_at",
    "done_at",
    "closed_at",
    "resolved_at",
    "executed_at",
    "delivered_at",
    "sent_at",
    "finished",
    "completed",
    "ended",
    "finish_time",
    "end_time",
    "finalized_at",
];
/// Names of the column with the time of the beginning.
const STARTS: [&str; 9] = [
    "started_at",
    "attempted_at",
    "began_at",
    "start_time",
    "started",
    "run_at",
    "created_at",
    "inserted_at",
    "enqueued_at",
];
/// Names of times at which something happened once.
const EVENTS: [&str; 11] = [
    "occurred_at",
    "happened_at",
    "event_time",
    "time",
    "timestamp",
    "ts",
    "logged_at",
    "recorded_at",
    "created_at",
    "inserted_at",
    "updated_at",
];
/// Names of the column that says that a row is finished.
const FLAGS: [&str; 6] = ["done", "finished", "completed", "processed", "is_done", "is_finished"];
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
    /// By its state, of which these are the unfinished ones.
    State(&'a Column, Vec<String>),
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
        let key = table.key();
        draft.key(table, key);
        used.extend(key);

        let time = |names: &[&str]| names.iter().find_map(|name| table.named(&[name]).filter(|c| is_time(c)));
        let state = table.named(&STATES).filter(|c| c.kind == Kind::Text);
        let ended = time(&ENDS);
        let flag = table.named(&FLAGS).filter(|c| c.kind == Kind::Boolean);
        let done = match (state, ended, flag) {
            (Some(state), _, _) => Done::State(state, open_values(state)),
            (None, Some(ended), _) if !ended.not_null => Done::Ended(ended),
            (None, _, Some(flag)) => Done::Flag(flag),
            _ => Done::Always,
        };
        let any_time = || table.columns.iter().find(|c| is_time(c));
        let updated = table.named(&["updated_at"]).filter(|c| is_time(c));
        let at = match (&done, ended) {
            (Done::Always, Some(ended)) => Some(ended),
            (Done::Always, None) => time(&EVENTS).or_else(any_time),
            (_, Some(ended)) => Some(ended),
            (_, None) => updated.or_else(|| time(&EVENTS)).or_else(any_time),
        };
        let start = ended.and_then(|ended| time(&STARTS).filter(|start| start.name != ended.name));

        let mut columns: Vec<String> = Vec::new();
        let key_sql = key.map_or("…".to_owned(), |key| format!("t.{}", ident(&key.name)));
        columns.push(format!("{key_sql} AS id"));
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
        let state_label = state.map(|state| label(&state.name));
        if let (Some(state), Some(label)) = (state, &state_label) {
            columns.push(format!("t.{} AS {label}", ident(&state.name)));
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
        columns.extend(labels.iter().map(|column| format!("t.{} AS {}", ident(&column.name), label(&column.name))));
        used.extend(&labels);
        if let (Some(start), Some(ended)) = (start, ended) {
            columns.push(format!("extract(epoch FROM {} - {}) AS duration_seconds", instant(ended), instant(start)));
            used.extend([start, ended]);
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
        columns.extend(values.iter().map(|column| format!("t.{} AS {}", ident(&column.name), value(column))));
        used.extend(&values);

        draft.sql = format!(
            "-- One row per row of {0}: \"id\" identifies it, \"done\" says that it is finished and can be counted, \"at\" says\n\
             -- when that was. No WHERE: what is not finished is watched until it is, and what must not count is left out by\n\
             -- count_if in the TOML. Paste it into psql to see what the exporter sees.\nSELECT\n  {1}\nFROM {0} AS t\n",
            table.qualified,
            columns.join(",\n  ")
        );
        draft.toml(table, key, &done, state_label.as_deref(), &labels, &values, start.is_some(), at);
        draft.grant(table, key, &used);
        draft
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
            Done::State(state, open) => state.values.iter().cloned().partition(|value| open.contains(value)),
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
                 # The command buckets suggests others from the values that there are.\nbuckets = [{}]\n",
                toml(&format!("Time from the start to the end of rows of {qualified}.")),
                numbers(&SECONDS)
            );
        }
        for column in values {
            let (of, bounds) = (value(column), column.numbers.suggest(0, column.kind == Kind::Integer, f64::MAX));
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
            Self::State(state, open) => {
                let open: Vec<String> = open.iter().map(|value| literal(value)).collect();
                format!("t.{}::text NOT IN ({})", ident(&state.name), open.join(", "))
            }
            Self::Ended(ended) => format!("t.{} IS NOT NULL", ident(&ended.name)),
            Self::Flag(flag) => format!("t.{}", ident(&flag.name)),
            Self::Always => "true".to_owned(),
        }
    }

    fn column(&self) -> Option<&Column> {
        match self {
            Self::State(column, _) | Self::Ended(column) | Self::Flag(column) => Some(column),
            Self::Always => None,
        }
    }
}

/// The values of a state that are not the end; those that it often has when none of its values are known.
fn open_values(state: &Column) -> Vec<String> {
    let known: Vec<String> =
        state.values.iter().filter(|value| OPEN.contains(&value.to_lowercase().as_str())).cloned().collect();
    if known.is_empty() {
        OPEN[..5].iter().chain(&["waiting", "scheduled"]).map(|s| (*s).to_owned()).collect()
    } else {
        known
    }
}

fn is_time(column: &Column) -> bool {
    matches!(column.kind, Kind::Time | Kind::LocalTime)
}

/// A time with its zone. Times without one are taken for UTC.
fn instant(column: &Column) -> String {
    let zone = if column.kind == Kind::LocalTime { " AT TIME ZONE 'UTC'" } else { "" };
    format!("t.{}{zone}", ident(&column.name))
}

/// The name of a value column.
fn value(column: &Column) -> String {
    let name = label(&column.name);
    if column.kind == Kind::Interval && !name.ends_with("_seconds") { format!("{name}_seconds") } else { name }
}

/// The name of a column as a label, which none of the columns that every source has, nor of Prometheus' labels, has.
fn label(name: &str) -> String {
    let word = word(name);
    let taken = ["id", "done", "at", "le", "job", "instance", "duration_seconds"];
    if taken.contains(&word.as_str()) || word.starts_with("__") { format!("of_{word}") } else { word }
}

/// The beginning of the names of metrics.
fn metric(name: &str) -> String {
    let taken = ["rsolv_exporter", "process", "scrape"].iter().any(|prefix| name.starts_with(prefix));
    if taken || name == "up" { format!("table_{name}") } else { name.to_owned() }
}

/// A name with nothing but small letters, digits and `_`.
fn word(name: &str) -> String {
    let small = name.to_lowercase();
    let word: String = small.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if word.starts_with(|c: char| c.is_ascii_digit()) { format!("_{word}") } else { word }
}

fn numbers(bounds: &[f64]) -> String {
    bounds.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
