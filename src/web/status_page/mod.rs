//! The status page: one HTML document without anything from outside.

mod format;
mod plot;
mod problems;
mod source;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::snapshot::PollHistory;
use crate::snapshot::poll_history::SLOT;
use crate::snapshot::summary::Summary;
use crate::snapshot::{SnapshotStore, SourceSnapshot};
use crate::source::Source;
use format::{age, count, duration, since};
use problems::problems;

/// Where the documents are.
const DOCS: &str = "https://github.com/RSOLV-dev/rsolv-exporter/blob/main";
const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

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

/// Three rising bars, the highest one green.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Crect x='1' y='9' \
                    width='3' height='6' rx='1' fill='%237ea6ee'/%3E%3Crect x='6' y='5' width='3' height='10' rx='1' \
                    fill='%232f6fde'/%3E%3Crect x='11' y='1' width='3' height='14' rx='1' fill='%231a7f4b'/%3E%3C/svg%3E";

/// What the page is made of.
pub struct View<'a> {
    /// The newest data.
    pub published: &'a SnapshotStore,
    /// The definitions.
    pub sources: &'a [Source],
    /// Settings: key, value without secrets, origin.
    pub settings: &'a [(String, String, String)],
    /// Where the metrics are.
    pub telemetry_path: &'a str,
    /// Why the web configuration in force is not the one in the file.
    pub web_config: Option<Arc<String>>,
    /// The role that reads the database.
    pub user: &'a str,
    /// True if SQL, errors and settings are shown.
    pub details: bool,
}

/// How things are: a word and its colour.
struct Health {
    word: &'static str,
    class: &'static str,
}

impl View<'_> {
    /// The whole document.
    pub fn render(&self) -> String {
        let (newest, history) = (self.published.newest(), self.published.history());
        let pages = &newest.pages;
        let problems = problems(self, pages, &history);
        let Health { word, class } = match () {
            () if problems.iter().any(|problem| problem.is_failure) => Health { word: "failing", class: "bad" },
            () if pages.len() < self.sources.len() => Health { word: "starting", class: "warn" },
            () => Health { word: "OK", class: "good" },
        };
        let document = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="robots" content="noindex";
                    title { (word) " – rsolv-exporter" }
                    link rel="icon" href=(ICON);
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    header {
                        h1 { "rsolv-exporter " small { (env!("CARGO_PKG_VERSION")) } }
                        span.pill.(class) { (word) }
                        nav {
                            a href=(self.telemetry_path) { "Metrics" }
                            a href="/-/ready" { "Ready" }
                            a href="/-/healthy" { "Healthy" }
                            a href={ (DOCS) "/README.md" } { "Docs" }
                            a href={ (DOCS) "/alerts/README.md" } { "Runbooks" }
                        }
                    }
                    main {
                        @for problem in &problems { (problem.render(self.details)) }
                        (self.glance(pages, &history))
                        @let before = self.before();
                        @for source in self.sources {
                            @let page = pages.iter().find(|page| page.source.name == source.name);
                            (self.source(source, page, &history, &before))
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

    /// The totals of an hour and of a day ago, or those of the start alone if that is not yet an hour ago.
    fn before(&self) -> source::Before {
        let [hour, day] = [3_600, 86_400].map(|ago| self.published.before(Duration::from_secs(ago)));
        let is_young = hour.as_ref().is_some_and(|(ago, _)| ago.as_secs() < 3_600);
        [hour, day.filter(|_| !is_young)]
    }

    fn glance(&self, pages: &[Arc<SourceSnapshot>], history: &PollHistory) -> Markup {
        let sum = |of: fn(&Summary) -> u64| pages.iter().map(|page| of(page.summary())).sum();
        let oldest = pages.iter().map(|page| page.read_at.elapsed()).max();
        let series: usize = pages.iter().flat_map(|page| &page.summary().metrics).map(|metric| metric.series).sum();
        let longest = history.slots.iter().map(|slot| slot.longest).max();
        let or_none = |span: Option<Duration>| span.map_or_else(|| "–".to_owned(), duration);
        html! {
            section.card.glance aria-label="At a glance" {
                div.figure { b { @match oldest { Some(oldest) => (age(oldest)), None => "–" } } span { "age of the data" } }
                div.figure { b { (or_none(history.last.map(|(_, took)| took))) } span { "last poll" } }
                div.figure { b { (count(sum(|summary| summary.rows))) } span { "rows counted" } }
                div.figure { b { (count(series as u64)) } span { "series" } }
                div.polls {
                    p { span { "polls of the last hour" } span { "up to " (or_none(longest)) } }
                    (plot::timeline(&history.slots, self.published.age().as_secs() / SLOT.as_secs()))
                }
                p.about {
                    span { "up " (age(self.published.age())) }
                    @if let Some((version, standby)) = &history.server {
                        span { "PostgreSQL" @if self.details { " " (version.split(' ').next().unwrap_or_default()) } ", " @if *standby { "standby" } @else { "primary" } }
                    }
                    @match history.saved.0 {
                        Some(saved) => span { "state saved " (since(saved)) " ago" },
                        None => span { "no state saved" },
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
