//! One event table to count: a SELECT (`queries/NAME.sql`) and the metrics over its columns (`queries/NAME.toml`).
//!
//! A [`Source`] exists only if its definition is sound; later stages rely on that. Whether the SELECT really has the
//! columns is for the database to say, see [`Source::columns`].

mod definition;
pub mod exemplar;
pub mod key;
pub mod kind;
pub mod lexer;
mod measure;
mod metric_table;
mod names;

pub use names::is_label_name;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

pub use kind::{Combine, Kind, Part};
pub use measure::{Count, Native, Slots, Sum};

use crate::ledger::{Labels, Shape};
use key::Key;

/// The pairs in `queries/`, built into the binary.
const SHIPPED: [(&str, &str, &str); 2] = [
    (
        "validation_executions",
        include_str!("../../queries/validation_executions.sql"),
        include_str!("../../queries/validation_executions.toml"),
    ),
    (
        "mitigation_executions",
        include_str!("../../queries/mitigation_executions.sql"),
        include_str!("../../queries/mitigation_executions.toml"),
    ),
];

/// White space that is trimmed from labels.
const SPACE: [char; 6] = [' ', '\t', '\n', '\r', '\u{c}', '\u{b}'];

/// Sums of values up to this stay finite and exact enough, whatever the number of rows.
const MAX_VALUE: f64 = 1e18;

/// The columns that every SELECT has.
pub const REQUIRED: [&str; 3] = ["id", "done", "at"];

/// A checked definition.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// The name of the pair of files, without extension.
    pub name: String,
    /// The SELECT, without a trailing semicolon.
    pub sql: String,
    /// Label columns that identify a set of series and stand on every counter and histogram.
    pub labels: Vec<String>,
    /// The other label columns that some metric has.
    pub by: Vec<String>,
    /// What a label is when the column is NULL or empty.
    pub missing: BTreeMap<String, String>,
    /// Value columns with their bounds.
    pub values: Vec<Value>,
    /// What is exported: counters, histograms, gauges, each in the order of the file.
    pub metrics: Vec<Metric>,
    /// The whole-number measures of a group of rows, in the order in which the statement returns them.
    pub counts: Vec<Count>,
    /// The sums of a group of rows, likewise.
    pub sums: Vec<Sum>,
    /// The native histograms of a group of rows, likewise.
    pub natives: Vec<Native>,
    /// Combinations of the values of `by` that every set has from its birth.
    pub enumerated: Vec<Labels>,
    /// Columns with the time since which an open row has been there, for gauges of the oldest one.
    pub since: Vec<String>,
    /// The sequence that hands out the ids.
    pub sequence: Option<String>,
    /// The column that names a row in exemplars; none for no exemplars.
    pub exemplar: Option<String>,
    /// What identifies a row, and how new ones are found; without it, a number `id` in insertion order.
    pub key: Option<Key>,
    /// Only rows where this boolean column is true are counted; the others are seen, so that they leave no gaps.
    pub count_if: Option<String>,
}

/// A value column; what is outside its bounds is rejected.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// The column.
    pub column: String,
    /// Whether only whole numbers are valid.
    pub integer: bool,
    /// The smallest valid value, at least 0.
    pub min: f64,
    /// The largest valid value.
    pub max: f64,
}

/// A metric family.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Its name; a counter's ends in `_total`.
    pub name: String,
    /// One sentence.
    pub help: String,
    /// The unit, which is also the last part of the name.
    pub unit: Option<String>,
    /// The label columns beside those of the source (of a gauge: all of them).
    pub labels: Vec<String>,
    /// Label values that exist at 0, by label.
    pub enumerate: BTreeMap<String, Vec<String>>,
    /// What is measured.
    pub kind: Kind,
}

/// Something wrong with a definition, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, as the user knows it.
    pub file: String,
    /// The key in it, empty for the file as a whole.
    pub key: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => write!(f, "{}: {}", self.file, self.message),
            key => write!(f, "{}: {key}: {}", self.file, self.message),
        }
    }
}

impl Source {
    /// The sources built into the binary.
    ///
    /// # Errors
    /// Fails with all that is wrong with them.
    pub fn shipped() -> Result<Vec<Self>, Vec<Problem>> {
        let files = SHIPPED.map(|(name, sql, toml)| (name.to_owned(), sql.to_owned(), toml.to_owned()));
        Self::parse(files.into(), "queries")
    }

    /// True if the SELECT is the one that is built into the binary.
    pub fn is_shipped(&self) -> bool {
        Self::shipped().is_ok_and(|shipped| shipped.iter().any(|own| own.name == self.name && own.sql == self.sql))
    }

    /// The sources in a directory: every `NAME.sql` with its `NAME.toml`.
    ///
    /// # Errors
    /// Fails with all that is wrong with them, or if the directory cannot be read.
    pub fn load(dir: &Path) -> Result<Vec<Self>, Vec<Problem>> {
        let shown = dir.display().to_string();
        let problem = |file: &str, message: String| Problem { file: file.to_owned(), key: String::new(), message };
        let entries = std::fs::read_dir(dir)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|e| vec![problem(&shown, format!("cannot read the directory of queries.dir: {e}"))])?;
        let mut problems = Vec::new();
        let mut texts: BTreeMap<(String, &str), String> = BTreeMap::new();
        for path in entries.iter().map(std::fs::DirEntry::path) {
            let name = path.file_stem().and_then(|s| s.to_str()).filter(|name| !name.starts_with('.'));
            let extension = ["sql", "toml"].into_iter().find(|&e| path.extension().is_some_and(|x| x == e));
            if let (Some(name), Some(extension)) = (name, extension) {
                match std::fs::read_to_string(&path) {
                    Ok(text) => _ = texts.insert((name.to_owned(), extension), text),
                    Err(e) => problems.push(problem(&path.display().to_string(), format!("cannot read the file: {e}"))),
                }
            }
        }
        let names: BTreeSet<String> = texts.keys().map(|(name, _)| name.clone()).collect();
        let mut files = Vec::new();
        for name in names {
            match (texts.remove(&(name.clone(), "sql")), texts.remove(&(name.clone(), "toml"))) {
                (Some(sql), Some(toml)) => files.push((name, sql, toml)),
                (sql, _) => {
                    let (there, lacks) = if sql.is_some() { ("sql", "toml") } else { ("toml", "sql") };
                    let message = format!("there is no {name}.{lacks} beside it: a source is a pair of files");
                    problems.push(problem(&format!("{shown}/{name}.{there}"), message));
                }
            }
        }
        if files.is_empty() && problems.is_empty() {
            problems.push(problem(&shown, "no NAME.sql with NAME.toml in the directory of queries.dir".to_owned()));
        }
        match Self::parse(files, &shown) {
            Ok(sources) if problems.is_empty() => Ok(sources),
            Ok(_) => Err(problems),
            Err(more) => Err(problems.into_iter().chain(more).collect()),
        }
    }

    /// Parses pairs of (name, SQL, TOML) and checks them together; `dir` is for messages only.
    ///
    /// # Errors
    /// Fails with all that is wrong with them.
    pub fn parse(files: Vec<(String, String, String)>, dir: &str) -> Result<Vec<Self>, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut sources = Vec::new();
        for (name, sql, toml) in files {
            let (source, found) = definition::parse(&name, &sql, &toml, dir);
            sources.push(source);
            problems.extend(found);
        }
        names::check_families(&sources, dir, &mut problems);
        if problems.is_empty() { Ok(sources) } else { Err(problems) }
    }

    /// What the ledger has to know; `limit` is the setting `series.limit`.
    pub fn shape(&self, limit: usize) -> Shape {
        Shape {
            counts: self.counts.len(),
            sums: self.sums.len(),
            values: self.values.len(),
            natives: self.natives.iter().map(Native::settings).collect(),
            enumerated: self.enumerated.clone(),
            limit,
        }
    }

    /// Every column that the SELECT must have, with the key of the definition that asks for it.
    pub fn columns(&self) -> BTreeMap<&str, String> {
        let mut columns: BTreeMap<&str, String> = BTreeMap::new();
        let mut need = |column, by: String| _ = columns.entry(column).or_insert(by);
        let is_needed = |c: &&str| *c != "id" || self.key.is_none();
        REQUIRED.into_iter().filter(is_needed).for_each(|c| need(c, String::new()));
        if let Some(key) = &self.key {
            key.columns.iter().for_each(|c| need(c, "key".to_owned()));
            need(key.order(), if matches!(key.way, key::Way::Xid { .. }) { "xid" } else { "order" }.to_owned());
        }
        self.labels.iter().for_each(|l| need(l, "labels".to_owned()));
        for metric in &self.metrics {
            metric.labels.iter().for_each(|l| need(l, format!("{} labels", metric.name)));
        }
        self.values.iter().for_each(|v| need(&v.column, format!("columns.{}", v.column)));
        self.only().into_iter().for_each(|c| need(c, "where".to_owned()));
        self.exemplar.iter().for_each(|c| need(c, "exemplar".to_owned()));
        self.count_if.iter().for_each(|c| need(c, "count_if".to_owned()));
        self.since.iter().for_each(|c| need(c, "since".to_owned()));
        columns
    }

    /// Every label column: those of the source, then the others.
    pub fn all_labels(&self) -> impl Iterator<Item = &String> {
        self.labels.iter().chain(&self.by)
    }

    /// The boolean columns that metrics are restricted by.
    pub fn only(&self) -> BTreeSet<&str> {
        let counts = self.counts.iter().filter_map(|c| c.only.as_deref());
        counts.chain(self.sums.iter().filter_map(|s| s.only.as_deref())).collect()
    }

    /// What is worth knowing about the definition although it works, for the file `NAME.toml`.
    pub fn warnings(&self) -> Vec<String> {
        let labels: BTreeSet<&String> = self.metrics.iter().flat_map(|m| &m.labels).chain(&self.labels).collect();
        let renamed = labels.into_iter().filter(|label| ["job", "instance"].contains(&label.as_str()));
        let warning = |label: &String| {
            format!(
                "{}.toml: labels: Prometheus has a label \"{label}\" of its own and renames this one to \
                 \"exported_{label}\", unless the scrape configuration has honor_labels: another name is clearer",
                self.name
            )
        };
        renamed.map(warning).collect()
    }

    /// The labels of a counted row: those of the source, then the others.
    pub fn row_labels(&self) -> impl Iterator<Item = &str> {
        self.labels.iter().chain(&self.by).map(String::as_str)
    }

    /// The labels of gauges of open rows, each once.
    pub fn open_labels(&self) -> Vec<&str> {
        let mut labels: Vec<&str> = Vec::new();
        for label in self.metrics.iter().filter(|m| m.kind.is_of_open_rows()).flat_map(|m| &m.labels) {
            if !labels.contains(&label.as_str()) {
                labels.push(label);
            }
        }
        labels
    }

    /// The value of one of the labels of a row, given by those of the source and the others.
    pub fn label_of<'l>(&self, label: &str, set: &'l [String], by: &'l [String]) -> &'l str {
        let own = self.labels.iter().position(|l| l == label).and_then(|i| set.get(i));
        own.or_else(|| self.by.iter().position(|l| l == label).and_then(|i| by.get(i))).map_or("", String::as_str)
    }

    /// What a label is whose column holds `text`: trimmed, and what [`Source::missing`] says when nothing is left.
    ///
    /// [`crate::sql::view`] says the same in SQL.
    pub fn label(&self, column: &str, text: Option<&str>) -> String {
        let trimmed = text.unwrap_or_default().trim_matches(SPACE);
        if trimmed.is_empty() { self.missing(column) } else { trimmed }.to_owned()
    }

    /// What the label `column` is when it is missing.
    pub fn missing(&self, column: &str) -> &str {
        self.missing.get(column).map_or("unknown", String::as_str)
    }

    /// The labels of a metric, without `le`.
    pub fn labels_of<'a>(&'a self, metric: &'a Metric) -> Vec<&'a str> {
        let own = metric.labels.iter().map(String::as_str);
        if metric.kind.is_gauge() { own.collect() } else { self.labels.iter().map(String::as_str).chain(own).collect() }
    }

    /// The value column that a metric counts, sums or distributes.
    pub fn value_of(&self, metric: &Metric) -> Option<&Value> {
        let Slots { counts, sum, .. } = metric.kind.slots();
        let value = match sum {
            Some(sum) => Some(self.sums[sum].value),
            None => self.counts.get(counts.start).filter(|_| !counts.is_empty())?.value,
        };
        value.map(|value| &self.values[value])
    }

    /// The boolean column that restricts a metric.
    pub fn only_of(&self, metric: &Metric) -> Option<&str> {
        let Slots { counts, sum, .. } = metric.kind.slots();
        match sum {
            Some(sum) => self.sums[sum].only.as_deref(),
            None => self.counts.get(counts.start).filter(|_| !counts.is_empty())?.only.as_deref(),
        }
    }
}
