//! The status page: one HTML document without anything from outside.

mod format;
mod plot;

use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::published::{Page, Published};
use crate::source::Source;
use crate::status::{History, MetricSummary, SLOT, Summary};
use format::{count, duration};

const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/script.js");

/// The header `Content-Security-Policy`: this style sheet and this script, and nothing else.
pub static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| openssl::base64::encode_block(&openssl::sha::sha256(text.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
});

/// A green circle.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Crect x='1' y='9' \
                    width='3' height='6' rx='1' fill='%237ea6ee'/%3E%3Crect x='6' y='5' width='3' height='10' rx='1' \
                    fill='%232f6fde'/%3E%3Crect x='11' y='1' width='3' height='14' rx='1' fill='%231a7f4b'/%3E%3C/svg%3E";

/// What the page is made of.
pub struct View<'a> {
    /// The newest data.
    pub published: &'a Published,
    /// The definitions.
    pub sources: &'a [Source],
    /// Settings: key, value without secrets, origin.
    pub settings: &'a [(String, String, String)],
    /// Where the metrics are.
    pub telemetry_path: &'a str,
    /// Why the web configuration in force is not the one in the file.
    pub web_config: Option<Arc<String>>,
    /// Whether SQL, errors and settings are shown.
    pub details: bool,
}

/// How good things are: a word and its colour.
struct State {
    word: &'static str,
    class: &'static str,
}

impl View<'_> {
    /// The whole document.
    pub fn render(&self) -> String {
        let (newest, history) = (self.published.newest(), self.published.history());
        let pages = &newest.pages;
        let state = self.state(pages, &history);
        let document = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="robots" content="noindex";
                    title { "rsolv-exporter: " (state.word) }
                    link rel="icon" href=(ICON);
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    header {
                        h1 { "rsolv-exporter " small { (env!("CARGO_PKG_VERSION")) } }
                        span.pill.(state.class) { (state.word) }
                        nav {
                            a href=(self.telemetry_path) { "Metrics" }
                            a href="/-/ready" { "Ready" }
                            a href="/-/healthy" { "Healthy" }
                        }
                    }
                    main {
                        (self.glance(pages, &history))
                        @if let Some(failure) = &history.failure {
                            (self.trouble("The database cannot be read", failure.reason.as_str(), &failure.message))
                        }
                        @if let Some(problem) = &self.web_config {
                            (self.trouble("The web configuration has changed and is not in force", "web.config_file", problem))
                        }
                        @for source in self.sources {
                            @let page = pages.iter().find(|page| page.source.name == source.name);
                            (self.source(source, page, &history))
                        }
                        (self.settings())
                    }
                    footer {
                        @if !self.details {
                            p {
                                "SQL, the words of errors and settings are shown to clients that log in "
                                "(web.config_file), or to everyone with web.show_details."
                            }
                        }
                        p { "Numbers are as of the last poll. Series that are new are shown as 0 until a scrape has seen them." }
                    }
                    script { (PreEscaped(SCRIPT)) }
                }
            }
        };
        document.into_string()
    }

    fn state(&self, pages: &[Arc<Page>], history: &History) -> State {
        let fresh = pages.iter().filter(|page| page.is_fresh()).count();
        let failing = history.failure.is_some() || !history.sources.is_empty();
        let (word, class) = match (fresh, failing) {
            (0, false) if pages.is_empty() => ("starting", "warn"),
            (0, _) => ("no data", "bad"),
            (n, _) if n < self.sources.len() => ("part of the data is missing", "bad"),
            (_, true) => ("polls fail", "warn"),
            _ => ("healthy", "good"),
        };
        State { word, class }
    }

    fn glance(&self, pages: &[Arc<Page>], history: &History) -> Markup {
        let sum = |of: fn(&Summary) -> u64| pages.iter().map(|page| of(page.summary())).sum();
        let oldest = pages.iter().map(|page| page.read_at.elapsed()).max();
        let series: usize = pages.iter().flat_map(|page| &page.summary().metrics).map(|metric| metric.series).sum();
        let longest = history.slots.iter().map(|slot| slot.longest).max();
        let or_none = |span: Option<Duration>| span.map_or_else(|| "–".to_owned(), duration);
        html! {
            section.card.glance aria-label="At a glance" {
                div.figure { b { (or_none(oldest)) } span { "age of the data" } }
                div.figure { b { (or_none(history.last.map(|(_, took)| took))) } span { "last poll" } }
                div.figure { b { (count(sum(|summary| summary.rows))) } span { "rows counted" } }
                div.figure { b { (count(series as u64)) } span { "series" } }
                div.polls {
                    p { span { "polls of the last hour" } span { "up to " (or_none(longest)) } }
                    (plot::timeline(&history.slots, self.published.age().as_secs() / SLOT.as_secs()))
                }
            }
        }
    }

    fn trouble(&self, what: &str, reason: &str, words: &str) -> Markup {
        html! {
            p.trouble role="alert" {
                b { (what) } " (" (reason) ")"
                @if self.details { ": " (words) } @else { "." }
            }
        }
    }

    fn source(&self, source: &Source, page: Option<&Arc<Page>>, history: &History) -> Markup {
        let failure = history.sources.get(&source.name);
        html! {
            section.card aria-label=(source.name) {
                div.head {
                    h2 { (source.name) }
                    @match page {
                        Some(page) if !page.is_fresh() => span.pill.bad { "stale" },
                        Some(_) if failure.is_some() => span.pill.warn { "fails" },
                        Some(_) if history.failure.is_some() => span.pill.warn { "not read now" },
                        Some(_) => span.pill.good { "read" },
                        None => span.pill.warn { "not read yet" },
                    }
                    @if let Some(page) = page {
                        span.note { "read " (duration(page.read_at.elapsed())) " ago" }
                    }
                }
                @if let Some(failure) = failure {
                    (self.trouble("It cannot be read", failure.reason.as_str(), &failure.message))
                }
                @if let Some(page) = page {
                    (summary(page.summary()))
                    (metrics(&source.name, page.summary()))
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

    fn settings(&self) -> Markup {
        html! {
            @if self.details {
                details.card id="settings" {
                    summary { "Settings" }
                    div.scroll {
                        table.series.settings {
                            thead { tr { th { "key" } th { "value" } th { "set by" } } }
                            tbody {
                                @for (key, value, origin) in self.settings {
                                    tr {
                                        td { code { (key) } }
                                        td { code { (value) } }
                                        td.origin { @if origin.is_empty() { "default" } @else { (origin) } }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn summary(summary: &Summary) -> Markup {
    let rejected: u64 = summary.rejected.iter().map(|(_, count)| count).sum();
    html! {
        dl.facts {
            div { dt { "rows counted" } dd { (count(summary.rows)) } }
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

fn metrics(source: &str, summary: &Summary) -> Markup {
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
        @for (i, metric) in summary.metrics.iter().enumerate() {
            div.metric {
                @if metric.top.is_empty() {
                    div.row { (row(metric)) }
                } @else {
                    details id=(format!("m-{source}-{i}")) {
                        summary.row { (row(metric)) }
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

fn row(metric: &MetricSummary) -> Markup {
    let is_time = metric.kind == "gauge" && metric.name.ends_with("_timestamp_seconds");
    let total = match metric.total {
        None => "–".to_owned(),
        Some(time) if is_time => ago(time),
        Some(total) => format::number(total),
    };
    html! {
        span.what {
            code { (metric.name) }
            span.help { (metric.help) }
        }
        span.kind {
            (metric.kind)
            @if metric.series > 0 { ", " (count(metric.series as u64)) " series" }
        }
        span.total { (total) }
    }
}

fn series(metric: &MetricSummary) -> Markup {
    html! {
        div.scroll {
            table.series {
                @if let Some((labels, _)) = metric.top.first() {
                    thead { tr { @for (label, _) in labels { th { (label) } } th.n { "total" } } }
                }
                tbody {
                    @for (labels, total) in &metric.top {
                        tr { @for (_, value) in labels { td { (value) } } td.n { (format::number(*total)) } }
                    }
                }
            }
        }
        @if metric.series > metric.top.len() {
            p.note { "… and " (count((metric.series - metric.top.len()) as u64)) " more with smaller totals." }
        }
    }
}

fn ago(time: f64) -> String {
    let then = Duration::try_from_secs_f64(time).ok().and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
    match then.and_then(|then| then.elapsed().ok()) {
        Some(elapsed) => format!("{} ago", duration(elapsed)),
        None => "now".to_owned(),
    }
}
