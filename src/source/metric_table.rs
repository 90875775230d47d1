//! The TOML of one metric while it is read.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::{Table, Value as Toml};

use super::{MAX_VALUE, Problem, REQUIRED, Source, Value};

/// The table of a metric, from which a kind takes its keys, with the source that is being built.
pub struct MetricTable<'p> {
    /// `counter`, `histogram` or `gauge`.
    pub table: &'static str,
    /// The metric's own labels.
    pub labels: Vec<String>,
    /// Label values that exist at 0, by label.
    pub enumerate: BTreeMap<String, Vec<String>>,
    /// The source, to which the kind adds what it measures.
    pub source: &'p mut Source,
    /// The keys that nobody has taken yet.
    pub(super) keys: Table,
    pub(super) file: &'p str,
    /// How the metric is called in messages.
    pub(super) key: &'p str,
    pub(super) problems: &'p mut Vec<Problem>,
}

impl MetricTable<'_> {
    /// Notes what is wrong with a key.
    pub fn problem(&mut self, key: &str, message: impl Into<String>) {
        let key = format!("{}.{key}", self.key);
        self.problems.push(Problem { file: self.file.to_owned(), key, message: message.into() });
    }

    /// True if the key is there.
    pub fn has(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    /// True if the key has this text.
    pub fn is(&self, key: &str, text: &str) -> bool {
        self.keys.get(key).and_then(Toml::as_str) == Some(text)
    }

    /// Takes a key away; true if it was there.
    pub fn remove(&mut self, key: &str) -> bool {
        self.keys.remove(key).is_some()
    }

    /// Takes the value of a key, if it is there and of the right type; that it is of another one is a problem.
    pub fn take<T: for<'de> Deserialize<'de>>(&mut self, key: &str) -> Option<T> {
        let value = self.keys.remove(key)?;
        value.try_into().map_err(|e| self.problem(key, e.to_string().trim_end().replace('\n', " "))).ok()
    }

    /// The position of a value column; one without bounds of its own gets the widest.
    pub fn value(&mut self, key: &str, column: &str) -> usize {
        if REQUIRED.contains(&column) {
            self.problem(key, format!("\"{column}\" is not a value column"));
        }
        let values = &mut self.source.values;
        values.iter().position(|v| v.column == column).unwrap_or_else(|| {
            values.push(Value { column: column.to_owned(), integer: false, min: 0.0, max: MAX_VALUE });
            values.len() - 1
        })
    }
}
