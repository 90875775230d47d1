//! What the metrics have to say, counted without the exporter.

use std::collections::BTreeMap;

use super::metrics::{Metrics, Sample};

const VALIDATION_MS: &[f64] = &[1000., 5000., 10000., 30000., 60000., 120000., 300000.];
const MITIGATION_MS: &[f64] = &[1000., 5000., 10000., 30000., 60000., 120000., 300000., 600000.];
const TRUST: &[f64] = &[0., 25., 50., 60., 70., 80., 90., 95., 100.];

/// One of the platform's two tables of executions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    Validation,
    Mitigation,
}

impl Table {
    /// The table, which is also the name of the source.
    pub fn name(self) -> &'static str {
        match self {
            Self::Validation => "validation_executions",
            Self::Mitigation => "mitigation_executions",
        }
    }

    fn metric(self, rest: &str) -> String {
        let kind = if self == Self::Validation { "validation" } else { "mitigation" };
        format!("rsolv_{kind}_{rest}")
    }
}

/// A finished execution as it has to be counted. `None` is a value that is missing or rejected.
#[derive(Clone, Debug)]
pub struct Counted {
    pub table: Table,
    /// Repository, language and framework.
    pub labels: [String; 3],
    pub status: String,
    pub duration_ms: Option<f64>,
    /// Tests generated, passed, failed, and vulnerabilities found.
    pub sums: [Option<f64>; 4],
    pub trust_score: Option<f64>,
    pub pr_created: bool,
    /// Columns whose value is rejected.
    pub rejected: Vec<&'static str>,
}

impl Counted {
    /// A completed execution without any value.
    pub fn new(table: Table, labels: [&str; 3]) -> Self {
        Self {
            table,
            labels: labels.map(str::to_owned),
            status: "completed".into(),
            duration_ms: None,
            sums: [None; 4],
            trust_score: None,
            pr_created: false,
            rejected: Vec::new(),
        }
    }
}

/// Every series of the platform's metrics that only grows, with its value.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    series: BTreeMap<String, f64>,
    /// Executions counted, for messages.
    pub executions: u64,
}

impl Truth {
    /// Counts an execution.
    pub fn count(&mut self, row: &Counted) {
        self.executions += 1;
        let status = ["completed", "failed", "timeout"].map(|status| (status, 0.0));
        for (status, value) in status.into_iter().chain([(row.status.as_str(), 1.0)]) {
            self.add(row, "executions_total", &[("status", status)], value);
        }
        match row.table {
            Table::Validation => {
                self.observe(row, "duration_milliseconds", VALIDATION_MS, row.duration_ms);
                let names = ["test_generated", "test_passed", "test_failed", "vulnerabilities_found"];
                for (name, value) in names.into_iter().zip(row.sums) {
                    self.add(row, &format!("{name}_total"), &[], value.unwrap_or(0.0));
                }
                self.add(row, "tests_reported_total", &[], f64::from(u8::from(row.sums[0].is_some())));
            }
            Table::Mitigation => {
                self.observe(row, "duration_milliseconds", MITIGATION_MS, row.duration_ms);
                self.observe(row, "trust_score_value", TRUST, row.trust_score);
                self.add(row, "pr_created_total", &[], f64::from(u8::from(row.pr_created)));
            }
        }
        for column in &row.rejected {
            let labels = [("source", row.table.name()), ("column", column)];
            *self.series.entry(key("rsolv_exporter_rejected_values_total", &labels)).or_default() += 1.0;
        }
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: Self) {
        self.executions += other.executions;
        for (series, value) in other.series {
            *self.series.entry(series).or_default() += value;
        }
    }

    /// Series that a scrape shows otherwise, too much or not at all.
    ///
    /// Sums of values that are not whole may differ in the last digits, as rows are added in any order.
    pub fn differences(&self, metrics: &Metrics) -> Vec<String> {
        let mut shown = metrics.series();
        shown.retain(|series, value| is_ours(series) && (*value != 0.0 || !series.starts_with("rsolv_exporter_")));
        let mut wrong = Vec::new();
        for (series, expected) in &self.series {
            let slack = if series.contains("_sum{") { 1e-12 * expected.abs() } else { 0.0 };
            match shown.remove(series) {
                Some(value) if (value - expected).abs() <= slack => {}
                value => wrong.push(format!("{series}: {value:?} and not {expected}")),
            }
        }
        wrong.extend(shown.into_iter().map(|(series, value)| format!("{series}: {value} out of nowhere")));
        wrong
    }

    fn observe(&mut self, row: &Counted, name: &str, bounds: &[f64], value: Option<f64>) {
        for bound in bounds.iter().chain([&f64::INFINITY]) {
            let le = if bound.is_finite() { bound.to_string() } else { "+Inf".to_owned() };
            let inside = value.is_some_and(|value| value <= *bound);
            self.add(row, &format!("{name}_bucket"), &[("le", &le)], f64::from(u8::from(inside)));
        }
        self.add(row, &format!("{name}_count"), &[], f64::from(u8::from(value.is_some())));
        self.add(row, &format!("{name}_sum"), &[], value.unwrap_or(0.0));
    }

    fn add(&mut self, row: &Counted, name: &str, more: &[(&str, &str)], value: f64) {
        let names = ["repo", "language", "framework"];
        let own = names.into_iter().zip(row.labels.iter().map(String::as_str));
        let labels: Vec<(&str, &str)> = own.chain(more.iter().copied()).collect();
        *self.series.entry(key(&row.table.metric(name), &labels)).or_default() += value;
    }
}

/// Whether a series is one of those that are counted here.
fn is_ours(series: &str) -> bool {
    let counted = ["rsolv_validation_", "rsolv_mitigation_", "rsolv_exporter_rejected_values_total"];
    let gauge = series.contains("_executions_open{")
        || series.contains("_oldest_open_timestamp_seconds")
        || series.contains("_last_execution_timestamp_seconds{");
    counted.iter().any(|prefix| series.starts_with(prefix)) && !gauge
}

fn key(name: &str, labels: &[(&str, &str)]) -> String {
    let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Sample { name: name.into(), labels, value: 0.0 }.series()
}
