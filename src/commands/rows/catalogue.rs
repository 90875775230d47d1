//! What can be asked for: every metric with its labels.

use std::fmt::Write;

use crate::query::resolved::REJECTED;
use crate::source::Source;

/// The metrics of the sources, as selectors, each with what it counts.
pub fn catalogue(sources: &[Source]) -> String {
    let mut text = String::new();
    for source in sources {
        let _ = writeln!(text, "{}", source.name);
        for metric in &source.metrics {
            let mut labels = source.labels_of(metric);
            labels.extend((!metric.kind.bounds().is_empty()).then_some("le"));
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(text, "  {}{labels}\n      {}", metric.name, metric.help);
        }
    }
    let _ = writeln!(
        text,
        "values that were rejected\n  {REJECTED}{{source,column}}\n      Values that are no number, or out of bounds.\n\n\
         Name one, with label values if you like:\n  rsolv-exporter rows 'NAME{{LABEL=\"VALUE\"}}' --since 24h"
    );
    text
}
