//! The card of a source: how it is, its totals, and its metrics.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use maud::{Markup, html};

use super::format::{self, age, count, duration, since};
use super::{View, plot};
use crate::query::selector::{Matcher, Operator, Selector};
use crate::snapshot::SourceSnapshot;
use crate::snapshot::summary::{MetricSummary, Summary};
use crate::snapshot::{PollHistory, Totals};
use crate::source::Source;

/// The totals of an hour and of a day ago, and how long ago they really are.
pub type Before = [Option<(Duration, Totals)>; 2];

impl View<'_> {
    /// The card of a source.
    pub fn source(
        &self,
        source: &Source,
        page: Option<&Arc<SourceSnapshot>>,
        history: &PollHistory,
        before: &Before,
    ) -> Markup {
        let failing = history.failure.is_some() || history.sources.contains_key(&source.name);
        html! {
            section.card id={ "source-" (source.name) } aria-label=(source.name) {
                div.head {
                    h2 { (source.name) }
                    @match page {
                        Some(page) if failing || !page.is_fresh() => span.pill.bad { "failing" },
                        None if failing => span.pill.bad { "failing" },
                        Some(_) => span.pill.good { "OK" },
                        None => span.pill.warn { "not read yet" },
                    }
                    @if let Some(page) = page {
                        span.note { "read " (age(page.read_at.elapsed())) " ago" }
                    }
                }
                @if let Some(page) = page {
                    (summary(page.summary(), &source.name, before))
                    (metrics(&source.name, page.summary(), before))
                }
                @if self.details {
                    @let id = format!("sql-{}", source.name);
                    details.wide id={ "d-" (id) } {
                        summary { "SQL behind it" }
                        button type="button" data-copy=(id) { "Copy" }
                        pre id=(id) { (source.sql) ";\n" }
                        p.note { "The whole statement of a poll, with every measure: " code { "rsolv-exporter sql" } }
                    }
                }
            }
        }
    }
}

/// What a column of increases is about.
fn period(column: &Option<(Duration, Totals)>) -> String {
    match column {
        Some((ago, _)) if *ago >= Duration::from_secs(86_400) => "last day".to_owned(),
        Some((ago, _)) if *ago >= Duration::from_secs(3_600) && *ago < Duration::from_secs(7_200) => {
            "last hour".to_owned()
        }
        Some((ago, _)) => format!("last {}", duration(Duration::from_secs(ago.as_secs()))),
        None => String::new(),
    }
}

/// How much a total, number `i` of its source, has grown.
fn increase(column: Option<&(Duration, Totals)>, source: &str, i: usize, total: Option<f64>) -> Option<f64> {
    let before = column?.1.get(source)?.get(i)?;
    Some((total? - before).max(0.0))
}

/// The selector of one series.
fn selector(name: &str, labels: &[(String, String)]) -> String {
    let matchers = labels.iter().map(|(label, value)| Matcher {
        label: label.clone(),
        operator: Operator::Equal,
        value: value.clone(),
    });
    Selector { name: name.to_owned(), matchers: matchers.collect() }.to_string()
}

/// The command that lists the rows behind a selector, for a shell.
fn command(selector: &str) -> String {
    format!("rsolv-exporter rows '{}'", selector.replace('\'', "'\\''"))
}

fn summary(summary: &Summary, source: &str, before: &Before) -> Markup {
    let rejected: u64 = summary.rejected.iter().map(|(_, count)| count).sum();
    html! {
        dl.facts {
            div { dt { "rows counted" } dd { (count(summary.rows)) } }
            @for column in before {
                @if let Some(new) = increase(column.as_ref(), source, 0, Some(summary.rows as f64)) {
                    div { dt { (period(column)) } dd { "+" (format::number(new)) } }
                }
            }
            div { dt { "open rows" } dd { (count(summary.open)) } }
            div { dt { "gaps" } dd { (count(summary.gaps)) } }
            div.warn[rejected > 0] { dt { "rejected values" } dd { (count(rejected)) } }
            div { dt { "label sets" } dd { (count(summary.sets)) } }
            @if summary.overflowed > 0 {
                div.warn { dt { "rows in __overflow__" } dd { (count(summary.overflowed)) } }
            }
        }
        @if rejected > 0 {
            p.trouble.warn {
                b { "Values were left out" } " as they are no number or out of bounds: "
                @for (i, (column, rejected)) in summary.rejected.iter().filter(|(_, count)| *count > 0).enumerate() {
                    @if i > 0 { ", " }
                    code { (column) } " " (count(*rejected))
                }
                ". Their rows are counted."
            }
        }
    }
}

fn metrics(source: &str, summary: &Summary, before: &Before) -> Markup {
    let with_plot = summary.metrics.iter().filter_map(|metric| Some((metric, metric.histogram.as_ref()?)));
    let with_parts = summary.metrics.iter().filter(|metric| metric.parts.len() > 1);
    html! {
        div.plots {
            @for metric in with_parts {
                figure {
                    h3 { (metric.name) }
                    figcaption { span { b { (format::number(metric.total.unwrap_or_default())) } " in all" } }
                    (plot::parts(&metric.parts))
                }
            }
            @for (metric, histogram) in with_plot {
                @let unit = metric.unit.as_deref();
                figure {
                    h3 { (metric.name) }
                    figcaption {
                        span { b { (count(histogram.count())) } " values" }
                        @for (name, part) in [("p50", 0.5), ("p95", 0.95)] {
                            span { (name) " " b { (plot::quantile(histogram, part, unit)) } }
                        }
                        @if histogram.count() > 0 {
                            span { "mean " b { (mean(histogram.sum / histogram.count() as f64, unit)) } }
                        }
                    }
                    (plot::histogram(histogram, unit))
                }
            }
        }
        div.row.titles {
            span.what {}
            @for column in before { span.new { (period(column)) } }
            span.total { "all time" }
        }
        @for (i, metric) in summary.metrics.iter().enumerate() {
            @let new = before.each_ref().map(|column| increase(column.as_ref(), source, i + 1, metric.total));
            div.metric {
                @if metric.top.is_empty() {
                    div.row { (row(metric, &new)) }
                } @else {
                    details id=(format!("m-{source}-{i}")) {
                        summary.row { (row(metric, &new)) }
                        (series(metric))
                    }
                }
            }
        }
    }
}

fn mean(value: f64, unit: Option<&str>) -> String {
    if unit.is_some() { format::value(value, unit) } else { format::number((value * 10.0).round() / 10.0) }
}

fn row(metric: &MetricSummary, new: &[Option<f64>; 2]) -> Markup {
    let is_time = metric.kind == "gauge" && metric.name.ends_with("_timestamp_seconds");
    let total = match metric.total {
        None => "–".to_owned(),
        Some(time) if is_time => return at_a_time(metric, time),
        Some(total) => format::number(total),
    };
    html! {
        (what(metric))
        @for new in new {
            span.new { @match new { Some(new) if metric.kind != "gauge" => { "+" (format::number(*new)) }, _ => "" } }
        }
        span.total { (total) }
    }
}

/// The row of a metric that is a time.
fn at_a_time(metric: &MetricSummary, time: f64) -> Markup {
    let then = Duration::try_from_secs_f64(time).ok().and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
    html! {
        (what(metric))
        span.total { @match then { Some(then) => { (since(then)) " ago" }, None => "–" } }
    }
}

fn what(metric: &MetricSummary) -> Markup {
    html! {
        span.what {
            code { (metric.name) }
            span.help {
                (metric.help) " "
                span.kind {
                    (metric.kind)
                    @if metric.series > 0 { ", " (count(metric.series as u64)) " series" }
                }
            }
        }
    }
}

fn series(metric: &MetricSummary) -> Markup {
    html! {
        div.scroll {
            table.series {
                @if let Some((labels, _)) = metric.top.first() {
                    thead { tr { @for (label, _) in labels { th { (label) } } th.n { "total" } th.copy {} } }
                }
                tbody {
                    @for (labels, total) in &metric.top {
                        tr {
                            @for (_, value) in labels { td { (value) } }
                            td.n { (format::number(*total)) }
                            td.copy {
                                @let selector = selector(&metric.name, labels);
                                button type="button" data-text=(selector) title="Copy the selector" { "selector" }
                                button type="button" data-text=(command(&selector))
                                    title="Copy the command that lists its rows" { "rows" }
                            }
                        }
                    }
                }
            }
        }
        @if metric.series > metric.top.len() {
            p.note { "… and " (count((metric.series - metric.top.len()) as u64)) " more with smaller totals." }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_survives_the_shell_and_a_selector_is_read_back() {
        let labels = [("repo".to_owned(), "o'dd\\ \"na\nme".to_owned())];
        let selector = selector("x_total", &labels);
        assert_eq!(selector.parse::<Selector>().unwrap().matchers[0].value, labels[0].1);
        let command = command(&selector);
        let echo = command.replacen("rsolv-exporter rows", "printf %s", 1);
        let output = std::process::Command::new("sh").args(["-c", &echo]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), selector);
    }
}
