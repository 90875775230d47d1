//! What one scrape said.

use std::collections::BTreeMap;

/// The samples of one exposition in the classic text format.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    pub samples: Vec<Sample>,
    /// The exposition they were read from.
    pub text: String,
}

/// One line of an exposition.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Metrics {
    /// Reads an exposition.
    ///
    /// # Panics
    /// At a line that is not one of the text format.
    pub fn parse(text: &str) -> Self {
        let samples = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| Sample::parse(line).unwrap_or_else(|| panic!("not a sample: {line}")))
            .collect();
        Self { samples, text: text.into() }
    }

    /// Value of the one series `name` that has all of `labels`, and maybe more.
    ///
    /// # Panics
    /// When there are several such series.
    #[track_caller]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut matching = self.matching(name, labels);
        let first = matching.next()?;
        if let Some(second) = matching.next() {
            panic!("{name}{labels:?} is ambiguous:\n{first:?}\n{second:?}");
        }
        Some(first.value)
    }

    /// Sum over the series `name` that have all of `labels`, 0 without any.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).map(|sample| sample.value).sum()
    }

    /// True if the last poll succeeded.
    pub fn is_up(&self) -> bool {
        self.value("rsolv_exporter_up", &[]) == Some(1.0)
    }

    /// Polls that failed for this reason.
    pub fn failures(&self, reason: &str) -> f64 {
        self.sum("rsolv_exporter_poll_failures_total", &[("reason", reason)])
    }

    /// Validations that have been counted.
    pub fn validations(&self) -> f64 {
        self.sum("rsolv_validation_executions_total", &[])
    }

    /// The series `name` that have all of `labels`.
    pub fn matching<'a>(&'a self, name: &'a str, labels: &'a [(&'a str, &'a str)]) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| {
            let has = |(k, v): &(&str, &str)| sample.labels.get(*k).is_some_and(|have| have == v);
            sample.name == name && labels.iter().all(has)
        })
    }

    /// All samples by series, labels in alphabetical order.
    ///
    /// # Panics
    /// When a series occurs twice.
    pub fn series(&self) -> BTreeMap<String, f64> {
        let mut series = BTreeMap::new();
        for sample in &self.samples {
            let key = sample.series();
            assert!(series.insert(key, sample.value).is_none(), "twice: {}", sample.series());
        }
        series
    }
}

impl Sample {
    /// `name{label="value",…}`, labels in alphabetical order.
    pub fn series(&self) -> String {
        let labels: Vec<String> = self.labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        format!("{}{{{}}}", self.name, labels.join(","))
    }

    fn parse(line: &str) -> Option<Self> {
        let end = line.find(['{', ' '])?;
        let (name, mut rest) = line.split_at(end);
        let mut labels = BTreeMap::new();
        if let Some(inner) = rest.strip_prefix('{') {
            rest = inner;
            while !rest.starts_with('}') {
                let (label, after) = rest.split_once("=\"")?;
                let (value, after) = quoted(after)?;
                labels.insert(label.to_owned(), value);
                rest = after.strip_prefix(',').unwrap_or(after);
            }
            rest = &rest[1..];
        }
        let value = rest.split_whitespace().next()?;
        Some(Self { name: name.into(), labels, value: value.parse().ok()? })
    }
}

/// A label value up to its closing quote, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}
