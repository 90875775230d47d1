//! Which names metrics and labels can have.

use std::collections::BTreeMap;

use super::{Problem, REQUIRED, Source};

/// PostgreSQL cuts longer names.
const MAX_NAME_BYTES: usize = 63;
/// Names that Prometheus gives to series of its own.
const PROMETHEUS: [&str; 4] = ["up", "ALERTS", "ALERTS_FOR_STATE", "target_info"];

/// What is wrong with the name of a metric.
pub fn metric(kind: &str, name: &str, unit: Option<&str>) -> Vec<String> {
    let mut problems: Vec<String> = Vec::new();
    let mut problem = |message: &str| problems.push(message.to_owned());
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    if !name.starts_with(letter) || !name.chars().all(|c| letter(c) || c.is_ascii_digit()) {
        problem("is not a valid metric name: letters, digits, '_' and ':', not starting with a digit");
    }
    if ["rsolv_exporter_", "process_"].iter().any(|p| name.starts_with(p)) {
        problem("rsolv_exporter_ and process_ are for the exporter's own metrics");
    }
    if PROMETHEUS.contains(&name) || name.starts_with("scrape_") {
        problem("is a name that Prometheus gives to series of its own");
    }
    if (kind == "counter") != name.ends_with("_total") {
        problem(if kind == "counter" { "a counter ends in _total" } else { "only a counter ends in _total" });
    }
    if let Some(suffix) = ["_bucket", "_count", "_sum", "_created", "_info"].iter().find(|s| name.ends_with(**s)) {
        problem(&format!("may not end in {suffix}, which has a meaning of its own"));
    }
    let base = name.strip_suffix("_total").unwrap_or(name);
    if unit.is_some_and(|unit| !base.ends_with(&format!("_{unit}"))) {
        problem("does not end in its unit");
    }
    problems
}

/// True if Prometheus takes it for the name of a label.
pub fn is_label_name(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit())
}

/// What is wrong with the name of a label.
pub fn label(label: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if !is_label_name(label) || label.starts_with("__") || label == "le" {
        problems.push(format!("\"{label}\" is not a valid label name: letters, digits and '_', not \"le\" or \"__…\""));
    }
    if label.len() > MAX_NAME_BYTES {
        problems.push(format!("\"{label}\" is longer than a column's name in PostgreSQL ({MAX_NAME_BYTES} bytes)"));
    }
    if REQUIRED.contains(&label) {
        problems.push(format!("\"{label}\" is not a label column"));
    }
    problems
}

/// No two families may claim one name, within a file or between files.
pub fn check_families(sources: &[Source], dir: &str, problems: &mut Vec<Problem>) {
    let mut owners: BTreeMap<String, String> = BTreeMap::new();
    for source in sources {
        for metric in &source.metrics {
            let file = format!("{dir}/{}.toml", source.name);
            let key = format!("{} {}.name", metric.kind.type_name(), metric.name);
            let base = metric.name.strip_suffix("_total").unwrap_or(&metric.name);
            let suffixes = metric.kind.suffixes().iter().map(|(suffix, _)| *suffix);
            let names = std::iter::once("").chain(suffixes).map(|suffix| format!("{base}{suffix}"));
            let taken = names.filter_map(|name| owners.insert(name, file.clone()));
            if let Some(owner) = taken.last() {
                problems.push(Problem { file, key, message: format!("the name is taken already, in {owner}") });
            }
        }
    }
}
