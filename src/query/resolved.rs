//! What a selector asks for, in terms of the sources: which metric, which part of it, which of its series.

use crate::exposition::text::le;
use crate::query::selector::{Matcher, Operator, Selector};
use crate::source::{Metric, Part, Source, Value};

/// Labels that are added to what is exported, so that they stand in what people copy: by Prometheus, by its operator
/// (from `namespace` on), and by configurations of targets and `external_labels`, as those shipped (from `environment`
/// on). Each also with [`RENAMED`] before it.
const ADDED: [&str; 14] = [
    "job",
    "instance",
    "namespace",
    "pod",
    "container",
    "endpoint",
    "service",
    "node",
    "environment",
    "monitor",
    "prometheus",
    "prometheus_replica",
    "cluster",
    "replica",
];
/// What Prometheus puts before a label that clashes with one of the target.
const RENAMED: &str = "exported_";
/// What RE2 knows and PostgreSQL does not, or takes for something else.
const FOREIGN: [&str; 9] = [r"\b", r"\B", r"\p", r"\P", r"\z", r"\C", r"\Q", "(?P<", "(?i:"];

/// The exporter's own metric behind which rows stand: those with a value that was rejected.
pub const REJECTED: &str = "rsolv_exporter_rejected_values_total";

/// A selector whose metric and labels exist.
#[derive(Clone, Debug)]
pub struct ResolvedSelector<'a> {
    /// As it was asked.
    pub selector: Selector,
    /// The source of the metric.
    pub source: &'a Source,
    /// The metric.
    pub metric: &'a Metric,
    /// The part of the metric.
    pub part: Part,
    /// Conditions on the labels of the metric.
    pub matchers: Vec<Matcher>,
    /// Conditions on `le`, with bounds spelled as [`le`] spells them.
    pub le: Vec<Matcher>,
    /// Labels that Prometheus adds, which say nothing about rows.
    pub ignored: Vec<String>,
}

/// Why a selector asks for nothing there is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSelector(pub String);

/// True if Prometheus, its operator or a shipped configuration adds this label to what is exported.
pub fn is_added(label: &str) -> bool {
    ADDED.contains(&label.strip_prefix(RENAMED).unwrap_or(label))
}

/// Looks whether PostgreSQL, which does the matching, takes a regular expression as it is meant.
///
/// # Errors
/// Fails if the expression has what PostgreSQL does not know or takes for something else.
pub fn check_expression(matcher: &Matcher) -> Result<(), InvalidSelector> {
    let foreign = FOREIGN.iter().find(|f| matcher.is_regular() && has(&matcher.value, f));
    foreign.map_or(Ok(()), |foreign| {
        Err(InvalidSelector(format!(
            "{matcher}: {foreign} means nothing, or something else, to PostgreSQL, which does the matching here"
        )))
    })
}

impl<'a> ResolvedSelector<'a> {
    /// Looks the metric and its labels up.
    ///
    /// # Errors
    /// Fails if there is no such metric or label.
    pub fn new(selector: Selector, sources: &'a [Source]) -> Result<Self, InvalidSelector> {
        let (source, metric, part) = find(&selector.name, sources)?;
        let mut question =
            Self { selector, source, metric, part, matchers: Vec::new(), le: Vec::new(), ignored: Vec::new() };
        for matcher in question.selector.matchers.clone() {
            question.add(matcher)?;
        }
        Ok(question)
    }

    /// Parses a selector and looks it up.
    ///
    /// # Errors
    /// Fails if it is no selector, or if there is no such metric or label.
    pub fn parse(text: &str, sources: &'a [Source]) -> Result<Self, InvalidSelector> {
        let selector = text.parse::<Selector>().map_err(|e| InvalidSelector(e.to_string()))?;
        Self::new(selector, sources)
    }

    fn add(&mut self, mut matcher: Matcher) -> Result<(), InvalidSelector> {
        check_expression(&matcher)?;
        if self.labels().contains(&matcher.label.as_str()) {
            self.matchers.push(matcher);
        } else if matcher.label == "le" && self.has_le() {
            if !matcher.is_regular() {
                let bound: Option<f64> = matcher.value.parse().ok();
                let bounds = self.bounds();
                let Some(found) = bounds.iter().find(|(_, b)| Some(*b) == bound) else {
                    let all: Vec<_> = bounds.into_iter().map(|(text, _)| text).collect();
                    let name = &self.metric.name;
                    return Err(InvalidSelector(format!(
                        "{matcher}: {name} has no such bucket; it has {}",
                        all.join(" ")
                    )));
                };
                matcher.value.clone_from(&found.0);
            }
            self.le.push(matcher);
        } else if is_added(&matcher.label) {
            self.ignored.push(matcher.label);
        } else {
            let mut labels = self.labels();
            labels.extend(self.has_le().then_some("le"));
            let labels = if labels.is_empty() { "none".to_owned() } else { labels.join(", ") };
            let name = &self.selector.name;
            return Err(InvalidSelector(format!(
                "{name} has no label \"{}\"; its labels: {labels} (ignored, as added in Prometheus: {})",
                matcher.label,
                ADDED.join(", ")
            )));
        }
        Ok(())
    }

    /// The conditions that are regular expressions.
    pub fn regular(&self) -> impl Iterator<Item = &Matcher> {
        self.matchers.iter().chain(&self.le).filter(|m| m.is_regular())
    }

    /// The labels of the metric, without `le`.
    pub fn labels(&self) -> Vec<&'a str> {
        self.source.labels_of(self.metric)
    }

    /// Whether `le` means something here.
    fn has_le(&self) -> bool {
        !self.metric.kind.bounds().is_empty() && matches!(self.part, Part::Whole | Part::Bucket)
    }

    /// Whether all of a histogram is asked for, and not some of its buckets.
    pub fn is_histogram(&self) -> bool {
        !self.metric.kind.bounds().is_empty() && self.part == Part::Whole && self.le.is_empty()
    }

    /// The upper bounds of a histogram with their spelling, the infinite one last.
    pub fn bounds(&self) -> Vec<(String, f64)> {
        let bounds = self.metric.kind.bounds();
        let infinite = (!bounds.is_empty()).then_some(&f64::INFINITY);
        bounds.iter().chain(infinite).map(|&bound| (le(bound), bound)).collect()
    }

    /// The value column that is summed or distributed.
    pub fn value(&self) -> Option<&'a Value> {
        self.source.value_of(self.metric)
    }

    /// The boolean column that restricts the metric.
    pub fn only(&self) -> Option<&'a str> {
        self.source.only_of(self.metric)
    }

    /// The column with the time since which an open row has been there, of a gauge of the oldest.
    pub fn since(&self) -> Option<&'a str> {
        self.metric.kind.since().map(|i| self.source.since[i].as_str())
    }

    /// The value that each label must have, when each is given with `=`: then there is at most one series.
    pub fn is_pinned(&self) -> bool {
        self.labels().iter().all(|label| self.pinned(label).is_some())
    }

    /// The value that a label must have.
    pub fn pinned(&self, label: &str) -> Option<&str> {
        let equal = |m: &&Matcher| m.label == label && m.operator == Operator::Equal;
        self.matchers.iter().find(equal).map(|m| m.value.as_str())
    }
}

/// Whether a regular expression has `escape` with its backslash not itself escaped.
fn has(expression: &str, escape: &str) -> bool {
    expression.replace(r"\\", "").contains(escape)
}

fn find<'a>(name: &str, sources: &'a [Source]) -> Result<(&'a Source, &'a Metric, Part), InvalidSelector> {
    if name == REJECTED {
        return Err(InvalidSelector(format!(
            "{name} is for the command rows, which lists the values that were rejected"
        )));
    }
    if name.starts_with("rsolv_exporter_") || name.starts_with("process_") {
        return Err(InvalidSelector(format!("{name} is about the exporter itself: no rows stand behind it")));
    }
    let metrics = || sources.iter().flat_map(|source| source.metrics.iter().map(move |metric| (source, metric)));
    for (source, metric) in metrics() {
        if metric.name == name {
            return Ok((source, metric, Part::Whole));
        }
        let suffixes = metric.kind.suffixes().iter();
        if let Some((_, part)) = suffixes.clone().find(|(suffix, _)| name.strip_suffix(suffix) == Some(&metric.name)) {
            return Ok((source, metric, *part));
        }
    }
    let all: Vec<_> = metrics().map(|(_, metric)| format!("\n  {}", metric.name)).collect();
    Err(InvalidSelector(format!("there is no metric {name}; there are{}", all.concat())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(text: &str) -> Result<(Part, usize, usize, usize), String> {
        let sources = Source::shipped().unwrap();
        let question = ResolvedSelector::parse(text, &sources).map_err(|e| e.to_string())?;
        Ok((question.part, question.matchers.len(), question.le.len(), question.ignored.len()))
    }

    #[test]
    fn every_shipped_sample_name_is_found() {
        assert_eq!(ask("rsolv_validation_executions_total"), Ok((Part::Whole, 0, 0, 0)));
        assert_eq!(ask("rsolv_validation_executions_open{status=\"running\"}"), Ok((Part::Whole, 1, 0, 0)));
        assert_eq!(ask("rsolv_validation_duration_milliseconds{le=\"+Inf\"}"), Ok((Part::Whole, 0, 1, 0)));
        assert_eq!(ask("rsolv_validation_duration_milliseconds_bucket{le!=\"3e5\"}"), Ok((Part::Bucket, 0, 1, 0)));
        assert_eq!(ask("rsolv_validation_duration_milliseconds_count"), Ok((Part::Count, 0, 0, 0)));
        let copied =
            "rsolv_validation_duration_milliseconds_sum{framework=\"none\",instance=\"a:1\",job=\"x\",repo=\"a\"}";
        assert_eq!(ask(copied), Ok((Part::Sum, 2, 0, 2)));
    }

    #[test]
    fn labels_that_were_added_are_ignored() {
        let added = "cluster=\"c\",environment=\"production\",exported_instance=\"a\",exported_job=\"x\",job=\"y\",monitor=\"m\",\
                     prometheus=\"p\",replica=\"0\"";
        assert_eq!(
            ask(&format!("rsolv_validation_executions_total{{{added},repo=\"a\"}}")),
            Ok((Part::Whole, 1, 0, 8))
        );
        assert!(ask("rsolv_validation_executions_total{exported_repo=\"a\"}").is_err());
        assert!(ask("rsolv_validation_executions_total{enviroment=\"a\"}").is_err());
    }

    #[test]
    fn what_does_not_exist_is_refused_with_what_does() {
        let all = [
            "rsolv_exporter_up",
            "rsolv_validation_executions",
            "rsolv_validation_executions_total_sum",
            "rsolv_validation_executions_total{repos=\"a\"}",
            "rsolv_validation_last_execution_timestamp_seconds{repo=\"a\"}",
            "rsolv_validation_duration_milliseconds_count{le=\"1000\"}",
            "rsolv_validation_duration_milliseconds_bucket{le=\"1001\"}",
            "rsolv_validation_executions_total{repo=~\"a\\\\b\"}",
            "rsolv_validation_executions_total{repo=~\"(?i:a)b\"}",
        ];
        let errors: String = all.iter().map(|text| format!("{}\n", ask(text).unwrap_err())).collect();
        insta::assert_snapshot!(errors);
        assert!(ask("rsolv_validation_executions_total{repo=~\"a\\\\\\\\b\"}").is_ok(), "an escaped backslash, then b");
    }
}
